"""The plots of a report, drawn with matplotlib (extra ``bench``), which is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.evaluation.open_set import OpenSet
from trainer.evaluation.robustness import Robustness

STYLES = {"weighted": ("#2f62d6", "-", "o"), "unweighted": ("#d43f36", "--", "s")}
LABELS = {"weighted": "by visibility", "unweighted": "all visible"}


def plot_robustness(robustness: Robustness, path: Path, title: str) -> None:
    """Rank-1 and mAP over the covered share, both axes linear, weighted against unweighted."""
    figure, axes = _figure(2)
    covered = [100 * point.ratio for point in robustness.points]
    for axis, name in zip(axes, ("Rank-1", "mAP"), strict=True):
        for row, (colour, line, marker) in STYLES.items():
            found = [point.rows[row] for point in robustness.points]
            shares = [100 * (one.rank1 if name == "Rank-1" else one.mAP) for one in found]
            axis.plot(covered, shares, line, color=colour, marker=marker, label=LABELS[row])
        axis.set_xlabel("covered share of one side of the query, % (linear)")
        axis.set_ylabel(f"{name}, % (linear)")
        axis.set_ylim(0, 100)
    _save(figure, axes, path, title)


def plot_open_set(open_set: Mapping[str, OpenSet], path: Path, title: str) -> None:
    """FNIR over people enrolled, at each FPIR, held out; and rates by evidence of the weighted figures, where there
    are any."""
    evidence = open_set["weighted"].evidence
    figure, axes = _figure(2 if evidence else 1)
    for name, figures in open_set.items():
        colour, line, marker = STYLES[name]
        rates = sorted({row.fpir for row in figures.rows})
        for place, fpir in enumerate(rates):
            rows = [row for row in figures.rows if row.fpir == fpir and row.fnir is not None]
            enrolled, missed = [row.people for row in rows], [100 * (row.fnir or 0.0) for row in rows]
            label = f"{LABELS[name]}, FPIR {fpir:.0%}"
            axes[0].plot(
                enrolled, missed, line, color=colour, marker=marker, label=label, alpha=1 - 0.55 * place / len(rates)
            )
    axes[0].set_xscale("log")
    people = sorted({row.people for figures in open_set.values() for row in figures.rows})
    axes[0].set_xticks(people, [f"{count:,}" for count in people])
    axes[0].set_xticks([], minor=True)
    axes[0].set_xlabel("people enrolled, N (logarithmic)")
    axes[0].set_ylabel("FNIR(N, N, T), % (linear)")
    axes[0].set_ylim(0, 100)
    if evidence:
        _bars(axes[1], open_set["weighted"])
    _save(figure, axes, path, title)


def _bars(axis: Any, figures: OpenSet) -> None:
    fpir = max(row.fpir for row in figures.evidence)
    rows = [row for row in figures.evidence if row.fpir == fpir]
    for offset, name, colour in ((-0.2, "found_fnir", "#d43f36"), (0.2, "found_fpir", "#e88920")):
        places = [place + offset for place, row in enumerate(rows) if getattr(row, name) is not None]
        shares = [100 * getattr(row, name) for row in rows if getattr(row, name) is not None]
        axis.bar(places, shares, 0.38, color=colour, label=name.removeprefix("found_").upper())
    axis.set_xticks(range(len(rows)), [f"{row.low:.2f} to {row.high:.2f}" for row in rows])
    axis.set_xlabel(f"joint visibility with the closest person; one threshold, FPIR {fpir:.0%} over all")
    axis.set_ylabel("share of searches, % (linear)")
    axis.set_ylim(0, 100)


def _figure(columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * columns, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no window, no global state
    return figure, [figure.add_subplot(1, columns, column + 1) for column in range(columns)]


def _save(figure: Any, axes: list[Any], path: Path, title: str) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130, format="png")
