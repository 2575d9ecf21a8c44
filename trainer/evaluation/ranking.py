"""Labelled features to figures: ranks by the distance that the server uses, streamed over blocks of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from glimpse.metrics import RankingMetrics, Ranks, Relevance, RetrievalMetrics, block_ranks
from glimpse.parts import PartFeatures
from glimpse.reranking import Reranking, rerank
from glimpse.scan import DistanceScan, query_blocks
from trainer.data.listing import Int64, Shots
from trainer.data.shots import pool_distances
from trainer.evaluation.features import LabelledFeatures, fully_visible

OCCLUSION_EDGES = (0.0, 0.01, 0.3, 0.5, 0.6, 0.7, 1.01)
SEEN = 0.5
"""A part with at least this visibility counts as visible where visible parts are counted."""


def rank(
    query: LabelledFeatures,
    gallery: LabelledFeatures,
    *,
    weighted: bool = True,
    part_weights: Mapping[str, float] | None = None,
    shots: Shots | None = None,
) -> RetrievalMetrics:
    """Metrics of all queries; ``weighted=False`` sets every visibility to 1 on both sides.

    Raises:
        ValueError: queries or gallery are empty, their schemas differ, or no query has a positive.
    """
    ranks = query_ranks(query, gallery, weighted=weighted, part_weights=part_weights, shots=shots)
    return summarise(ranks)


def query_ranks(
    query: LabelledFeatures,
    gallery: LabelledFeatures,
    *,
    weighted: bool = True,
    part_weights: Mapping[str, float] | None = None,
    shots: Shots | None = None,
) -> list[Ranks]:
    """The ranks of each query's positives (`glimpse.metrics`), exactly those of the oracle's distances.

    With ``shots`` the distances of each query's images are pooled first; those ranks are float32's.

    Raises:
        ValueError: queries or gallery are empty, or their schemas differ.
    """
    left, right = _sides(query, gallery, weighted)
    scan = DistanceScan(right, part_weights)
    if shots is not None:
        return _pooled_ranks(query, gallery, left, scan, shots)
    rule = Relevance(query.people, gallery.people, query.cameras, gallery.cameras)
    ranks = []
    for rows in query_blocks(len(left), len(right)):
        distances = scan(left[rows])
        for row in range(rows.start, rows.stop):
            positive, negative = rule(row)
            ranks.append(scan.ranks(left[row : row + 1], distances[row - rows.start], positive, negative))
    return ranks


def reranked_ranks(
    query: LabelledFeatures, gallery: LabelledFeatures, settings: Reranking, *, weighted: bool = True
) -> list[Ranks]:
    """`query_ranks` after k-reciprocal re-ranking (`glimpse.reranking`).

    Raises:
        ValueError: queries or gallery are empty, or their schemas differ.
    """
    left, right = _sides(query, gallery, weighted)
    ranks: list[Ranks] = []
    for rows, distances in rerank(left, right, settings):
        ranks += block_ranks(distances, query.people[rows], gallery.people, query.cameras[rows], gallery.cameras)
    return ranks


def summarise(ranks: Iterable[Ranks]) -> RetrievalMetrics:
    """Metrics of queries by the ranks of their positives; ValueError when none has any."""
    metrics = RankingMetrics()
    for one in ranks:
        metrics.add(one)
    return metrics.result()


def by_hidden_share(query: LabelledFeatures, ranks: list[Ranks]) -> dict[str, RetrievalMetrics]:
    """Metrics by how much of the person is hidden, where the data say it: ``hidden A-B %``."""
    if query.hidden is None:
        return {}
    groups = {
        f"hidden {low:.0%}-{min(high, 1):.0%}": np.flatnonzero((query.hidden >= low) & (query.hidden < high))
        for low, high in pairwise(OCCLUSION_EDGES)
    }
    return _split(ranks, groups)


def by_visible_parts(query: LabelledFeatures, ranks: list[Ranks]) -> dict[str, RetrievalMetrics]:
    """Metrics by how many parts of the query the model calls visible (`SEEN`): ``k of n parts visible``.

    The first part, the whole person, and parts that are always visible are not counted.
    """
    features = query.features
    counted = ~features.schema.always_visible
    counted[0] = False
    if not counted.any():
        return {}
    visible = (features.visibility[:, counted] >= SEEN).sum(axis=1)
    parts = int(counted.sum())
    return _split(ranks, {f"{k} of {parts} parts visible": np.flatnonzero(visible == k) for k in range(parts + 1)})


def _split(ranks: list[Ranks], groups: Mapping[str, Int64]) -> dict[str, RetrievalMetrics]:
    """Metrics of each group that has a query with a positive; none when one group has all queries."""
    if any(len(rows) == len(ranks) for rows in groups.values()):
        return {}
    chosen = {name: [ranks[row] for row in rows] for name, rows in groups.items()}
    return {name: summarise(some) for name, some in chosen.items() if any(len(one) for one in some)}


def _sides(query: LabelledFeatures, gallery: LabelledFeatures, weighted: bool) -> tuple[PartFeatures, PartFeatures]:
    for side, labelled in (("queries", query), ("items in the gallery", gallery)):
        if len(labelled) == 0:
            raise ValueError(f"there are no {side} to rank")
    if weighted:
        return query.features, gallery.features
    return fully_visible(query.features), fully_visible(gallery.features)


def _pooled_ranks(
    query: LabelledFeatures, gallery: LabelledFeatures, left: PartFeatures, scan: DistanceScan, shots: Shots
) -> list[Ranks]:
    """Whole queries at a time: a block holds all images of each of its queries."""
    ranks: list[Ranks] = []
    count = int(shots.sets.max()) + 1
    most = int(np.bincount(shots.sets).max())
    for block in query_blocks(count, len(gallery) * most):
        rows = np.flatnonzero((shots.sets >= block.start) & (shots.sets < block.stop))
        sets = shots.sets[rows] - block.start
        _, first = np.unique(sets, return_index=True)
        one = rows[first]  # an image of each query: all its images have its person and camera
        distances = pool_distances(scan(left[rows]), Shots(sets, shots.pool))
        ranks += block_ranks(distances, query.people[one], gallery.people, query.cameras[one], gallery.cameras)
    return ranks
