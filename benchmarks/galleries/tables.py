"""The Markdown table of a run: every contender and point at one size and number of threads."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.galleries.comparing import OURS, paired_ratio
from benchmarks.galleries.contenders import CONTENDERS
from benchmarks.galleries.summary import FLOOR, Comparison

POINTS = {"exact": "EXACT", "fast": "FAST", "read": "", "argsort": "", "bfloat16": ""}


def markdown(comparisons: Sequence[Comparison], skipped: Sequence[str], about: str) -> str:
    """All tables, a line about the machine, and what was left out and why."""
    lines: list[str] = []
    for items, threads in sorted({(one.items, one.threads) for one in comparisons}):
        here = [one for one in comparisons if (one.items, one.threads) == (items, threads)]
        lines += [*_table(items, threads, here), ""]
    lines += [about, ""]
    lines += [f"- not measured: {reason}" for reason in skipped]
    return "\n".join(lines).rstrip() + "\n"


def _table(items: int, threads: int, here: Sequence[Comparison]) -> Iterator[str]:
    batches = list(dict.fromkeys(batch for one in here for batch in one.batches(OURS, "exact")))
    yield f"**{items:,} items, {threads} thread{'s' if threads > 1 else ''}**"
    yield ""
    heads = [f"ms, {batch} at once" if batch != "1" else "ms" for batch in batches]
    heads.append("CPU ms")
    yield (
        "| "
        + " | ".join(["", *heads, "time over EXACT's", "recall@10", "fewest parts", "recall@100", "B an item"])
        + " |"
    )
    yield "| --- |" + " ---: |" * (len(batches) + 6)
    own = next((one for one in here if one.peer == FLOOR), here[0])
    for point in ("exact", "fast"):
        yield _line(own, OURS, point, batches)
    for one in here:
        if one.peer != OURS:
            for point in one.figures[one.peer]["points"]:
                yield _line(one, one.peer, point, batches)


def _line(one: Comparison, name: str, point: str, batches: Sequence[str]) -> str:
    quality = one.quality(name, point) or {}
    told = POINTS.get(point, point)
    cells = [CONTENDERS[name].label + (f", {told}" if told else "")]
    timed = one.batches(name, point)
    cells += [f"{one.median_ms(name, point, batch):.2f}" if batch in timed else "" for batch in batches]
    cells.append(f"{1e3 * statistics.median(one.cpu(name, point)):.2f}")
    ratio = paired_ratio(one.seconds(name, point), one.seconds(OURS, "exact"))
    cells.append(f"{ratio:.2f}")
    if quality:
        fewest = next(iter(quality["recall10_by_parts"].values()))
        cells += [f"{quality['recall10']:.3f}", f"{fewest:.3f}", f"{quality['recall100']:.3f}"]
    else:
        cells += ["", "", ""]
    bytes_an_item = one.figures[name]["facts"].get("bytes_an_item")
    cells.append("" if bytes_an_item is None else f"{bytes_an_item:,.0f}")
    return "| " + " | ".join(cells) + " |"
