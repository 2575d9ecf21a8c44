"""A whole evaluation: figures, each with the facts of its protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from glimpse.metrics import RetrievalMetrics
from glimpse.reranking import Reranking
from trainer.evaluation.features import Extraction
from trainer.evaluation.open_set import OpenSet
from trainer.evaluation.ranking import by_hidden_share, by_visible_parts, query_ranks, reranked_ranks, summarise
from trainer.evaluation.robustness import Robustness

FIGURES = ("rank1", "rank5", "rank10", "mAP", "mAP_trapezoidal", "mINP")


@dataclass(frozen=True)
class Report:
    """Figures of one evaluation and the facts of its protocol."""

    name: str
    facts: tuple[str, ...]
    rows: Mapping[str, RetrievalMetrics]
    """``weighted``, ``unweighted`` (the same features with every visibility set to 1), both ``re-ranked`` where asked
    for, then the weighted figures by hidden share and by visible parts."""
    model: Mapping[str, str] = field(default_factory=dict)
    """What a reader must know of the model (`trainer.evaluation.models`)."""
    spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of a mean over trials: the standard deviation of each figure of each row."""
    robustness: Robustness | None = None
    open_set: Mapping[str, OpenSet] = field(default_factory=dict)
    """``weighted`` and ``unweighted``, where asked for."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        values: dict[str, Any] = {
            "data": self.name,
            "model": dict(self.model),
            "protocol": list(self.facts),
            "rows": {name: metrics.to_dict() for name, metrics in self.rows.items()},
        }
        if self.spread:
            values["spread"] = {name: dict(figures) for name, figures in self.spread.items()}
        if self.robustness is not None:
            values["robustness"] = self.robustness.to_dict()
        if self.open_set:
            values["open_set"] = {name: figures.to_dict() for name, figures in self.open_set.items()}
        return values

    def write_json(self, path: Path) -> None:
        """Writes `to_dict`, indented."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n")


def evaluate(extraction: Extraction, reranking: Reranking | None = None) -> Report:
    """The report on extracted features.

    Raises:
        ValueError: queries or gallery are empty, no query has a positive, or multi-shot queries are to be re-ranked.
    """
    query, gallery, shots = extraction.query, extraction.gallery, extraction.shots
    if reranking is not None and shots is not None:
        raise ValueError("re-ranking is of queries of one image; these have several")
    weighted = query_ranks(query, gallery, shots=shots)
    rows = {
        "weighted": summarise(weighted),
        "unweighted": summarise(query_ranks(query, gallery, weighted=False, shots=shots)),
    }
    facts = extraction.facts
    if reranking is not None:
        for name, by_visibility in (("weighted", True), ("unweighted", False)):
            rows[f"{name}, re-ranked"] = summarise(reranked_ranks(query, gallery, reranking, weighted=by_visibility))
        facts = (*facts, reranking.fact)
    if shots is None:
        rows |= by_hidden_share(query, weighted) | by_visible_parts(query, weighted)
    return Report(extraction.name, facts, rows, extraction.model)


def mean_of(reports: Sequence[Report]) -> Report:
    """The mean over the trials of one protocol, with the spread of each figure; queries are added up.

    A row counts where every trial has it. Robustness and open-set figures are of single trials and left out.

    Raises:
        ValueError: no reports.
    """
    if not reports:
        raise ValueError("a mean needs at least one report")
    if len(reports) == 1:
        return reports[0]
    rows, spread = {}, {}
    for name in reports[0].rows:
        if all(name in report.rows for report in reports):
            own = [report.rows[name] for report in reports]
            rows[name], spread[name] = _mean(own)
    # What differs between trials (the number of the split) is said once, of the first.
    facts = (*reports[0].facts, f"mean of {len(reports)} trials; the facts above are of the first")
    return replace(reports[0], rows=rows, facts=facts, spread=spread, robustness=None, open_set={})


def _mean(trials: Sequence[RetrievalMetrics]) -> tuple[RetrievalMetrics, dict[str, float]]:
    cmc = np.array([trial.cmc for trial in trials])  # [T, ranks]
    others = np.array([(trial.mAP, trial.mAP_trapezoidal, trial.mINP) for trial in trials])
    mean = RetrievalMetrics(
        queries=sum(trial.queries for trial in trials),
        skipped=sum(trial.skipped for trial in trials),
        ranks=trials[0].ranks,
        cmc=tuple(cmc.mean(axis=0).tolist()),
        mAP=float(others[:, 0].mean()),
        mAP_trapezoidal=float(others[:, 1].mean()),
        mINP=float(others[:, 2].mean()),
    )
    figures = [trial.to_dict() for trial in trials]
    return mean, {name: float(np.std([one[name] for one in figures], ddof=1)) for name in FIGURES}
