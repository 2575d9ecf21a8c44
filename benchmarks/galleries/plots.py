"""The two plots of a run: what recall costs, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.galleries.comparing import OURS
from benchmarks.galleries.contenders import CONTENDERS
from benchmarks.galleries.summary import FLOOR, Comparison

COLOURS = {
    OURS: "#0b6e4f",
    "codes": "#999999",
    "field": "#8c564b",
    "torch": "#d62728",
    "flat": "#1f77b4",
    "ivf": "#17becf",
    "pq": "#9467bd",
    "hnsw": "#ff7f0e",
    "qdrant": "#e377c2",
    "milvus": "#bcbd22",
}


def plot_recall_latency(comparisons: Sequence[Comparison], path: Path) -> None:
    """Recall at 10 against milliseconds of one query, a panel a size; the fewest threads that were measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    told = _with_quality(comparisons)
    sizes = sorted({one.items for one in told})
    figure, axes = plt.subplots(1, max(1, len(sizes)), figsize=(1 + 4.6 * len(sizes), 4.2), squeeze=False, sharey=True)
    for axis, items in zip(axes[0], sizes, strict=True):
        here = [one for one in told if one.items == items]
        for name, one in _contenders(here).items():
            points = one.figures[name]["points"]
            at = [(one.median_ms(name, point), points[point]["quality"]["recall10"], point) for point in points]
            x, y = [place[0] for place in at], [place[1] for place in at]
            ours = name == OURS
            axis.plot(
                x, y, "*-" if ours else "o-", color=COLOURS[name], ms=13 if ours else 6, label=CONTENDERS[name].label
            )
            for milliseconds, share, point in at if ours else ():
                axis.annotate(point.upper(), (milliseconds, share), (0, -14), textcoords="offset points", ha="center")
        for one in here:
            if one.peer == FLOOR:
                axis.axvline(one.median_ms(FLOOR, "read"), color=COLOURS[FLOOR], ls=":", label=CONTENDERS[FLOOR].label)
        axis.set(xscale="log", xlabel="ms a query", title=f"{items:,} items, {here[0].threads} thread(s)")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("recall@10 against the exact ranking")
    handles = {label: one for axis in axes[0] for one, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    _save(figure, path)


def plot_recall_by_parts(comparisons: Sequence[Comparison], path: Path) -> None:
    """Left: recall at 100 by the query's visible parts, largest gallery. Right: milliseconds by size of the gallery."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    told = _with_quality(comparisons)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.2, 4.2))
    largest = max(one.items for one in told)
    for name, one in _contenders([one for one in told if one.items == largest]).items():
        best = _best_point(one, name)
        shares = one.figures[name]["points"][best]["quality"]["recall100_by_parts"]
        style = "*-" if name == OURS else "o-"
        point = "FAST" if name == OURS else best
        left.plot(
            [int(count) for count in shares],
            list(shares.values()),
            style,
            color=COLOURS[name],
            label=f"{CONTENDERS[name].label}, {point}",
        )
    left.set(xlabel="visible parts of the query", ylabel="recall@100", title=f"{largest:,} items")
    left.legend(fontsize=7)
    fewest = min(one.threads for one in comparisons)
    scaling: dict[str, dict[int, float]] = {}
    for one in comparisons:
        if one.threads == fewest:
            for name, point in _scaled(one):
                label = f"{CONTENDERS[name].label} {point.upper()}" if name == OURS else CONTENDERS[name].label
                scaling.setdefault(label, {})[one.items] = one.median_ms(name, point)
    for label, times in scaling.items():
        name = next(key for key, spec in CONTENDERS.items() if label.startswith(spec.label))
        style = ("--" if label.endswith("FAST") else "-") + ("*" if name == OURS else "o")
        sizes = sorted(times)
        right.plot(sizes, [times[items] for items in sizes], style, color=COLOURS[name], label=label)
    right.set(xscale="log", yscale="log", xlabel="items", ylabel="ms a query", title=f"{fewest} thread(s)")
    right.legend(fontsize=7)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    _save(figure, path)


def _scaled(one: Comparison) -> list[tuple[str, str]]:
    if one.peer == FLOOR:
        return [(OURS, "exact"), (OURS, "fast"), (FLOOR, "read")]
    return [(one.peer, point) for point in one.figures[one.peer]["points"]] if one.peer in ("field", "torch") else []


def _best_point(one: Comparison, name: str) -> str:
    """FAST of ours; of others the point that finds most."""
    points = one.figures[name]["points"]
    return "fast" if name == OURS else max(points, key=lambda point: points[point]["quality"]["recall100"])


def _with_quality(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Of those with recall, the fewest threads of each size."""
    told = [one for one in comparisons if one.quality(OURS, "exact") is not None]
    if not told:
        raise ValueError("nothing to plot: no comparison has recall")
    fewest = {one.items: min(other.threads for other in told if other.items == one.items) for one in told}
    return [one for one in told if one.threads == fewest[one.items]]


def _contenders(here: Sequence[Comparison]) -> dict[str, Comparison]:
    """Who ranks, and where to read it; ours from its comparison with the floor."""
    found = {OURS: next((one for one in here if one.peer == FLOOR), here[0])}
    found |= {one.peer: one for one in here if CONTENDERS[one.peer].ranks}
    return found


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
