"""From the results of pieces to the rows of a report, with the goals of part-aware search."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.galleries.comparing import OURS, paired_ratio
from benchmarks.galleries.contenders import CONTENDERS
from benchmarks.report import Row

FLOOR = "codes"
MILLION = 1_000_000
FIELD_GOALS = {"1": 8, "16": 10, "64": 12}
TORCH_GOALS = {"1": 3, "16": 1.8, "64": 1.8}
MEMORY_GOALS = {"exact": "<= 2600", "fast_only": "<= 800"}
"""Bytes of memory an item of 8 parts of 256 dimensions, by what the gallery can do."""
EQUAL = 0.005
"""So much less recall at 10 still counts as equal."""
FAR = 0.05
"""A peer whose best is so much below ours has no point of equal recall to be ahead at."""


@dataclass(frozen=True)
class Comparison:
    """One result of `comparing.compare` and where it was taken."""

    items: int
    threads: int
    peer: str
    figures: dict[str, Any]

    def seconds(self, name: str, point: str, batch: str = "1") -> list[float]:
        """Of every round, for a whole batch."""
        seconds: list[float] = self.figures[name]["points"][point]["seconds"][batch]
        return seconds

    def cpu(self, name: str, point: str, batch: str = "1") -> list[float]:
        """CPU seconds of the contender's process, of every round."""
        seconds: list[float] = self.figures[name]["points"][point]["cpu"][batch]
        return seconds

    def median_ms(self, name: str, point: str, batch: str = "1") -> float:
        return 1e3 * statistics.median(self.seconds(name, point, batch))

    def quality(self, name: str, point: str) -> dict[str, Any] | None:
        """As `comparing.quality` told it; None where it was not asked for."""
        told: dict[str, Any] | None = self.figures[name]["points"][point].get("quality")
        return told

    def batches(self, name: str, point: str) -> list[str]:
        return list(self.figures[name]["points"][point]["seconds"])

    @property
    def place(self) -> str:
        """For names of rows: ``100k_1t``."""
        return f"{size_name(self.items)}_{self.threads}t"


def size_name(items: int) -> str:
    """``20k``, ``1m``, or the number itself."""
    if items % MILLION == 0:
        return f"{items // MILLION}m"
    return f"{items // 1000}k" if items % 1000 == 0 else str(items)


def comparison_rows(one: Comparison) -> Iterator[Row]:
    """The rows of one comparison."""
    if one.peer == FLOOR:
        yield from _own_rows(one)
    elif one.peer in ("field", "torch"):
        goals = FIELD_GOALS if one.peer == "field" else TORCH_GOALS
        (point,) = one.figures[one.peer]["points"]
        for batch in one.batches(one.peer, point):
            ratio = paired_ratio(one.seconds(one.peer, point, batch), one.seconds(OURS, "exact", batch))
            peer = f"{CONTENDERS[one.peer].label}, {one.median_ms(one.peer, point, batch):.1f} ms"
            yield Row(f"exact_b{batch}_over_{one.peer}_{one.place}", ratio, "x faster", f">= {goals[batch]}", peer)
            if one.threads == 1:
                ratio = paired_ratio(one.cpu(one.peer, point, batch), one.cpu(OURS, "exact", batch))
                yield Row(f"exact_b{batch}_cpu_over_{one.peer}_{one.place}", ratio, "x less CPU", None, peer)
    else:
        yield from _peer_rows(one)


def _own_rows(one: Comparison) -> Iterator[Row]:
    exact, fast = one.seconds(OURS, "exact"), one.seconds(OURS, "fast")
    reading = one.seconds(FLOOR, "read")
    floor = (
        f"reading {one.figures[FLOOR]['facts']['bytes_an_item']:.0f} B an item, {one.median_ms(FLOOR, 'read'):.1f} ms"
    )
    yield Row(f"exact_b1_over_reading_{one.place}", paired_ratio(exact, reading), "ratio", "<= 1.3", floor)
    if one.threads == 1:
        ratio = paired_ratio(one.cpu(OURS, "exact"), one.cpu(FLOOR, "read"))
        yield Row(f"exact_b1_cpu_over_reading_{one.place}", ratio, "ratio", None, "CPU time, which others disturb less")
    exact_ms = f"EXACT, {one.median_ms(OURS, 'exact'):.1f} ms"
    goal = "<= 0.4" if one.items == MILLION else None
    yield Row(f"fast_b1_over_exact_{one.place}", paired_ratio(fast, exact), "ratio", goal, exact_ms)
    for mode in ("exact", "fast"):
        for batch in one.batches(OURS, mode):
            yield Row(f"{mode}_b{batch}_{one.place}", one.median_ms(OURS, mode, batch), "ms")
    facts = one.figures[OURS]["facts"]
    yield Row(f"bytes_an_item_{one.place}", facts["bytes_an_item"], "B", None, "with both kinds of codes")
    yield Row(f"open_seconds_{one.place}", facts["open_seconds"], "s")
    if (quality := one.quality(OURS, "exact")) is not None:
        queries = "oracle, first 100"
        yield Row(
            f"exact_rankings_unlike_the_oracle_{one.place}", quality["unlike_the_oracle"], "queries", "<= 0", queries
        )
    if (quality := one.quality(OURS, "fast")) is not None:
        for depth, limit in ((10, "0.99"), (100, "0.95")):
            for count, share in quality[f"recall{depth}_by_parts"].items():
                goal = f">= {limit}" if one.items == MILLION else None
                yield Row(f"fast_recall{depth}_{count}_parts_{one.place}", share, "share", goal, "oracle")


def _peer_rows(one: Comparison) -> Iterator[Row]:
    """At the peer's best recall: its time over the faster of ours that finds as many. No goal where ours finds more at
    any price of the peer's."""
    points = one.figures[one.peer]["points"]
    if any(one.quality(one.peer, point) is None for point in points):
        return
    best = max(points, key=lambda point: one.figures[one.peer]["points"][point]["quality"]["recall10"])
    found = points[best]["quality"]["recall10"]
    enough = [p for p in one.figures[OURS]["points"] if _recall(one, p) >= found - EQUAL]
    if not enough:
        return
    mine = min(enough, key=lambda point: one.median_ms(OURS, point))
    label = f"{CONTENDERS[one.peer].label}, {best}: {one.median_ms(one.peer, best):.1f} ms, recall@10 {found:.3f}"
    ours = f"; ours {mine} {one.median_ms(OURS, mine):.1f} ms, {_recall(one, mine):.3f}"
    ratio = paired_ratio(one.seconds(one.peer, best), one.seconds(OURS, mine))
    if found < _recall(one, mine) - FAR:
        yield Row(f"time_beside_{one.peer}_{one.place}", ratio, "x faster", None, f"{label}, its best{ours}")
    else:
        yield Row(f"ahead_of_{one.peer}_{one.place}", ratio, "x faster", ">= 1", label + ours)


def _recall(one: Comparison, point: str) -> float:
    quality = one.quality(OURS, point)
    return -1.0 if quality is None else float(quality["recall10"])


def growth_rows(comparisons: list[Comparison]) -> Iterator[Row]:
    """Ten times the items: how much dearer, and what ten million would take by the same slope."""
    own = {(one.items, one.threads): one for one in comparisons if one.peer == FLOOR}
    for (items, threads), small in own.items():
        large = own.get((10 * items, threads))
        if large is None:
            continue
        for mode in ("exact", "fast"):
            before, after = small.median_ms(OURS, mode), large.median_ms(OURS, mode)
            peer = f"{before:.1f} ms at {items:,}; two runs"
            yield Row(f"{mode}_growth_of_tenfold_{large.place}", after / before, "ratio", "<= 10", peer)
            slope = (after - before) / (9 * items)
            paper = after + slope * (10 * MILLION - 10 * items)
            yield Row(f"{mode}_ten_million_on_paper_{threads}t", paper, "ms", None, "by the slope of the two sizes")


def living_rows(items: int, kind: str, result: dict[str, Any]) -> Iterator[Row]:
    """The rows of ``filtered``, ``growing``, ``rebuilt`` and ``sized`` of `benchmarks.galleries.living`."""
    place = size_name(items)
    if kind == "filter":
        ratio = paired_ratio(result["seconds"]["all"], result["seconds"]["one camera"])
        filtered = 1e3 * statistics.median(result["seconds"]["one camera"])
        yield Row(f"filter_1pct_cheaper_{place}", ratio, "x faster", ">= 5", f"EXACT; filtered {filtered:.2f} ms")
        wrong = result["unlike_the_oracle"]
        yield Row(f"filter_1pct_unlike_the_oracle_{place}", wrong, "queries", "<= 0", "oracle, first 100")
    elif kind == "adds":
        for name, into, modes in (
            ("stored", "committed to the store too", result["store"]),
            ("indexed", "into the index alone, at most 20,500", result["index"]),
        ):
            for mode, told in modes.items():
                rate = told["items"] / told["seconds"]
                yield Row(f"{name}_while_{mode}_searches_{place}", rate, "items/s", ">= 20000", into)
                idle, busy = _p99(told["idle"]), _p99(told["busy"])
                peer = f"idle {1e3 * idle:.1f} ms, adding {1e3 * busy:.1f} ms, {len(told['busy'])} searches"
                yield Row(f"{mode}_p99_over_idle_while_{name}_{place}", busy / idle, "ratio", "<= 2", peer)
    elif kind == "build":
        built, opened = result["rebuilt"], result["opened"]
        yield Row(f"build_cpu_{place}", built["cpu_us_an_item"], "us an item", "<= 30", "reading the store too")
        limit = "<= 120" if items == MILLION else None
        yield Row(f"build_seconds_{place}", built["ready_seconds"], "s", limit, "from the store alone")
        yield Row(f"open_ready_seconds_{place}", opened["ready_seconds"], "s", None, "from segments, by memory map")
    elif kind == "memory":
        for name, bytes_ in result.items():
            yield Row(f"bytes_an_item_{name}_{place}", bytes_, "B", MEMORY_GOALS.get(name))


def served_rows(items: int, threads: int, result: dict[str, Any]) -> Iterator[Row]:
    """The rows of `benchmarks.galleries.served`."""
    place = f"{size_name(items)}_{threads}t"
    for mode, told in result.items():
        yield Row(f"served_{mode}_one_caller_{place}", 1e3 * statistics.median(told["one_caller"]), "ms", None, "gRPC")
        for callers, rates in told["rates"].items():
            rate = statistics.median(rates)
            batch = f"gRPC; {1e3 * int(callers) / rate:.1f} ms for {callers}"
            yield Row(f"served_{mode}_{callers}_callers_{place}", rate, "searches/s", None, batch)
        yield Row(f"served_{mode}_recall100_{place}", told["recall100"], "share", None, "oracle")


def _p99(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
