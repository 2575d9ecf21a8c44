"""What every peer that ranks by the numerator needs after it: the exact distances of the candidates it kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.galleries.problem import Int64, SearchProblem, query_side
from glimpse.parts import PartFeatures


def best_of(problem: SearchProblem, queries: PartFeatures, candidates: Sequence[Int64], top_k: int) -> list[Int64]:
    """The ``top_k`` closest of each query's candidates (those below 0 are none), float32, best first."""
    vectors, weights = query_side(queries)
    return [
        _best(problem, vector, weight, rows[rows >= 0], top_k)
        for vector, weight, rows in zip(vectors, weights, candidates, strict=True)
    ]


def _best(problem: SearchProblem, vector: np.ndarray, weight: np.ndarray, rows: Int64, top_k: int) -> Int64:
    features = problem.features(rows)
    similarity = np.zeros(len(rows), np.float32)
    for p, columns in enumerate(problem.schema.slices):
        if weight[p] > 0:
            similarity += features.visibility[:, p] * (features.vectors[:, columns] @ vector[columns])
    total = features.visibility @ weight
    ratio = np.where(total > 0, similarity / np.maximum(total + problem.schema.prior, 1e-30), -np.inf)
    kept = np.argpartition(-ratio, top_k)[:top_k] if len(ratio) > top_k else np.arange(len(ratio))
    found: Int64 = rows[kept[np.argsort(-ratio[kept], kind="stable")]]
    return found
