"""CMC and mAP at the size of Occluded-Duke, against the Python that the field evaluates with.

The peer is the evaluation that torchreid, fast-reid and BPBReID share, written again here: one argsort of the whole
distance matrix, then per query a mask and a Python list of precisions. Both sides get the same matrix and must agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, Row
from glimpse.metrics import CMC_RANKS, RankingMetrics, RetrievalMetrics

QUERIES, GALLERY, IDENTITIES, CAMERAS = 2_210, 17_661, 1_110, 8
QUICK_QUERIES = 400
BLOCK = 256


class Problem(NamedTuple):
    """An evaluation to do."""

    distances: NDArray[np.float32]
    """``(Q, G)``."""
    query_ids: NDArray[np.int64]
    gallery_ids: NDArray[np.int64]
    query_cameras: NDArray[np.int64]
    gallery_cameras: NDArray[np.int64]


def run(quick: bool) -> Report:
    """Times both on one problem; ``quick`` takes fewer queries, and both cost the same per query."""
    problem = occluded_duke_size(QUICK_QUERIES if quick else QUERIES)
    ours, fast = _timed(rank_only, problem, repeats=5)
    theirs, slow = _timed(field_evaluation, problem, repeats=1)
    pairs = [(ours.mAP, theirs.mAP), *zip(ours.cmc, theirs.cmc, strict=True)]
    difference = max(abs(left - right) for left, right in pairs)
    size = f"{len(problem.query_ids):,} x {GALLERY:,}"
    report = Report("evaluation")
    report.add(Row("cmc_map_speedup_over_field", slow / fast, "ratio", ">= 20", "Python argsort evaluation"))
    report.add(Row("cmc_map_seconds", fast, "s", peer=f"{slow:.2f} s at {size}"))
    report.add(Row("cmc_map_microseconds_per_query", 1e6 * fast / len(problem.query_ids), "us"))
    report.add(Row("cmc_map_largest_difference", difference, "share", "<= 0.00001", "Python argsort evaluation"))
    return report


def occluded_duke_size(queries: int = QUERIES, seed: int = 0) -> Problem:
    """A problem of the benchmark's size whose positives are closer than chance but not trivially first."""
    random = np.random.default_rng(seed)
    query_ids = random.integers(0, IDENTITIES, queries)
    gallery_ids = random.integers(0, IDENTITIES, GALLERY)
    distances = 1 + np.float32(0.1) * random.standard_normal((queries, GALLERY), dtype=np.float32)
    for row, identity in enumerate(query_ids):
        distances[row, gallery_ids == identity] -= np.float32(0.3)
    return Problem(
        distances,
        query_ids,
        gallery_ids,
        random.integers(0, CAMERAS, queries),
        random.integers(0, CAMERAS, GALLERY),
    )


def rank_only(problem: Problem) -> RetrievalMetrics:
    """Ours, streamed in blocks of queries as an evaluation does."""
    metrics = RankingMetrics()
    for start in range(0, len(problem.query_ids), BLOCK):
        rows = slice(start, start + BLOCK)
        metrics.add_block(
            problem.distances[rows],
            problem.query_ids[rows],
            problem.gallery_ids,
            problem.query_cameras[rows],
            problem.gallery_cameras,
        )
    return metrics.result()


def field_evaluation(problem: Problem, deepest: int = 50) -> RetrievalMetrics:
    """The field's evaluation: argsort of everything, a cumulative curve and a list of precisions a query."""
    order = np.argsort(problem.distances, axis=1)  # [Q, G]
    matches = (problem.gallery_ids[order] == problem.query_ids[:, None]).astype(np.int32)
    curves, precisions, skipped = [], [], 0
    for query in range(len(order)):
        ranked = order[query]
        same_person = problem.gallery_ids[ranked] == problem.query_ids[query]
        same_camera = problem.gallery_cameras[ranked] == problem.query_cameras[query]
        relevant = matches[query][~(same_person & same_camera)]
        if not relevant.any():
            skipped += 1
            continue
        curve = relevant.cumsum()
        curve[curve > 1] = 1
        curves.append(curve[:deepest])
        precision = np.asarray([count / (place + 1.0) for place, count in enumerate(relevant.cumsum())])
        precisions.append((precision * relevant).sum() / relevant.sum())
    curve = np.asarray(curves, np.float32).mean(axis=0)
    nan = float("nan")
    return RetrievalMetrics(
        queries=len(precisions),
        skipped=skipped,
        ranks=CMC_RANKS,
        cmc=tuple(float(curve[k - 1]) for k in CMC_RANKS),
        mAP=float(np.mean(precisions)),
        mAP_trapezoidal=nan,  # the field's Python does not compute these two
        mINP=nan,
    )


def _timed(
    evaluate: Callable[[Problem], RetrievalMetrics], problem: Problem, repeats: int
) -> tuple[RetrievalMetrics, float]:
    """The metrics and the best of the seconds they took."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = evaluate(problem)
        best = min(best, time.perf_counter() - start)
    return result, best


if __name__ == "__main__":
    run(quick=False).print()
