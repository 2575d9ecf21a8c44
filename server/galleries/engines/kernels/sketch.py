"""The scan of the fast engine: the best rows by their two-bit codes, denominators included."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int8, int32, int64, uint8
from numpy.typing import NDArray

from server.galleries.engines.kernels import VNNI, given, kernel, part
from server.galleries.engines.kernels.pieces import multiply_row, multiply_row_plainly
from server.galleries.engines.kernels.scan import CHUNK, _drop, _sink
from server.galleries.engines.kernels.tile import prefetch

AHEAD = 24

Array = NDArray[Any]


@part
def _gather(column: Array, places: Array, into: Array) -> None:
    """``into[r] = column[places[r]]`` for ascending places; mostly they are side by side."""
    first, count = places[0], len(places)
    if places[count - 1] - first == count - 1:
        into[:count] = column[first : first + count]
    else:
        for r in range(count):
            into[r] = column[places[r]]


@kernel(
    int64(
        *(given(uint8, 2), given(float32, 2), given(float32, 2), int64, given(int32, 1)),
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
    weights = np.zeros((CHUNK, parts), np.float32)
    seen, worth = np.zeros((parts, CHUNK), np.float32), np.zeros(CHUNK, np.float32)
    evidence, middles = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    least = heap[0] if size == len(heap) else -np.inf
    for begin in range(0, len(rows), CHUNK):
        chunk = rows[begin : begin + CHUNK]
        m = len(chunk)
        evidence[:] = 0.0
        middles[:] = 0.0
        for p in range(parts):
            _gather(visibility[p], chunk, seen[p])
            share = shares[p]
            for r in range(CHUNK):
                evidence[r] += share * seen[p, r]
        for p in range(parts):
            if steps[p] > 0.0:
                _gather(factors[p], chunk, worth)
                column, share, step, offset = seen[p], shares[p], steps[p], offsets[p]
                for r in range(CHUNK):
                    worth[r] = step * worth[r] if share * column[r] > limit * evidence[r] else np.float32(0.0)
                    middles[r] += worth[r] * offset
                for r in range(m):
                    weights[r, p] = worth[r]
        for r in range(m):
            row = chunk[r]
            ahead = codes.ctypes.data + rows[min(begin + r + AHEAD, len(rows) - 1)] * codes.shape[1]
            for line in range(0, codes.shape[1], 64):
                prefetch(ahead + line)
            if VNNI:
                score = multiply_row(
                    codes.ctypes.data + row * codes.shape[1],
                    query.ctypes.data,
                    bounds.ctypes.data,
                    weights.ctypes.data + 4 * parts * r,
                    parts,
                )
            else:
                score = np.float32(multiply_row_plainly(codes[row], query, bounds, weights[r]))
            reached = np.float64(score - middles[r]) / max(np.float64(evidence[r] + least_evidence), 1e-300)
            if reached <= least:
                continue
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
