"""CMC and mAP at the size of Occluded-Duke, against the Python that the field evaluates with.

The peer is the evaluation that torchreid, fast-reid and BPBReID share, written again here: one argsort of the whole
distance matrix, then per query a mask and a Python list of precisions. Given the same matrix, both must agree.

The whole path begins at part features. There the peer does what part-based toolkits do: a Euclidean distance of every
part for every pair, all kept, their mean weighted by the square roots of visibilities, then the above. Each side runs
in a process of its own that tells its peak memory. Their distances differ by definition, so ours is checked against
the oracle instead: ranks must be equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.crowd import Crowd, make_crowd
from benchmarks.peak import measure
from benchmarks.report import Report, Row
from glimpse.distance import pairwise
from glimpse.metrics import CMC_RANKS, RankingMetrics, RetrievalMetrics, block_ranks
from glimpse.parts import PartFeatures
from trainer.evaluation.features import LabelledFeatures
from trainer.evaluation.ranking import query_ranks, rank

QUERIES, GALLERY, IDENTITIES, CAMERAS = 2_210, 17_661, 1_110, 8
PARTS, DIM = 9, 512
QUICK_QUERIES = 400
BLOCK = 256
CHECKED = 24
"""Queries whose ranks are compared with the oracle's."""
CHUNK = 500
"""Gallery items at a time, as the peer's own code has it."""


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
    queries = QUICK_QUERIES if quick else QUERIES
    report = Report("evaluation")
    _metrics_alone(report, queries)
    _whole_path(report, queries)
    return report


def _metrics_alone(report: Report, queries: int) -> None:
    problem = occluded_duke_size(queries)
    ours, fast = _timed(rank_only, problem, repeats=5)
    theirs, slow = _timed(field_evaluation, problem, repeats=1)
    pairs = [(ours.mAP, theirs.mAP), *zip(ours.cmc, theirs.cmc, strict=True)]
    difference = max(abs(left - right) for left, right in pairs)
    peer = "Python argsort evaluation"
    report.add(Row("cmc_map_speedup_over_field", slow / fast, "ratio", ">= 50", peer))
    report.add(Row("cmc_map_seconds", fast, "s", peer=f"{slow:.2f} s at {queries:,} x {GALLERY:,}"))
    report.add(Row("cmc_map_microseconds_per_query", 1e6 * fast / queries, "us"))
    report.add(Row("cmc_map_largest_difference", difference, "share", "<= 0.00001", peer))


def _whole_path(report: Report, queries: int) -> None:
    size = (queries, GALLERY, PARTS, DIM)
    ours = measure(labelled_crowd, ranked, *size, repeats=2)
    theirs = measure(_only_crowd, field_path, *size)
    wrong = measure(labelled_crowd, ranks_unlike_the_oracles, *size).result
    peer = "part x query x item Euclidean, argsort, Python"
    shape = f"{queries:,} x {GALLERY:,} x {PARTS} parts x {DIM}"
    report.add(Row("whole_path_speedup_over_field", theirs.seconds / ours.seconds, "ratio", ">= 10", peer))
    report.add(Row("whole_path_seconds", ours.seconds, "s", peer=f"{theirs.seconds:.1f} s at {shape}"))
    report.add(
        Row(
            "whole_path_extra_memory",
            ours.extra_bytes / 1e9,
            "GB",
            "<= 0.5",
            f"{theirs.extra_bytes / 1e9:.2f} GB beyond the features",
        )
    )
    report.add(Row("whole_path_ranks_unlike_the_oracle", wrong, "queries", "<= 0", f"oracle, {CHECKED} queries"))
    report.add(Row("whole_path_rank1", 100 * ours.result.rank1, "%", peer=f"{100 * theirs.result.rank1:.1f} %"))


def labelled_crowd(queries: int, items: int, parts: int, dim: int) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Both sides as an evaluation has them."""
    crowd = make_crowd(queries, items, parts, dim)
    nameless: Callable[[PartFeatures], tuple[str, ...]] = lambda side: ("",) * len(side)  # noqa: E731
    return (
        LabelledFeatures(crowd.query, nameless(crowd.query), crowd.query_people, crowd.query_cameras),
        LabelledFeatures(crowd.gallery, nameless(crowd.gallery), crowd.gallery_people, crowd.gallery_cameras),
    )


def _only_crowd(queries: int, items: int, parts: int, dim: int) -> tuple[Crowd]:
    return (make_crowd(queries, items, parts, dim),)


def ranked(query: LabelledFeatures, gallery: LabelledFeatures) -> RetrievalMetrics:
    """Ours, from features to figures."""
    return rank(query, gallery)


def ranks_unlike_the_oracles(query: LabelledFeatures, gallery: LabelledFeatures) -> int:
    """How many of the first `CHECKED` queries have other ranks than by `glimpse.distance.pairwise`."""
    some = query.take(np.arange(min(CHECKED, len(query))))
    oracle = pairwise(some.features, gallery.features).distance
    right = block_ranks(oracle, some.people, gallery.people, some.cameras, gallery.cameras)
    found = query_ranks(some, gallery)
    return sum(not np.array_equal(one, other) for one, other in zip(found, right, strict=True))


def field_path(crowd: Crowd) -> RetrievalMetrics:
    """The field's path, from part features: see the module's docstring."""
    problem = Problem(
        field_distances(crowd.query, crowd.gallery),
        crowd.query_people,
        crowd.gallery_people,
        crowd.query_cameras,
        crowd.gallery_cameras,
    )
    return field_evaluation(problem)


def field_distances(query: PartFeatures, gallery: PartFeatures) -> NDArray[np.float32]:
    """``(Q, G)``: sum_p w_p |q_p - g_p| / sum_p w_p with w_p = sqrt(vq_p vg_p), by way of ``(P, Q, G)``."""
    parts = len(gallery.schema)
    apart = np.empty((parts, len(query), len(gallery)), np.float32)
    for start in range(0, len(gallery), CHUNK):
        items = slice(start, start + CHUNK)
        for p, columns in enumerate(gallery.schema.slices):
            q, g = query.vectors[:, columns], gallery.vectors[items, columns]
            squares = (q**2).sum(axis=1)[:, None] - 2 * (q @ g.T) + (g**2).sum(axis=1)
            apart[p, :, items] = np.sqrt(np.maximum(squares, 0))
    weight = np.sqrt(query.visibility.T[:, :, None] * gallery.visibility.T[:, None, :])  # [P, Q, G]
    total = weight.sum(axis=0)
    return np.asarray((apart * weight).sum(axis=0) / np.where(total > 0, total, 1), np.float32)


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
