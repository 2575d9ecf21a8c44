"""Exact distances from stored float16 vectors, with a proof that they are those of `glimpse.distance`.

Sums run in float64, so a distance is off by some 1e-13 from the one that `glimpse.distance.pairwise` finds with sums
in another order. Rounded to float32, as it returns them, both are the same number unless a boundary between two
float32 lies in between: then the pair is marked as doubtful, and the caller asks `pairwise` itself.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, float64, int16, int64, uint8
from numpy.typing import NDArray

from server.galleries.engines.kernels import given, kernel, part

SIGN_AND_VALUE = np.int32(0x8FFFE000 - 2**32)
FAINT = 1e-290
"""Evidence below this has lost digits to underflow."""

Array = NDArray[Any]


@part
def _dot(half: Array, query: Array) -> float:
    """``<query, float16 bits>``: bits moved into a float32's place mean the value times 2^-112."""
    lanes = np.zeros(16)
    whole = len(half) // 16
    # Slices: an index that could be negative keeps a loop from becoming vector instructions.
    for at in range(whole):
        some, others = half[16 * at : 16 * at + 16], query[16 * at : 16 * at + 16]
        for lane in range(16):
            bits = np.int32((np.int32(some[lane]) << 13) & SIGN_AND_VALUE)
            lanes[lane] += others[lane] * np.float64(bits.view(np.float32))
    total = 0.0
    for lane in range(16):
        total += lanes[lane]
    for at in range(16 * whole, len(half)):
        bits = np.int32((np.int32(half[at]) << 13) & SIGN_AND_VALUE)
        total += query[at] * np.float64(bits.view(np.float32))
    return total * 2.0**112


@kernel(
    numba.void(
        *(given(int16, 2), given(float32, 2), given(int64, 1)),
        *(given(float64, 1), given(float64, 1), given(float64, 1), given(uint8, 1)),
        *(float64, float64, float64, float32[::1], float32[::1], uint8[::1]),
    )
)
def rescore_rows(
    vectors: Array,
    visibility: Array,
    bounds: Array,
    query: Array,
    shown: Array,
    alpha: Array,
    optional: Array,
    optional_sum: float,
    min_joint: float,
    prior: float,
    distance: Array,
    joint: Array,
    doubtful: Array,
) -> None:
    """Fills distances (NaN where incomparable), joint visibilities and marks, ``(K,)`` each.

    Args:
        vectors: bits of float16 ``(K, W)``; visibility: ``(K, P)``.
        bounds: ``(P + 1,)``: part p has the columns from ``bounds[p]`` to ``bounds[p + 1]``.
        query: float64 ``(W,)``, not weighted; ``shown``, ``alpha``: ``(P,)`` its visibilities and weights.
        optional: ``(P,)``: parts that are not always visible; ``optional_sum``: their alpha.
    """
    error = (vectors.shape[1] + 32) * 2.0**-51
    for k in range(len(vectors)):
        numerator, total, common = 0.0, 0.0, 0.0
        for p in range(len(alpha)):
            weight = alpha[p] * (shown[p] * np.float64(visibility[k, p]))
            if weight > 0.0:
                numerator += weight * _dot(vectors[k, bounds[p] : bounds[p + 1]], query[bounds[p] : bounds[p + 1]])
            total += weight
            if optional[p]:
                common += weight
        common = common / optional_sum if optional_sum > 0.0 else 1.0
        joint[k] = np.float32(min(max(common, 0.0), 1.0))
        doubtful[k] = 0
        if not (total > 0.0 and common >= min_joint):
            distance[k] = np.float32(np.nan)
            continue
        exact = 1.0 - numerator / (total + prior)
        low = np.float32(min(max(exact - error, 0.0), 2.0))
        high = np.float32(min(max(exact + error, 0.0), 2.0))
        distance[k] = low
        doubtful[k] = low != high or total < FAINT
