"""The scan: one pass over the codes of a block that leaves the rows that can be among the closest.

For each row and query the numerator comes from the int8 codes with a bound of its error, the denominator from the
visibilities in float64, operation by operation as `glimpse.distance` does it, so that both agree on which pairs are
comparable. A heap keeps the ``k`` best scores that rows reach *at least*; a row is kept when the score that it reaches
*at most* is no less than the worst of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int8, int16, int32, int64, uint8
from numpy.typing import NDArray

from server.galleries.engines.kernels import given, kernel, part
from server.galleries.engines.kernels.products import ALONE, COARSE, SHIFT, TOGETHER
from server.galleries.engines.kernels.tile import (
    QUERIES,
    ROWS,
    STEP,
    multiply_four,
    multiply_tile,
    multiply_tile_by_one,
)

CHUNK = 64
"""Rows of one step."""
AHEAD = 16
"""The row so many places later is fetched while one is multiplied."""
TIE = 2.0**-21
"""How far two scores may be apart and still give one float32 distance, and the rounding of the score itself."""
MARGIN = 2.0**-17
"""What the first look, in float32, may be off by."""

IN_TILES = TOGETHER is not None
IN_FOURS = ALONE is not None
"""Whether this processor has the instructions for several queries, and for one."""

# Columns of the numbers of a query.
WORTH, SUM, NORM, ABSOLUTE, LOST, SCALE, MIN_JOINT, OPTIONAL = range(8)

Array = NDArray[Any]


@part
def _sink(heap: Array, size: int, value: float) -> int:
    """Puts a value into a heap with the smallest on top, which keeps the largest ones."""
    if size < len(heap):
        place = size
        while place > 0 and heap[(place - 1) // 2] > value:
            heap[place] = heap[(place - 1) // 2]
            place = (place - 1) // 2
        heap[place] = value
        return size + 1
    if value > heap[0]:
        place = 0
        while True:
            child = 2 * place + 1
            if child >= size:
                break
            if child + 1 < size and heap[child + 1] < heap[child]:
                child += 1
            if heap[child] >= value:
                break
            heap[place] = heap[child]
            place = child
        heap[place] = value
    return size


@part
def threshold(heap: Array, size: int) -> float:
    """What a row must be able to reach. Distances are clipped to [0, 2], so scores beyond 1 tie, and those below -1."""
    if size < len(heap) or heap[0] <= -1.0:
        return -np.inf
    return float(min(heap[0], 1.0))


@part
def _multiply_plainly(codes: Array, rows: Array, queries: Array, spans: Array, out: Array) -> None:
    """``out[q, r] = <row r, query q>`` by loops that every processor does well."""
    for r in range(len(rows)):
        row = codes[rows[r]]
        for q in range(len(queries)):
            query = queries[q]
            total = np.int32(0)
            for s in range(spans.shape[0]):
                # Slices: an index that could be negative keeps a loop from becoming vector instructions.
                part_of_row, part_of_query = row[spans[s, 0] : spans[s, 1]], query[spans[s, 0] : spans[s, 1]]
                for at in range(len(part_of_row)):
                    total += np.int32(part_of_row[at]) * np.int32(part_of_query[at])
            out[q, r] = total


@part
def _multiply_in_tiles(addresses: Array, count: int, queries: Array, tiles: Array, out: Array) -> None:
    """``out[q, r] = <row r + SHIFT, query q>``; addresses beyond ``count`` are of rows that may come next."""
    stride = queries.shape[1] * queries.itemsize
    many = len(queries) >= ROWS * QUERIES
    for r in range(0, count, ROWS):
        row, ahead = addresses.ctypes.data + 8 * r, addresses.ctypes.data + 8 * (r + AHEAD)
        for q in range(0, len(queries), QUERIES):
            there, to = queries.ctypes.data + q * stride, out.ctypes.data + 4 * (q * out.shape[1] + r)
            if many:  # each of the first tiles fetches one of the rows
                one = ahead + 8 * (q // QUERIES) if q < ROWS * QUERIES else row
                multiply_tile_by_one(row, one, there, stride, tiles.ctypes.data, len(tiles), to, out.shape[1])
            else:
                four = ahead if q == 0 else row
                multiply_tile(row, four, there, stride, tiles.ctypes.data, len(tiles), to, out.shape[1])


@part
def _multiply_in_fours(addresses: Array, count: int, query: Array, tiles: Array, out: Array) -> None:
    """``out[0, r] = <row r, query>`` for one query; reads at the speed of the memory, wherever the rows are."""
    for r in range(0, count, ROWS):
        row, ahead = addresses.ctypes.data + 8 * r, addresses.ctypes.data + 8 * (r + AHEAD)
        multiply_four(row, ahead, query.ctypes.data, tiles.ctypes.data, len(tiles), out.ctypes.data + 4 * r)


@part
def _find_addresses(codes: Array, rows: Array, begin: int, tiles: Array, spill: Array, addresses: Array) -> None:
    """The addresses of the rows from ``begin`` on; a row of the array's end is copied where a whole step can follow."""
    width = codes.shape[1]
    for at in range(len(addresses)):
        row = rows[min(begin + at, len(rows) - 1)]
        addresses[at] = codes.ctypes.data + row * width
        if row == len(codes) - 1:
            beyond = False
            for tile in range(len(tiles)):
                beyond |= tiles[tile, 0] + STEP * tiles[tile, 1] > width
            if beyond:
                spill[:width] = codes[row]
                addresses[at] = spill.ctypes.data


@part
def _screen(
    products: Array,
    number: Array,
    correction: int,
    weights: Array,
    prior: float,
    least: float,
    rows: Array,
    seen: Array,
    evidence: Array,
    passing: Array,
) -> int:
    """Marks the rows of a chunk that may reach ``least``, in float32, and counts them.

    All is divided by the query's scale. float32 and the margins below it let a few rows more pass than need to; those
    are looked at again.

    Args:
        products: int32 ``(CHUNK,)``; weights: ``alpha_p vq_p / scale``; rows: ``(4, CHUNK)`` scale, residual, half a
            step and norm; seen: ``(P, CHUNK)`` visibilities; evidence: float32 ``(CHUNK,)``, room.
    """
    bar = np.float32(max(least - MARGIN, -1e30))
    step = np.float32(number[WORTH])
    norm, absolute, lost = np.float32(number[NORM]), np.float32(number[ABSOLUTE]), np.float32(number[LOST])
    evidence[:] = np.float32(min(prior / number[SCALE], 1e30) if number[SCALE] > 0.0 else 0.0)
    for p in range(len(weights)):
        weight = np.float32(weights[p])
        if weight != 0.0:
            visibility = seen[p]
            for r in range(CHUNK):
                evidence[r] += weight * visibility[r]
    widest = np.float32(1.0 + MARGIN)
    scale, residual, half, coded = rows[0], rows[1], rows[2], rows[3]
    count = np.int32(0)
    for r in range(CHUNK):
        # By Cauchy and Schwarz, or by the largest rounding of one code.
        first, second = norm * residual[r], absolute * half[r]
        bound = (first if first < second else second) + lost * coded[r]
        score = np.float32(products[r] - np.int32(correction)) * (step * scale[r])
        reach = score + bound * widest + np.float32(1e-30)
        passing[r] = np.int32(reach >= bar * evidence[r])
        count += passing[r]
    return int(count)


@part
def _drop(kept_rows: Array, kept: Array, count: int, least: float) -> int:
    """Lets go of kept rows that cannot reach ``least``; how many remain."""
    left = 0
    for at in range(count):
        if kept[at] >= least:
            kept_rows[left], kept[left] = kept_rows[at], kept[at]
            left += 1
    return left


@kernel(
    int64(
        *(given(int8, 2), given(float32, 1), given(float32, 1), given(float32, 1), given(float32, 2)),
        *(int64, given(int32, 1), given(uint8, 2), int64),
        *(given(int8, 2), given(int16, 2), given(int64, 2), given(int64, 2)),
        *(given(float64, 2), given(float64, 2), given(uint8, 1), given(float64, 2), float64),
        *(float64[:, ::1], int64[::1], int64[:, ::1], float64[:, ::1], int64[::1]),
    )
)
def scan_block(
    codes: Array,
    scale: Array,
    residual: Array,
    norm: Array,
    visibility: Array,
    first_row: int,
    rows: Array,
    masks: Array,
    begin: int,
    coarse: Array,
    fine: Array,
    spans: Array,
    tiles: Array,
    alpha: Array,
    shown: Array,
    optional: Array,
    numbers: Array,
    prior: float,
    heaps: Array,
    sizes: Array,
    kept_rows: Array,
    kept: Array,
    counts: Array,
) -> int:
    """Scans ``rows[begin:]`` of a block for Q queries, whose heaps and kept rows it goes on with.

    Args:
        codes: int8 ``(B, W)``; with ``scale``, ``residual``, ``norm`` ``(B,)`` and ``visibility`` ``(P, B)``.
        first_row: the row of the gallery that is the block's first; kept rows are counted from the gallery's.
        rows: places in the block.
        masks: ``(Q, len(rows))``: which of them each query may return; empty when all of them.
        coarse, fine: int8 and int16 codes ``(Q rounded up to a tile, W + 64)``, zeros where a query shows nothing; one
            of them has no rows: ``fine`` for several queries if they are `COARSE`, else ``coarse``.
        spans: ``(S, 2)`` first and last columns of what some query shows; ``tiles``: first column and steps of 64.
        alpha, shown: ``(Q, P)`` weights and visibilities of the queries; ``optional``: ``(P,)``.
        numbers: ``(Q, 8)``, see above.
        heaps, sizes: ``(Q, k)`` and ``(Q,)``.
        kept_rows, kept, counts: ``(Q, room)``, the scores that the rows can reach, and ``(Q,)``.

    Returns:
        Where to go on: ``len(rows)``, or earlier when there was no room to keep rows.
    """
    count_queries, parts, room = len(sizes), len(visibility), kept.shape[1]
    alone = count_queries == 1
    shift = SHIFT if not alone else 0
    products = np.empty((len(coarse) + len(fine), CHUNK), np.int32)
    addresses = np.empty(CHUNK + AHEAD, np.int64)
    spill = np.zeros(codes.shape[1] + STEP, np.int8)
    seen = np.zeros((parts, CHUNK), np.float32)
    bounds = np.zeros((4, CHUNK), np.float32)
    passing = np.zeros(CHUNK, np.int32)
    evidence = np.zeros(CHUNK, np.float32)
    weights = np.zeros((count_queries, parts))
    for q in range(count_queries):
        for p in range(parts):
            weights[q, p] = alpha[q, p] * shown[q, p] / numbers[q, SCALE] if numbers[q, SCALE] > 0.0 else 0.0
    while begin < len(rows):
        for q in range(count_queries):
            if counts[q] + CHUNK > room:
                counts[q] = _drop(kept_rows[q], kept[q], counts[q], threshold(heaps[q], sizes[q]))
                if 2 * counts[q] > room or counts[q] + CHUNK > room:
                    return begin
        m = min(CHUNK, len(rows) - begin)
        chunk = rows[begin : begin + m]
        _find_addresses(codes, rows, begin, tiles, spill, addresses)
        if alone:
            if IN_FOURS:
                _multiply_in_fours(addresses, m, fine, tiles, products)
            else:
                _multiply_plainly(codes, chunk, fine[:1], spans, products)
        elif COARSE:
            _multiply_in_tiles(addresses, m, coarse, tiles, products)
        elif IN_TILES:
            _multiply_in_tiles(addresses, m, fine, tiles, products)
        else:
            _multiply_plainly(codes, chunk, fine[:count_queries], spans, products)
        for r in range(m):
            row = chunk[r]
            bounds[0, r], bounds[1, r], bounds[2, r] = scale[row], residual[row], 0.50001 * scale[row] + 2.0**-99
            bounds[3, r] = norm[row]
        for p in range(parts):
            for r in range(m):
                seen[p, r] = visibility[p, chunk[r]]
        for q in range(count_queries):
            number = numbers[q]
            least = threshold(heaps[q], sizes[q])
            correction = shift * int(number[SUM])
            if _screen(products[q], number, correction, weights[q], prior, least, bounds, seen, evidence, passing) == 0:
                continue
            for r in range(m):
                if passing[r] == 0 or (len(masks) > 0 and masks[q, begin + r] == 0):
                    continue
                total, joint = 0.0, 0.0
                for p in range(parts):
                    weight = alpha[q, p] * (shown[q, p] * np.float64(seen[p, r]))
                    total += weight
                    if optional[p]:
                        joint += weight
                if not total > 0.0:
                    continue
                thresholded = number[MIN_JOINT] > 0.0 and number[OPTIONAL] > 0.0
                if thresholded and not joint / number[OPTIONAL] >= number[MIN_JOINT]:
                    continue
                ratio = min(number[SCALE] / (total + prior), 1e300)
                bound = min(number[NORM] * bounds[1, r], number[ABSOLUTE] * bounds[2, r]) + number[LOST] * bounds[3, r]
                score = np.float64(products[q, r] - correction) * (number[WORTH] * bounds[0, r]) * ratio
                slack = bound * ratio + TIE
                # No distance is below 0 or above 2, whatever the bound says.
                most = min(max(score + slack, -1.0), 1.0)
                if most < threshold(heaps[q], sizes[q]):
                    continue
                kept_rows[q, counts[q]], kept[q, counts[q]] = first_row + chunk[r], most
                counts[q] += 1
                sizes[q] = _sink(heaps[q], sizes[q], min(max(score - slack, -1.0), 1.0))
        begin += m
    return begin
