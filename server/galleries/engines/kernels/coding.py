"""Rows on their way in: their norms, int8 codes when they are added, two-bit ones when they are sealed.

What they are is said in `server.galleries.codes` and `server.galleries.compact`. A row stays in the first cache
while it is gone over several times, by loops that each become vector instructions.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import float32, float64, int8, int16, int64, uint8
from numpy.typing import NDArray

from server.galleries.engines.kernels import given, kernel, part, summing
from server.galleries.engines.kernels.rescore import SIGN_AND_VALUE

PLACES = 256
"""That are turned together."""
QUARTER = PLACES // 4
BIAS = np.float32(2.0**112)
"""What bits of a float16 in a float32's place are to be multiplied by."""
VALUE = np.int32(0x7FFFFFFF)
ROUNDING = np.float32(1.5 * 2**23)
"""Added and taken away again, it rounds small numbers to the nearest even integer."""
LEVELS = np.float32(127)

Array = NDArray[Any]


@part
def _widen(half: Array, factor: Any, into: Array) -> None:
    """``into = factor * half``, the factor holding `BIAS`."""
    for d in range(len(half)):
        bits = np.int32((np.int32(half[d]) << 13) & SIGN_AND_VALUE)
        into[d] = bits.view(np.float32) * factor


@summing
def _product(some: Array, others: Array) -> float:
    total = np.float32(0)
    for d in range(len(some)):
        total += some[d] * others[d]
    return np.float64(total)


@kernel(numba.void(given(int16, 2), given(int64, 1), float32[:, ::1]))
def measure_rows(vectors: Array, bounds: Array, squares: Array) -> None:
    """Fills the squared norms ``(B, P)`` of parts; those of parts that are not finite are larger than any.

    Args:
        vectors: bits of float16 ``(B, W)``; bounds: ``(P + 1,)`` of the columns of each part.
    """
    row = np.empty(vectors.shape[1], np.float32)
    for b in range(len(vectors)):
        _widen(vectors[b], BIAS, row)
        for p in range(len(bounds) - 1):
            values = row[bounds[p] : bounds[p + 1]]
            squares[b, p] = _product(values, values)


@part
def _round(values: Array, inverse: Any, scale: Any, codes: Array, coded: Array) -> None:
    """Codes of a row's values and, in place, what they lose; ``coded`` gets what they say."""
    for d in range(len(values)):
        coded[d] = (values[d] * inverse + ROUNDING) - ROUNDING
    for d in range(len(values)):
        codes[d] = np.int8(np.int32(coded[d]))
    for d in range(len(values)):
        coded[d] *= scale
        values[d] -= coded[d]


@kernel(
    numba.void(
        *(given(int16, 2), given(float32, 2), given(int64, 1), float64, float64),
        *(int8[:, ::1], float32[::1], float32[::1], float32[::1]),
    )
)
def encode_rows(
    vectors: Array,
    visibility: Array,
    bounds: Array,
    longest: float,
    faint: float,
    codes: Array,
    scales: Array,
    residuals: Array,
    norms: Array,
) -> None:
    """Fills codes ``(B, W)``, scales and error bounds ``(B,)``.

    Args:
        vectors: bits of float16 ``(B, W)``; visibility: ``(B, P)``.
        bounds: ``(P + 1,)``: part p has the columns from ``bounds[p]`` to ``bounds[p + 1]``.
        longest: what the norm of a part may be; faint: rows without a larger value are zeros.
    """
    width = vectors.shape[1]
    row, coded = np.empty(width, np.float32), np.empty(width, np.float32)
    bits = row.view(np.int32)
    share = 1 + 2.0**-20 + width * 2.0**-23
    least = np.sqrt(float64(width)) * 2.0**-62
    for b in range(len(vectors)):
        shown = 0.0
        for p in range(len(bounds) - 1):
            part_of = vectors[b, bounds[p] : bounds[p + 1]]
            _widen(part_of, visibility[b, p] * BIAS, row[bounds[p] : bounds[p + 1]])
            shown += np.float64(visibility[b, p]) ** 2
        largest = np.int32(0)
        for d in range(width):  # of numbers above 0 the bits are in the same order
            largest = np.int32(max(largest, bits[d] & VALUE))
        peak = np.int32(largest).view(np.float32)
        most = longest * np.sqrt(shown)
        if not peak > faint:
            for d in range(width):
                codes[b, d] = 0
            scales[b], norms[b] = 0, 0
            residuals[b] = np.float32(most * (1 + 2.0**-20) + 2.0**-120)
            continue
        scale = peak / LEVELS
        inverse = np.float32(1) / scale
        _round(row, inverse, scale, codes[b], coded)
        scales[b] = scale
        residual = np.sqrt(_product(row, row)) * share + most * 2.0**-21 + least
        norm = np.sqrt(_product(coded, coded)) * share
        residuals[b] = np.float32(residual * (1 + 2.0**-20) + 2.0**-120)
        norms[b] = np.float32((norm * (1 + 2.0**-20) + least) * (1 + 2.0**-20))


@part
def _turn(values: Array, spare: Array) -> None:
    """A Hadamard transform of 256 values, not scaled: eight times the same step, each of which also turns the bits of
    the places round by one (Pease 1968)."""
    half = PLACES // 2
    for _ in range(4):
        for i in range(half):
            one, other = values[i], values[half + i]
            spare[2 * i] = one + other
            spare[2 * i + 1] = one - other
        for i in range(half):
            one, other = spare[i], spare[half + i]
            values[2 * i] = one + other
            values[2 * i + 1] = one - other


@part
def _pack(values: Array, inverse: Any, levels: Array, into: Array) -> None:
    """The codes of 256 values, four a byte; ``levels`` gets where they lie."""
    for place in range(PLACES):
        level = values[place] * inverse
        code = np.int32(level >= -1) + np.int32(level >= 0) + np.int32(level >= 1)
        levels[place] = np.float32(code) - np.float32(1.5)
    for place in range(QUARTER):
        code = np.int32(0)
        for quarter in range(4):
            code += np.int32(levels[quarter * QUARTER + place] + np.float32(1.5)) << (2 * quarter)
        into[place] = np.uint8(code)


@kernel(
    numba.void(
        *(given(int16, 2), given(float32, 2), given(int64, 1), given(int64, 1), given(float32, 1), float64),
        *(int64, uint8[:, :, ::1], float32[:, ::1]),
    )
)
def compress_rows(
    vectors: Array,
    visibility: Array,
    bounds: Array,
    pieces: Array,
    signs: Array,
    step: float,
    start: int,
    codes: Array,
    factors: Array,
) -> None:
    """Fills the rows from ``start`` on of codes ``(pieces, N, 64)`` and factors ``(P, N)``.

    Args:
        vectors: bits of float16 ``(B, W)``; visibility: ``(B, P)``.
        bounds: ``(P + 1,)`` of the columns of each part; pieces: ``(P + 1,)`` of its pieces.
        signs: ``(256,)``: 1/16 or -1/16, by which values are multiplied before they are turned.
        step: between two levels, in standard deviations.
    """
    most = 0
    for p in range(len(pieces) - 1):
        most = max(most, pieces[p + 1] - pieces[p])
    values, levels = np.empty(PLACES * most, np.float32), np.empty(PLACES * most, np.float32)
    spare = np.empty(PLACES, np.float32)
    for b in range(len(vectors)):
        for p in range(len(pieces) - 1):
            first, last, dim = pieces[p], pieces[p + 1], bounds[p + 1] - bounds[p]
            size = PLACES * (last - first)
            _widen(vectors[b, bounds[p] : bounds[p + 1]], BIAS, values[:dim])
            for place in range(dim, size):
                values[place] = 0
            for at in range(0, size, PLACES):
                piece = values[at : at + PLACES]
                for place in range(PLACES):
                    piece[place] *= signs[place]
                _turn(piece, spare)
            squares = _product(values[:size], values[:size])
            size_of_step = np.float32(step * np.sqrt(squares / size))
            inverse = np.float32(1) / size_of_step if size_of_step > 0 else np.float32(0)
            for at in range(last - first):
                places = slice(PLACES * at, PLACES * at + PLACES)
                _pack(values[places], inverse, levels[places], codes[first + at, start + b])
            along = _product(values[:size], levels[:size])
            factors[p, start + b] = np.float32(squares / along) * visibility[b, p] if along > 0 else np.float32(0)
