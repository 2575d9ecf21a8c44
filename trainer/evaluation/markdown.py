"""A report as Markdown: every table with its protocol beneath."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.evaluation.report import FIGURES, Report

HEADINGS = ("Rank-1", "Rank-5", "Rank-10", "mAP", "mAP trapezoidal", "mINP")
LABELS = {
    "weighted": "by visibility",
    "unweighted": "all visible",
    "weighted, re-ranked": "by visibility, re-ranked",
    "unweighted, re-ranked": "all visible, re-ranked",
}


def to_markdown(report: Report, pictures: Sequence[str] = ()) -> str:
    """The report, with ``pictures`` (file names beside it) where they belong."""
    model = report.model.get("model", "features of a file")
    lines = [f"# {report.name}: {model}", "", "Figures in %.", "", *_figures(report), ""]
    lines += _facts(["all visible: the same features with every visibility set to 1", *report.facts])
    if report.model:
        lines += ["", "## The model", "", *_facts(f"{name}: {value}" for name, value in report.model.items())]
    lines += _robustness(report, pictures)
    lines += _open_set(report, pictures)
    ranked = [name for name in pictures if name in ("rankings.png", "attention.png")]
    if ranked:
        lines += ["", "## Rank lists", ""]
        lines += [f"![{name.removesuffix('.png')}]({name})" for name in ranked]
        lines += ["", *_facts(["queries evenly spread from the best average precision to the worst"])]
    return "\n".join(lines) + "\n"


def figure_cells(report: Report, row: str) -> list[str]:
    """The six figures of a row in %, with their spread over trials where there is one."""
    values, spread = report.rows[row].to_dict(), report.spread.get(row)
    if spread is None:
        return [f"{100 * values[name]:.1f}" for name in FIGURES]
    return [f"{100 * values[name]:.1f} ± {100 * spread[name]:.1f}" for name in FIGURES]


def share(value: float | None) -> str:
    """In %, or a dash where nothing could be told."""
    return "–" if value is None else f"{100 * value:.1f}"


def _figures(report: Report) -> list[str]:
    rows = [
        [LABELS.get(row, row), f"{metrics.queries:,}", *figure_cells(report, row)]
        for row, metrics in report.rows.items()
    ]
    return _table(["", "queries", *HEADINGS], rows)


def _robustness(report: Report, pictures: Sequence[str]) -> list[str]:
    if report.robustness is None:
        return []
    rows = []
    for point in report.robustness.points:
        weighted, plain = point.rows["weighted"], point.rows["unweighted"]
        shares = (weighted.rank1, plain.rank1, weighted.mAP, plain.mAP)
        rows.append([f"{point.ratio:.0%}", *map(share, shares)])
    columns = ["covered", *(f"{name}, {how}" for name in ("Rank-1", "mAP") for how in ("by visibility", "all visible"))]
    return ["", "## Robustness", "", *_picture("robustness.png", pictures), *_table(columns, rows), "",
            *_facts(report.robustness.facts)]  # fmt: skip


def _open_set(report: Report, pictures: Sequence[str]) -> list[str]:
    if not report.open_set:
        return []
    lines = ["", "## Open set", "", *_picture("open-set.png", pictures)]
    rows, evidence = [], []
    for name, figures in report.open_set.items():
        for row in figures.rows:
            shares = (row.fnir, row.fnir_spread, row.fnir_rank1, row.held_out_fpir, row.held_out_fnir)
            rows.append([LABELS[name], f"{row.people:,}", f"{row.fpir:.0%}", f"{row.mated:,.0f}",
                         f"{row.strangers:,.0f}", *map(share, shares)])  # fmt: skip
        evidence += [
            [LABELS[name], f"{part.fpir:.0%}", f"{part.low:.2f} to {part.high:.2f}", f"{part.mated:,}",
             f"{part.strangers:,}", share(part.found_fnir), share(part.found_fpir)]
            for part in figures.evidence
        ]  # fmt: skip
    columns = ["", "N", "FPIR", "mated", "strangers", "FNIR(N,N,T)", "± over trials", "FNIR(N,1,T)", "held-out FPIR",
               "held-out FNIR"]  # fmt: skip
    lines += _table(columns, rows)
    if evidence:
        columns = ["", "FPIR over all", "joint visibility", "mated", "strangers", "FNIR", "FPIR"]
        lines += ["", "By evidence, at the largest N, all trials together:", "", *_table(columns, evidence)]
    return [*lines, "", *_facts(next(iter(report.open_set.values())).facts)]


def _picture(name: str, pictures: Sequence[str]) -> list[str]:
    return [f"![{name.removesuffix('.png')}]({name})", ""] if name in pictures else []


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _facts(facts: Iterable[str]) -> list[str]:
    return [f"- {fact}" for fact in facts]
