"""Two-bit codes of sealed rows for the fast engine: a quarter of the int8 codes, and 64 bytes hold 256 dimensions.

Each part of a row is coded by itself, ``g_p ~ factor * (code - 1.5)`` with codes 0 to 3: with one scale a row, as the
int8 codes have, a faintly visible part would leave nothing. The step is the best one for normally distributed values
(Max 1960), which a fixed rotation makes of any; the factor makes the code's projection on the part as long as the
part, which keeps inner products unbiased (RaBitQ, Gao and Long 2024). Nothing is trained on the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.items import Float16, Int64, column_bounds

PIECE = 64
"""Bytes of a row that are multiplied at a time; each part fills whole pieces. Those of one part lie row behind row: a
scan reads the parts that its query shows, each in one go."""
STEP = 0.9957
"""Of a two-bit uniform quantiser, in standard deviations."""
MIDDLE = 1.5


def pieces(schema: PartSchema) -> Int64:
    """``(P + 1,)``: part p has the pieces from the p-th number to the next."""
    return np.cumsum([0, *(-(-dim // (4 * PIECE)) for dim in schema.dims)], dtype=np.int64)


def room(rows: int, schema: PartSchema) -> dict[str, NDArray[Any]]:
    """Unfilled arrays for `compress`.

    Returns:
        ``codes``: uint8 ``(pieces, B, 64)``; bits 2i and 2i + 1 of byte j of a part's piece are place
        ``64 i + j`` of the 256 that `spread` puts there. ``factors``: float32 ``(P, B)``, visibility times factor.
    """
    codes = np.empty((int(pieces(schema)[-1]), rows, PIECE), np.uint8)
    return {"codes": codes, "factors": np.empty((len(schema), rows), np.float32)}


def compress(
    vectors: Float16,
    visibility: Float32,
    schema: PartSchema,
    into: Mapping[str, NDArray[Any]] | None = None,
    start: int = 0,
) -> Mapping[str, NDArray[Any]]:
    """The arrays of a sealed block of rows with these vectors ``(B, sum_p D_p)`` and visibilities ``(B, P)``; written
    ``into`` the rows from ``start`` on of larger ones, if given."""
    from server.galleries.engines.kernels.coding import compress_rows

    result = room(len(vectors), schema) if into is None else into
    compress_rows(
        *(np.ascontiguousarray(vectors).view(np.int16), np.ascontiguousarray(visibility), column_bounds(schema)),
        *(pieces(schema), _signs() / np.sqrt(np.float32(4 * PIECE)), STEP, start, result["codes"], result["factors"]),
    )
    return result


def spread(vectors: Float32, schema: PartSchema) -> Float32:
    """Rows ``(N, sum_p D_p)`` in the places of their codes, turned: ``(N, pieces, 256)``."""
    bounds = pieces(schema).tolist()
    placed = np.zeros((len(vectors), bounds[-1] * 4 * PIECE), np.float32)
    for first, dim, columns in zip(bounds[:-1], schema.dims, schema.slices, strict=True):
        placed[:, first * 4 * PIECE : first * 4 * PIECE + dim] = vectors[:, columns]
    return (placed.reshape(-1, 4 * PIECE) @ _turn()).reshape(len(vectors), -1, 4 * PIECE)


@cache
def _turn() -> Float32:
    """An orthogonal matrix ``(256, 256)`` that spreads every value over all places: random signs and a Hadamard
    matrix. Without it a few dimensions with most of the variance would be cut off by the largest code."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < 4 * PIECE:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.ascontiguousarray(_signs()[:, None] * matrix / np.sqrt(np.float32(4 * PIECE)), np.float32)


def _signs() -> Float32:
    """1 or -1 for each place, the same for ever."""
    return np.where(np.random.PCG64(256).random_raw(4 * PIECE) >> np.uint64(63), 1, -1).astype(np.float32)
