"""A whole evaluation: figures, each with the facts of its protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
