"""Distances of one query to many rows: a fast scan with a proven error bound, and the exact formula.

The scan multiplies the float32 matrix of visibility-weighted vectors with the weighted query: ``<concat(alpha vq q),
concat(vg g)>``, the numerator of `glimpse.distance`; the denominator is computed in float64 by the very operations of
the oracle, so both always agree on which pairs are comparable. Only the numerator rounds, and its error is bounded:
a dot product of n float32 terms, summed in any order, is off by at most ``gamma_n = n u / (1 - n u)`` times the sum
of the terms' magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), which is at
most W for parts of norm 1. Every row whose interval reaches the k-th best one is scored again by
`glimpse.distance.pairwise` itself: ranks and ties are the oracle's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import Float64, check_min_joint, pairwise, resolve_weights
from glimpse.parts import UNIT_NORM_TOLERANCE, Float32, PartFeatures, PartSchema
from server.galleries.blocks import Block
from server.galleries.columns import Snapshot
from server.galleries.items import MAX_NORM, Int64, decode

RESCORED_AT_ONCE = 2048
MULTIPLIED_AT_ONCE = 1_000_000
"""Multiplications of one product of several queries. Up to so many OpenBLAS multiplies in place, and four queries cost
what one does: reading the matrix. A larger product it copies together first, which takes three times as long."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightedQuery:
    """A query row with its weights resolved; make one with `weighted_query`."""

    features: PartFeatures
    part_weights: Mapping[str, float]
    min_joint: float
    alpha: Float64
    """``(P,)``."""
    visibility: Float64
    """``(P,)``."""
    scale: float
    """The largest ``alpha_p vq_p``; the vector is divided by it so that float32 can hold any weights."""
    vector: Float32
    """``(sum_p D_p,)``: ``concat(alpha_p vq_p q_p) / scale``; zeros when scale is 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Approximate distances of m rows."""

    distance: Float64
    """``(m,)``; meaningless where not comparable."""
    slack: Float64
    """``(m,)``: the oracle's float32 distance is at most this far away."""
    comparable: NDArray[np.bool_]


def weighted_query(
    features: PartFeatures, schema: PartSchema, part_weights: Mapping[str, float], min_joint: float
) -> WeightedQuery:
    """One row of features against galleries of ``schema``.

    Raises:
        ValueError: more than one row, another schema, or a weight or threshold out of range.
    """
    if len(features) != 1:
        raise ValueError(f"a search takes one query, got {len(features)} rows of features")
    if not schema.same_layout(features.schema):
        raise ValueError(f"query parts {features.schema.describe()} differ from the gallery's {schema.describe()}")
    alpha = resolve_weights(schema, part_weights)
    visibility = features.visibility[0].astype(np.float64)
    weights = alpha * visibility
    scale = float(weights.max())
    factors = np.repeat(weights / scale if scale > 0 else np.zeros_like(weights), schema.dims)
    vector = (factors * features.vectors[0]).astype(np.float32)
    return WeightedQuery(features, part_weights, check_min_joint(min_joint), alpha, visibility, scale, vector)


def scan(snapshot: Snapshot, query: WeightedQuery, rows: Int64 | None = None) -> Scan:
    """Approximate distances of the ascending ``rows``, or of all rows."""
    if rows is None:
        return next(scan_together(snapshot, [query]))
    result = _unfilled(len(rows))
    for block, at, local in snapshot.split(rows):
        size = min(snapshot.rows - block.start, block.capacity)
        # Reading every row is cheaper than copying more than a quarter of them together.
        if len(local) * 4 < size:
            similarity = _weighted(block, local, snapshot.schema) @ query.vector  # [m]
        else:
            similarity = (_weighted(block, np.arange(size), snapshot.schema) @ query.vector)[local]
        settle(snapshot.schema, query, similarity, block.visibility[:, local], result, at)
    return result


def scan_together(snapshot: Snapshot, queries: Sequence[WeightedQuery]) -> Iterator[Scan]:
    """Approximate distances of all rows to each query in turn, the rows read once for all of them."""
    vectors = np.stack([query.vector for query in queries])  # [Q, sum D]
    pieces = [(block, size, slice(block.start, block.start + size)) for block, size in snapshot.pieces()]
    similarity = np.empty((len(queries), snapshot.rows), np.float32)
    for block, size, at in pieces:
        _multiply(vectors, _weighted(block, np.arange(size), snapshot.schema), similarity[:, at])
    for query, numerators in zip(queries, similarity, strict=True):
        result = _unfilled(snapshot.rows)
        for block, size, at in pieces:
            settle(snapshot.schema, query, numerators[at], block.visibility[:, :size], result, at)
        yield result


def _weighted(block: Block, rows: Int64, schema: PartSchema) -> Float32:
    """``concat(vg g)`` of some rows of a block, ``(m, sum_p D_p)``."""
    return decode(block.read(rows), np.repeat(block.visibility[:, rows].T, schema.dims, axis=1))


def _multiply(vectors: Float32, weighted: Float32, out: Float32) -> None:
    """``out = vectors @ weighted.T``."""
    if len(vectors) == 1:
        np.matmul(weighted, vectors[0], out=out[0])
        return
    step = max(16, MULTIPLIED_AT_ONCE // vectors.size)
    for start in range(0, len(weighted), step):
        np.matmul(vectors, weighted[start : start + step].T, out=out[:, start : start + step])


def _unfilled(rows: int) -> Scan:
    return Scan(np.empty(rows), np.empty(rows), np.empty(rows, np.bool_))


def settle(
    schema: PartSchema, query: WeightedQuery, similarity: Float32, visibility: Float32, result: Scan, at: slice
) -> None:
    """Turns numerators ``<query.vector, concat(vg g)>`` into the distances ``result[at]``."""
    total, comparable = evidence(schema, query, visibility)
    result.comparable[at] = comparable
    total[~comparable] = 1.0
    with np.errstate(over="ignore", divide="ignore"):  # scale / 1e-320
        ratio = np.minimum(query.scale / (total + schema.prior), 1e300)
    distance, slack = result.distance[at], result.slack[at]
    np.multiply(similarity, ratio, out=distance)
    np.subtract(1.0, distance, out=distance)
    np.clip(distance, 0.0, 2.0, out=distance)
    relative, absolute = error_bound(schema.width)
    np.multiply(ratio, absolute, out=slack)
    slack += relative


def evidence(schema: PartSchema, query: WeightedQuery, visibility: Float32) -> tuple[Float64, NDArray[np.bool_]]:
    """W and comparability of rows with these visibilities ``(P, m)``, operation by operation as the oracle does it."""
    total = np.zeros(visibility.shape[1])
    optional = ~schema.always_visible
    scale = query.alpha[optional].sum()
    thresholded = query.min_joint > 0 and scale > 0
    joint = np.zeros_like(total)
    for p in np.flatnonzero(query.alpha * query.visibility):
        weight = np.multiply(visibility[p], query.visibility[p], dtype=np.float64)
        weight *= query.alpha[p]
        total += weight
        if thresholded and optional[p]:
            joint += weight
    comparable = total > 0
    if thresholded:
        comparable &= joint / scale >= query.min_joint
    return total, comparable


def error_bound(width: int) -> tuple[float, float]:
    """How far a scanned distance can be from the oracle's: ``relative + absolute * scale / (W + prior)``.

    ``relative`` covers the roundings of a dot product of ``width`` terms, of its factors and of the final float32;
    ``absolute`` covers factors and products below float32's normal range, even where the processor flushes them to
    zero.
    """
    terms = (width + 8) * 2.0**-24
    norms = (1 + UNIT_NORM_TOLERANCE) * MAX_NORM
    return norms * terms / (1 - terms) + 2.0**-22, width * 2.0**-124


def closest(scanned: Scan, top_k: int | None) -> Int64:
    """Positions that can be among the ``top_k`` closest comparable rows, ties of the last one included."""
    comparable = scanned.comparable
    if top_k is None or np.count_nonzero(comparable) <= top_k:
        return np.flatnonzero(comparable)
    latest = np.where(comparable, scanned.distance + scanned.slack, np.inf)
    kth = np.partition(latest, top_k - 1)[top_k - 1]  # at least top_k rows are no farther than this
    return np.flatnonzero(comparable & (scanned.distance - scanned.slack <= kth))


def rescore(snapshot: Snapshot, query: WeightedQuery, rows: Int64) -> tuple[Float32, Float32]:
    """The oracle's distances and joint visibilities of the rows, float32 ``(K,)``; NaN where incomparable."""
    distance, joint = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), RESCORED_AT_ONCE):
        at = slice(start, start + RESCORED_AT_ONCE)
        exact = pairwise(
            query.features,
            snapshot.features(rows[at]),
            part_weights=query.part_weights,
            min_joint_visibility=query.min_joint,
        )
        distance[at], joint[at] = exact.distance[0], exact.joint_visibility[0]
    return distance, joint


def ranking_order(snapshot: Snapshot, rows: Int64, distance: Float32) -> Int64:
    """Positions by distance, equal ones (and, at the end, NaN) by item id."""
    order = np.argsort(distance, kind="stable")
    ordered = distance[order]
    same = (ordered[1:] == ordered[:-1]) | np.isnan(ordered[:-1])  # NaN sorts last
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2).tolist():
        tied = order[first : last + 1]
        order[first : last + 1] = sorted(tied.tolist(), key=lambda position: snapshot.item_id(int(rows[position])))
    return order
