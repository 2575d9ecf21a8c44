"""The visibility-weighted cosine distance: the one definition, and the oracle of every faster path.

For parts p with weight alpha_p, visibilities v in [0, 1] and unit vectors x, and the schema's prior >= 0:

    w_p    = alpha_p * vq_p * vg_p
    W      = sum_p w_p
    d(q,g) = 1 - (sum_p w_p <q_p, g_p>) / (W + prior)          when W > 0
    joint  = sum of w_p / sum of alpha_p, over the parts that are not always visible   (1 when there are none)

With one always-visible global part and prior 0 this is the matching score of PGFA (Miao et al., ICCV 2019,
eq. 8) and ISP (Zhu et al., ECCV 2020): S = 1 - d/2. A pair with W = 0, or with less joint visibility than the
caller asks for, is *incomparable*: its distance is NaN, and it ranks after every other pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartFeatures, PartSchema

Float64 = NDArray[np.float64]


class Distances(NamedTuple):
    """Distances and joint visibilities of Q queries and G gallery items."""

    distance: Float32
    """float32 ``(Q, G)`` in [0, 2]; NaN where the pair is incomparable."""
    joint_visibility: Float32
    """float32 ``(Q, G)`` in [0, 1]."""


@dataclass(frozen=True, slots=True)
class PartEvidence:
    """What one part said about a pair; ``part`` is ``"prior"`` for the prior's own share."""

    part: str
    similarity: float
    query_visibility: float
    gallery_visibility: float
    share: float
    """The part's share of the decision; shares of a comparable pair sum to 1, and 1 - sum(share * similarity)
    is the distance (the prior has similarity 0)."""


def resolve_weights(schema: PartSchema, part_weights: Mapping[str, float] | None = None) -> Float64:
    """alpha, float64 ``(P,)``: the schema's, or the caller's ``part_weights``, which replace them whole.

    Raises:
        ValueError: an unknown part, a weight that is negative or not finite, or no weight above 0.
    """
    if not part_weights:
        return schema.weights.astype(np.float64)
    unknown = sorted(set(part_weights) - set(schema.names))
    if unknown:
        raise ValueError(f"unknown parts {unknown} in part_weights; this model has {list(schema.names)}")
    wrong = {name: weight for name, weight in part_weights.items() if not (math.isfinite(weight) and weight >= 0)}
    if wrong:
        raise ValueError(f"part weights must be finite and at least 0, got {wrong}")
    if not any(weight > 0 for weight in part_weights.values()):
        raise ValueError(f"at least one part must weigh more than 0, got {dict(part_weights)}")
    return np.array([part_weights.get(name, 0.0) for name in schema.names], np.float64)


def check_min_joint(min_joint_visibility: float) -> float:
    """The threshold itself when it lies in [0, 1]; ValueError otherwise."""
    if not 0 <= min_joint_visibility <= 1:  # also refuses NaN
        raise ValueError(f"min_joint_visibility must be within [0, 1], got {min_joint_visibility}")
    return min_joint_visibility


def pairwise(
    query: PartFeatures,
    gallery: PartFeatures,
    *,
    part_weights: Mapping[str, float] | None = None,
    min_joint_visibility: float = 0.0,
) -> Distances:
    """Distances of every query to every gallery item, ``(Q, G)``, by the formula above.

    Sums run in float64 and each pair's value depends on nothing but the pair, so equal items get equal
    distances wherever they stand. The prior is the gallery schema's. The server's engines are faster and are
    tested against this function.

    Raises:
        ValueError: the schemas differ, or a weight or threshold is out of range.
    """
    schema = gallery.schema
    if not schema.same_layout(query.schema):
        raise ValueError(f"query parts {query.schema.describe()} differ from the gallery's {schema.describe()}")
    alpha = resolve_weights(schema, part_weights)
    check_min_joint(min_joint_visibility)
    numerator = np.zeros((len(query), len(gallery)))
    total = np.zeros_like(numerator)
    joint = np.zeros_like(numerator)
    for p, columns in enumerate(schema.slices):
        vq = query.visibility[:, p].astype(np.float64)
        vg = gallery.visibility[:, p].astype(np.float64)
        weight = alpha[p] * np.multiply.outer(vq, vg)  # [Q, G]
        q = query.vectors[:, columns].astype(np.float64)
        g = gallery.vectors[:, columns].astype(np.float64)
        # einsum, not matmul: BLAS rounds a pair differently depending on where it stands in the matrix.
        numerator += weight * np.einsum("qd,gd->qg", q, g)
        total += weight
        if not schema.always_visible[p]:
            joint += weight
    scale = alpha[~schema.always_visible].sum()
    joint = joint / scale if scale > 0 else np.ones_like(joint)
    comparable = (total > 0) & (joint >= min_joint_visibility)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.where(comparable, 1.0 - numerator / (total + schema.prior), np.nan)
    return Distances(np.clip(distance, 0.0, 2.0).astype(np.float32), np.clip(joint, 0, 1).astype(np.float32))


def explain(
    query: PartFeatures,
    gallery: PartFeatures,
    *,
    part_weights: Mapping[str, float] | None = None,
) -> list[PartEvidence]:
    """Why one pair (two `PartFeatures` of one row each) has its distance: a row a part, then the prior's.

    Similarities are cosines in [-1, 1]. Shares are ``w_p / (W + prior)`` and ``prior / (W + prior)``; all are 0
    when W = 0. Raises ValueError on schemas that differ or more than one row.
    """
    schema = gallery.schema
    if len(query) != 1 or len(gallery) != 1:
        raise ValueError(f"explain takes one query and one item, got {len(query)} and {len(gallery)} rows")
    if not schema.same_layout(query.schema):
        raise ValueError(f"query parts {query.schema.describe()} differ from the gallery's {schema.describe()}")
    alpha = resolve_weights(schema, part_weights)
    vq, vg = query.visibility[0].astype(np.float64), gallery.visibility[0].astype(np.float64)
    weights = alpha * vq * vg
    total = weights.sum() + schema.prior if weights.sum() > 0 else math.inf
    rows = []
    for p, (name, columns) in enumerate(zip(schema.names, schema.slices, strict=True)):
        similarity = float(query.vectors[0, columns].astype(np.float64) @ gallery.vectors[0, columns])
        rows.append(PartEvidence(name, similarity, float(vq[p]), float(vg[p]), float(weights[p] / total)))
    rows.append(PartEvidence("prior", 0.0, 0.0, 0.0, schema.prior / total))
    return rows
