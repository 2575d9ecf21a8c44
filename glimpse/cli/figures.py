"""The figures of `glimpse evaluate` for people to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from trainer.evaluation.markdown import LABELS, figure_cells, share

if TYPE_CHECKING:
    from trainer.evaluation import Report


LABEL_WIDTH = len("by visibility")


def print_report(report: Report) -> None:
    """Tables with their protocol beneath."""
    rows = [
        (LABELS.get(row, row), f"{metrics.queries:,}", *figure_cells(report, row))
        for row, metrics in report.rows.items()
    ]
    columns: tuple[str, ...] = ("", "queries", "Rank-1", "Rank-5", "Rank-10", "mAP", "mAP trap.", "mINP")
    _print(f"{report.name}, figures in %", columns, rows)
    _facts(["all visible: the same features with every visibility set to 1", *report.facts])
    _facts(f"{name}: {value}" for name, value in report.model.items())
    if report.robustness is not None:
        points = [
            (f"{point.ratio:.0%}", *(share(value) for value in (a.rank1, b.rank1, a.mAP, b.mAP)))
            for point in report.robustness.points
            for a, b in [(point.rows["weighted"], point.rows["unweighted"])]
        ]
        columns = ("covered", "Rank-1", "all visible", "mAP", "all visible")
        _print("\nrobustness, figures in %", columns, points)
        _facts(report.robustness.facts)
    for name, figures in report.open_set.items():
        lines = [
            (f"{row.people:,}", f"{row.fpir:.0%}", share(row.fnir), share(row.fnir_rank1), share(row.held_out_fpir),
             share(row.held_out_fnir))
            for row in figures.rows
        ]  # fmt: skip
        columns = ("N", "FPIR", "FNIR(N,N,T)", "FNIR(N,1,T)", "held-out FPIR", "held-out FNIR")
        _print(f"\nopen set, {LABELS[name]}, figures in %", columns, lines)
        if figures.evidence:
            parts = [
                (f"{row.low:.2f} to {row.high:.2f}", f"{row.fpir:.0%}", f"{row.mated:,}", f"{row.strangers:,}",
                 share(row.found_fnir), share(row.found_fpir))
                for row in figures.evidence
            ]  # fmt: skip
            columns = ("joint visibility", "FPIR over all", "mated", "strangers", "FNIR", "FPIR")
            _print("", columns, parts)
    if report.open_set:
        _facts(next(iter(report.open_set.values())).facts)


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures are never cut, not even on a narrow screen; the first column may be folded."""
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    needed = LABEL_WIDTH
    for place, column in enumerate(columns):
        if place == 0:
            table.add_column(column, min_width=LABEL_WIDTH)
        else:
            table.add_column(column, justify="right", no_wrap=True)
            needed += 3 + max(len(cell) for cell in (column, *(row[place] for row in rows)))
    for row in rows:
        table.add_row(*row)
    Console(width=max(Console().width, needed)).print(table)


def _facts(facts: Iterable[str]) -> None:
    for fact in facts:
        typer.echo(f"- {fact}")
