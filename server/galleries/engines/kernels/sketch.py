"""The scan of the fast engine: the best rows by their two-bit codes, denominators included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int8, int32, int64, uint8
from numpy.typing import NDArray

from server.galleries.engines.kernels import given, kernel, part
from server.galleries.engines.kernels.pieces import PIECES, ROWS, multiply_pieces, multiply_pieces_plainly
from server.galleries.engines.kernels.scan import _drop, _sink

CHUNK = 256
"""Rows of one step."""

Array = NDArray[Any]


@part
def _gather(column: Array, places: Array, into: Array) -> None:
    """``into[r] = column[places[r]]`` for ascending places; mostly they are side by side."""
    first, count = places[0], len(places)
    if places[count - 1] - first == count - 1:
        source = column[first : first + count]
        for r in range(count):
            into[r] = source[r]
    else:
        for r in range(count):
            into[r] = column[places[r]]


@part
def _weigh(share: Any, step: Any, limit: Any, seen: Array, evidence: Array, worth: Array) -> int:
    """Makes the weights of a part's products of its factors, in place; of how many rows they are above 0."""
    count = np.int32(0)
    for r in range(CHUNK):
        shown = np.int32(share * seen[r] > limit * evidence[r])
        worth[r] = step * worth[r] * np.float32(shown)
        count += shown
    return int(count)


@part
def _reach(scores: Array, evidence: Array, least_evidence: Any, bar: Any) -> int:
    """Divides numerators by denominators, in place; how many of the scores are above ``bar``."""
    count = np.int32(0)
    for r in range(CHUNK):
        scores[r] /= max(evidence[r] + least_evidence, np.float32(1e-30))
        count += np.int32(scores[r] > bar)
    return int(count)


@kernel(
    int64(
        *(given(uint8, 3), given(float32, 2), given(float32, 2), int64, given(int32, 1)),
        *(given(int8, 3), given(int64, 1), given(float32, 1), given(float32, 1)),
        *(given(float64, 1), given(float64, 1), given(uint8, 1), float64, float64, float64, float64, float64),
        *(float64[::1], int64, int64[::1], float64[::1], int64[::1]),
    )
)
def scan_compact(
    codes: Array,
    factors: Array,
    visibility: Array,
    first_row: int,
    rows: Array,
    query: Array,
    bounds: Array,
    steps: Array,
    offsets: Array,
    alpha: Array,
    shown: Array,
    optional: Array,
    optional_sum: float,
    min_joint: float,
    scale: float,
    prior: float,
    faint: float,
    heap: Array,
    size: int,
    kept_rows: Array,
    kept: Array,
    counts: Array,
) -> int:
    """Goes through ``rows`` (places in the block) for one query; how full the heap is then.

    Args:
        codes, factors: of `server.galleries.compact.compress`; visibility ``(P, B)``.
        query: int8 ``(pieces, 4, 64)``; bounds: ``(P + 1,)`` pieces of the parts.
        steps: float32 ``(P,)`` what a code of the query is worth, its part's weight included; 0 for hidden parts.
        offsets: float32 ``(P,)`` the query's sum times the middle of the codes.
        scale: what numerators were divided by; faint: parts of less weight than this share of the row's are left out.
        heap: the best scores so far; kept_rows, kept, counts: room for twice as many rows and their scores.
    """
    parts = len(alpha)
    shares = np.zeros(parts, np.float32)
    for p in range(parts):
        shares[p] = alpha[p] * shown[p] / scale if scale > 0.0 else 0.0
    least_evidence = np.float32(min(prior / scale, 1e30) if scale > 0.0 else 0.0)
    limit = np.float32(faint)
    seen, worth = np.zeros((parts, CHUNK), np.float32), np.zeros(CHUNK, np.float32)
    evidence, scores = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    places, products = np.zeros(CHUNK, np.int32), np.zeros(CHUNK, np.int32)
    least = heap[0] if size == len(heap) else -np.inf
    for begin in range(0, len(rows), CHUNK):
        chunk = rows[begin : begin + CHUNK]
        m = len(chunk)
        places[:m] = chunk
        places[m:] = chunk[m - 1]
        evidence[:] = 0.0
        scores[:] = 0.0
        for p in range(parts):
            if shares[p] > 0.0:
                _gather(visibility[p], places, seen[p])
                column, share = seen[p], shares[p]
                for r in range(CHUNK):
                    evidence[r] += share * column[r]
        for p in range(parts):
            if not steps[p] > 0.0:
                continue
            _gather(factors[p], places, worth)
            if _weigh(shares[p], steps[p], limit, seen[p], evidence, worth) == 0:
                continue
            products[:] = 0
            for at in range(bounds[p], bounds[p + 1]):
                if PIECES:
                    multiply_pieces(
                        codes.ctypes.data + at * codes.shape[1] * codes.shape[2],
                        places.ctypes.data,
                        CHUNK // ROWS,
                        query.ctypes.data + at * query.shape[1] * query.shape[2],
                        products.ctypes.data,
                    )
                else:
                    multiply_pieces_plainly(codes[at], places, query[at], products)
            offset = offsets[p]
            for r in range(CHUNK):
                scores[r] += worth[r] * (np.float32(products[r]) - offset)
        if _reach(scores, evidence, least_evidence, np.float32(least)) == 0:
            continue
        for r in range(m):
            reached = np.float64(scores[r])
            if reached <= least:
                continue
            row = chunk[r]
            total, joint = 0.0, 0.0
            for p in range(parts):
                weight = alpha[p] * (shown[p] * np.float64(visibility[p, row]))
                total += weight
                if optional[p]:
                    joint += weight
            if not total > 0.0 or (optional_sum > 0.0 and joint / optional_sum < min_joint):
                continue
            if counts[0] == len(kept):
                counts[0] = _drop(kept_rows, kept, counts[0], least)
                if counts[0] == len(kept):
                    continue  # as many equal scores: any of them will do
            kept_rows[counts[0]], kept[counts[0]] = first_row + row, reached
            counts[0] += 1
            size = _sink(heap, size, reached)
            least = heap[0] if size == len(heap) else -np.inf
    return size
