"""A calibration for people to read: Markdown, JSON and a picture (matplotlib, extra ``bench``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exporter.calibration import CalibrationReport
from exporter.reliability import ReliabilityBin

PICTURE = "reliability.png"
THINNEST = 0.005
"""Share of the pairs that a bin must hold to be drawn: a handful of pairs says nothing."""
_COLOURS = ("#2f62d6", "#3b9c5a", "#e88920", "#d43f36", "#7b4fc9")


def write_report(report: CalibrationReport, folder: Path) -> tuple[str, ...]:
    """Writes ``calibration.json``, ``calibration.md`` and ``reliability.png``; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calibration.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    plot(report, folder / PICTURE)
    (folder / "calibration.md").write_text(to_markdown(report))
    return "calibration.md", "calibration.json", PICTURE


def to_markdown(report: CalibrationReport) -> str:
    """Every table with what it was measured on."""
    calibration = report.calibration
    model = report.model.get("model", f"sha {calibration.model_sha256[:8]}")
    lines = [
        f"# Calibration of {model} on {calibration.source.data}",
        "",
        f"P(same) = pi LR / (pi LR + 1 - pi) with pi = {calibration.prior:g} unless told otherwise. Calibration errors "
        "and held-out figures are of people that nothing was fitted to or chosen on.",
        "",
        f"![reliability]({PICTURE})",
        "",
    ]
    for title, (columns, rows) in tables(report).items():
        lines += [f"## {title}", "", *_table(columns, rows), ""]
    lines += ["## How it was made", ""]
    lines += [f"- {fact}" for fact in facts(report)]
    if report.model:
        lines += ["", "## The model", "", *(f"- {name}: {value}" for name, value in report.model.items())]
    return "\n".join(lines) + "\n"


Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Columns and rows, as text."""


def tables(report: CalibrationReport) -> dict[str, Table]:
    """Those of the report, by their titles."""
    calibration, reliability = report.calibration, report.reliability
    prior = f"{calibration.prior:g}"
    found: dict[str, Table] = {}
    found["Ways to fit"] = (
        ("", f"log loss, cross-validated (prior {prior} alone: {report.prior_loss:.4f})", "held out", ""),
        [
            (one.about, _figure(one.cross_validated), _figure(one.held_out), "chosen" if one.chosen else "")
            for one in report.candidates
        ],
    )
    counts = calibration.source.counts
    overall = ("all", f"{counts['held_out_same']:,}", f"{counts['held_out_different']:,}", f"{reliability.ece:.4f}",
               f"{reliability.ece_stated:.5f}", _figure(calibration.metrics["log_loss_even"]))  # fmt: skip
    found["Calibration error by visible evidence"] = (
        ("joint visibility", "pairs of one", "pairs of two", "ECE at even odds", f"ECE at prior {prior}",
         "log loss at even odds"),
        [overall]
        + [
            (f"{row.low:.2f} to {row.high:.2f}", f"{row.same:,}", f"{row.different:,}", _figure(row.ece),
             _figure(row.ece_stated, 5), _figure(row.log_loss))
            for row in reliability.evidence
        ],
    )  # fmt: skip
    if calibration.thresholds:
        found["Thresholds for false matches among pairs"] = (
            ("false-match rate", "distance", "95 %", "held-out rate", "95 %", "pairs of one found"),
            [
                (f"{row.false_match_rate:g}", f"{row.distance:.4f}", f"{row.low:.4f} to {row.high:.4f}",
                 f"{row.held_out_rate:.2g}", f"{row.held_out_low:.2g} to {row.held_out_high:.2g}",
                 f"{row.held_out_found:.1%}")
                for row in calibration.thresholds
            ],
        )  # fmt: skip
    if calibration.gallery_thresholds:
        found["Thresholds for a gallery of N people"] = (
            ("N", "FPIR", "distance", "95 %", "held-out FPIR", "held-out FNIR(N, N, T)", ""),
            [
                (f"{row.people:,}", f"{row.fpir:g}", f"{row.distance:.4f}", f"{row.low:.4f} to {row.high:.4f}",
                 _percent(row.held_out_fpir), _percent(row.held_out_fnir), "extrapolated" if row.extrapolated else "")
                for row in calibration.gallery_thresholds
            ],
        )  # fmt: skip
    return found


def facts(report: CalibrationReport) -> tuple[str, ...]:
    """How the calibration was made and what could not be told."""
    source = report.calibration.source
    made = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    return (
        *source.facts,
        f"pairs of one person and of two: {source.counts['fit_same']:,} and {source.counts['fit_different']:,} to fit "
        f"on, {source.counts['held_out_same']:,} and {source.counts['held_out_different']:,} held out",
        *report.unsupported,
        f"made by: {source.command} (seed {source.seed}, {source.created_at:%Y-%m-%d}; {made})",
    )


def plot(report: CalibrationReport, path: Path) -> None:
    """Reliability, reliability by visible evidence, and P(same) over the distance.

    The first two at even odds: under a small prior nearly all pairs lie in one bin.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    calibration, reliability = report.calibration, report.reliability
    figure = Figure(figsize=(16, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no window, no global state
    axes = [figure.add_subplot(1, 3, column + 1) for column in range(3)]
    _reliability(axes[0], [("all pairs", reliability.bins)])
    axes[0].set_title("even odds", fontsize=10)
    ranges = [
        (f"joint {row.low:.2f} to {row.high:.2f}", row.bins) for row in reliability.evidence if row.ece is not None
    ]
    _reliability(axes[1], ranges)
    axes[1].set_title("by visible evidence, even odds", fontsize=10)
    distances = np.linspace(0, min(2.0, 1.15 * calibration.distance[-1]), 200)
    shown = sorted({calibration.joint_visibility[0], calibration.joint_visibility[-1],
                    calibration.joint_visibility[len(calibration.joint_visibility) // 2]})  # fmt: skip
    for colour, joint in zip(_COLOURS, shown, strict=False):
        for prior, line in ((0.5, "--"), (calibration.prior, "-")):
            chance = calibration.probability(distances, joint, prior=prior)
            axes[2].plot(distances, chance, line, color=colour, label=f"joint {joint:.2f}, prior {prior:g}")
    axes[2].set_xlabel("distance (linear)")
    axes[2].set_ylabel("P(same) (linear)")
    axes[2].set_ylim(0, 1)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(f"{report.model.get('model', '')}: {calibration.source.data}, people held out", fontsize=11)
    figure.savefig(path, dpi=110, format="png")


def _reliability(axis: Any, curves: Sequence[tuple[str, tuple[ReliabilityBin, ...]]]) -> None:
    axis.plot([0, 1], [0, 1], ":", color="#888888")
    for colour, (label, bins) in zip(_COLOURS, curves, strict=False):
        drawn = [b for b in bins if b.share >= THINNEST]
        axis.plot([b.predicted for b in drawn], [b.observed for b in drawn], "o-", color=colour, label=label)
    axis.set_xlabel(f"mean probability in a bin of at least {THINNEST:.1%} of the pairs (linear)")
    axis.set_ylabel("share of pairs of one person (linear)")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
