"""The codes of rows in plain NumPy, as their modules define them: what the kernels are held against."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.compact import MIDDLE, PIECE, STEP, pieces, spread
from server.galleries.items import Float16

FAINT = 2.0**-100


def int8_codes(vectors: Float16, visibility: Float32, schema: PartSchema) -> tuple[NDArray[np.int8], Float32]:
    """Codes ``(B, W)`` and scales ``(B,)``."""
    weighted = vectors.astype(np.float32) * np.repeat(visibility, schema.dims, axis=1)
    peak = np.abs(weighted).max(axis=1)
    scale = np.where(peak > FAINT, peak / np.float32(127), 0).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.rint(weighted * inverse[:, None]).astype(np.int8), scale


def two_bit_codes(vectors: Float16, visibility: Float32, schema: PartSchema) -> dict[str, NDArray[Any]]:
    """``levels`` ``(B, pieces, 256)`` and ``factors`` ``(P, B)``."""
    turned = spread(vectors.astype(np.float32), schema)  # [B, pieces, 256]
    levels = np.zeros(turned.shape, np.float32)
    factors = np.zeros((len(schema), len(vectors)), np.float32)
    for p, (first, last) in enumerate(pairwise(pieces(schema).tolist())):
        part = turned[:, first:last].reshape(len(turned), -1)
        squares = np.einsum("nd,nd->n", part, part)
        step = STEP * np.sqrt(squares / part.shape[1])
        inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
        coded = np.clip(np.floor(part * inverse[:, None]), -2, 1) + np.float32(0.5)
        levels[:, first:last] = coded.reshape(len(part), -1, 4 * PIECE)
        along = np.einsum("nd,nd->n", part, coded)
        factors[p] = np.divide(squares, along, out=np.zeros_like(squares), where=along > 0) * visibility[:, p]
    return {"levels": levels, "factors": factors}


def unpacked(codes: NDArray[np.uint8]) -> Float32:
    """The levels ``(B, pieces, 256)`` that codes ``(pieces, B, 64)`` say."""
    quarters = np.stack([codes.swapaxes(0, 1) >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    return quarters.reshape(codes.shape[1], -1, 4 * PIECE).astype(np.float32) - np.float32(MIDDLE)
