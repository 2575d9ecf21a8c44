"""The right answers: the oracle's ranking of every query, and how much of it somebody found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.galleries.problem import Int64, SearchProblem, query_side, weighted
from glimpse.distance import pairwise
from glimpse.parts import Float32, PartFeatures

DEPTH = 100
"""Matches a query that are known."""
SPARE = 64
NOISE = 2e-5
"""More than a float32 scan can be off by."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The best matches of every query."""

    rows: Int64
    """``(Q, K)``, best first; -1 where there are fewer."""
    distance: Float32
    """``(Q, K)``; NaN where there are fewer."""


def truth(problem: SearchProblem) -> Truth:
    """The oracle's first `DEPTH`, computed once and kept in the problem's folder."""
    path = problem.folder / "truth.npz"
    if not path.is_file():
        found = ranked(problem, problem.queries)
        np.savez(path, rows=found.rows, distance=found.distance)
    with np.load(path) as arrays:
        return Truth(arrays["rows"], arrays["distance"])


def ranked(problem: SearchProblem, queries: PartFeatures, allowed: NDArray[np.bool_] | None = None) -> Truth:
    """The first `DEPTH` of every query by `glimpse.distance`, among the ``allowed`` items ``(N,)``.

    A float32 scan finds candidates, with room for its rounding; the oracle orders them.

    Raises:
        RuntimeError: rounding could have hidden a match.
    """
    vector, weight = query_side(queries)
    kept = DEPTH + SPARE
    best = np.full((len(queries), kept), np.inf)
    rows = np.full((len(queries), kept), -1, np.int64)
    for at, features in problem.chunks():
        similarity = vector @ weighted(features.vectors, features.visibility, problem.schema).T  # [Q, n]
        total = weight.astype(np.float64) @ features.visibility.T
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(total > 0, 1 - similarity / (total + problem.schema.prior), np.inf)
        if allowed is not None:
            distance[:, ~allowed[at]] = np.inf
        best = np.concatenate([best, distance], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(np.arange(at.start, at.stop), distance.shape)], axis=1)
        order = np.argpartition(best, kept - 1, axis=1)[:, :kept]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    answers = [_settled(problem, queries[q : q + 1], rows[q], best[q]) for q in range(len(queries))]
    return Truth(np.stack([one for one, _ in answers]), np.stack([one for _, one in answers]))


def _settled(
    problem: SearchProblem, query: PartFeatures, rows: Int64, scanned: NDArray[np.float64]
) -> tuple[Int64, Float32]:
    rows = np.sort(rows[np.isfinite(scanned)])
    exact = pairwise(query, problem.features(rows)).distance[0]
    order = np.argsort(exact, kind="stable")[:DEPTH]  # equal ones by number
    found, distance = np.full(DEPTH, -1, np.int64), np.full(DEPTH, np.nan, np.float32)
    found[: len(order)], distance[: len(order)] = rows[order], exact[order]
    if np.isfinite(scanned).all() and scanned.max() - NOISE <= distance[-1]:
        raise RuntimeError(f"{SPARE} spare candidates are too few: many items are almost equally far")
    return found, distance


def recall(found: Sequence[Int64], right: Int64, depth: int) -> NDArray[np.float64]:
    """Share of the first ``depth`` right answers among the first ``depth`` found, for each query ``(Q,)``."""
    shares = []
    for one, other in zip(found, right, strict=True):
        wanted = other[:depth][other[:depth] >= 0]
        shares.append(len(np.intersect1d(one[:depth], wanted)) / len(wanted) if len(wanted) else 1.0)
    return np.array(shares)


def unlike(found: Sequence[Int64], right: Int64, distance: Float32) -> int:
    """How many rankings differ from the oracle's other than by the order of equal distances."""
    wrong = 0
    for one, other, far in zip(found, right, distance, strict=True):
        wanted = other[other >= 0]
        same = len(one) >= len(wanted) and np.array_equal(np.sort(one[: len(wanted)]), np.sort(wanted))
        place = {int(row): float(far[k]) for k, row in enumerate(wanted)}
        wrong += not (same and all(place[int(row)] == float(far[k]) for k, row in enumerate(one[: len(wanted)])))
    return wrong
