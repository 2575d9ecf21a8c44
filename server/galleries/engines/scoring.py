"""A checked query, and the exact distances and order of the rows that were found for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import Float64, check_min_joint, pairwise, resolve_weights
from glimpse.parts import Float32, PartFeatures, PartSchema
from server.galleries.items import Float16, Int64
from server.galleries.snapshots import Snapshot

RESCORED_AT_ONCE = 2048


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
    """The largest ``alpha_p vq_p``; the vector is divided by it so that any weights can be rounded to codes."""
    vector: Float64
    """``(sum_p D_p,)``: ``concat(alpha_p vq_p q_p) / scale``; zeros when scale is 0."""
    optional: NDArray[np.uint8]
    """``(P,)``: 1 for parts that are not always visible."""
    optional_sum: float
    """Their alpha, the largest possible joint visibility."""


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
    optional = ~schema.always_visible
    return WeightedQuery(
        features,
        part_weights,
        check_min_joint(min_joint),
        alpha,
        visibility,
        scale,
        factors * features.vectors[0],
        optional.astype(np.uint8),
        float(alpha[optional].sum()),
    )


def evidence(query: WeightedQuery, visibility: Float32) -> tuple[Float64, NDArray[np.bool_]]:
    """W and comparability of rows with these visibilities ``(P, m)``, operation by operation as the oracle does it."""
    total = np.zeros(visibility.shape[1])
    thresholded = query.min_joint > 0 and query.optional_sum > 0
    joint = np.zeros_like(total)
    for p in np.flatnonzero(query.alpha * query.visibility):
        weight = np.multiply(visibility[p], query.visibility[p], dtype=np.float64)
        weight *= query.alpha[p]
        total += weight
        if thresholded and query.optional[p]:
            joint += weight
    comparable = total > 0
    if thresholded:
        comparable &= joint / query.optional_sum >= query.min_joint
    return total, comparable


def rescore(snapshot: Snapshot, query: WeightedQuery, rows: Int64) -> tuple[Float32, Float32]:
    """The oracle's distances and joint visibilities of the rows, float32 ``(K,)``; NaN where incomparable."""
    distance, joint = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), RESCORED_AT_ONCE):
        at = slice(start, start + RESCORED_AT_ONCE)
        distance[at], joint[at] = rescore_stored(snapshot.schema, query, *snapshot.stored(rows[at]))
    return distance, joint


def rescore_stored(
    schema: PartSchema, query: WeightedQuery, vectors: Float16, visibility: Float32
) -> tuple[Float32, Float32]:
    """`rescore` of rows with these stored vectors ``(K, sum_p D_p)`` and visibilities ``(K, P)``."""
    from server.galleries.engines.kernels.rescore import rescore_rows

    distance, joint = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.float32)
    doubtful = np.empty(len(vectors), np.uint8)
    rescore_rows(
        np.ascontiguousarray(vectors).view(np.int16),
        np.ascontiguousarray(visibility),
        np.cumsum([0, *schema.dims], dtype=np.int64),
        query.features.vectors[0].astype(np.float64),
        query.visibility,
        query.alpha,
        query.optional,
        query.optional_sum,
        query.min_joint,
        schema.prior,
        distance,
        joint,
        doubtful,
    )
    if doubtful.any():
        rows = np.flatnonzero(doubtful)
        exact = pairwise(
            query.features,
            PartFeatures.trusted(vectors[rows].astype(np.float32), visibility[rows], schema),
            part_weights=query.part_weights,
            min_joint_visibility=query.min_joint,
        )
        distance[rows], joint[rows] = exact.distance[0], exact.joint_visibility[0]
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
