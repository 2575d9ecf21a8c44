"""Int8 codes of stored items, with bounds that make a scan over them provable.

An item's right-hand side of the numerator is ``G = concat(vg_p g_p)``. Its code is ``round(G / scale)`` with one scale
a row, so that one integer accumulator runs over all parts; a part that the row does not show is zeros. What rounding
lost is kept as a number that is never too small: for every query ``Q`` and its own rounding ``Qhat``

    |<Q, G> - <Qhat, scale * codes>|  <=  |Q| * residual + |Q - Qhat| * norm          (Cauchy-Schwarz)

where ``residual >= |G - scale * codes|`` and ``norm >= |scale * codes|``. Nothing is trained on the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.items import MAX_NORM, Float16, Int64, decode

Int8 = NDArray[np.int8]

LEVELS = 127
VISIBLE = 0.5
"""A part counts as visible in a row's pattern from this visibility on."""
_FAINT = 2.0**-100
"""Rows whose largest value is smaller are coded as zeros: their scale would not be a normal float32."""
_CELLS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class RowCodes:
    """The codes of B rows; see the module for what they promise."""

    codes: Int8
    """``(B, sum_p D_p)`` in [-127, 127], C-contiguous."""
    scale: Float32
    """``(B,)``."""
    residual: Float32
    """``(B,)``: at least ``|G - scale * codes|``."""
    norm: Float32
    """``(B,)``: at least ``|scale * codes|``."""

    def __len__(self) -> int:
        return len(self.scale)

    @classmethod
    def empty(cls, rows: int, width: int) -> RowCodes:
        """Room for the codes of ``rows`` rows."""
        columns = (np.empty(rows, np.float32) for _ in range(3))
        return cls(np.empty((rows, width), np.int8), *columns)


def encode(vectors: Float16, visibility: Float32, schema: PartSchema) -> RowCodes:
    """The codes of rows with these vectors ``(B, sum_p D_p)``, finite and of part norms up to 1.01, and visibilities
    ``(B, P)`` in [0, 1]."""
    result = RowCodes.empty(len(vectors), schema.width)
    dims = np.array(schema.dims)
    step = max(1, _CELLS_AT_ONCE // schema.width)  # rows that stay in the processor's cache
    for start in range(0, len(vectors), step):
        rows = slice(start, start + step)
        weighted = decode(vectors[rows], np.repeat(visibility[rows], dims, axis=1))  # [b, sum D]
        _encode(weighted, visibility[rows], rows, result)
    return result


def _encode(weighted: Float32, visibility: Float32, rows: slice, result: RowCodes) -> None:
    peak = np.maximum(weighted.max(axis=1), -weighted.min(axis=1))  # [b]
    scale = np.where(peak > _FAINT, peak / LEVELS, 0).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    rounded = weighted * inverse[:, None]
    np.rint(rounded, out=rounded)
    np.clip(rounded, -LEVELS, LEVELS, out=rounded)
    result.codes[rows] = rounded
    result.scale[rows] = scale
    rounded *= scale[:, None]
    weighted -= rounded
    # Of n squares the float32 sum is off by less than a share of n / 2^24; a few operations before it round by 2^-24
    # of the row's norm each; and a sum of squares loses what underflows, at most 2^-126 each.
    share = 1 + 2.0**-20 + rounded.shape[1] * 2.0**-23
    whole = MAX_NORM * np.sqrt((visibility.astype(np.float64) ** 2).sum(axis=1))  # at least |G|
    lost = np.sqrt(np.einsum("nd,nd->n", weighted, weighted, dtype=np.float32).astype(np.float64)) * share
    lost += whole * 2.0**-21 + np.sqrt(rounded.shape[1]) * 2.0**-62
    coded = np.sqrt(np.einsum("nd,nd->n", rounded, rounded, dtype=np.float32).astype(np.float64)) * share
    coded += coded * 2.0**-20 + np.sqrt(rounded.shape[1]) * 2.0**-62
    result.residual[rows] = np.where(scale > 0, lost, whole) * (1 + 2.0**-20) + 2.0**-120
    result.norm[rows] = np.where(scale > 0, coded, 0.0) * (1 + 2.0**-20)


def pattern_order(visibility: Float32) -> Int64:
    """The order in which rows with these visibilities ``(B, P)`` are best sealed: by the parts they show, so that a
    scan can pass over stretches that hide a part."""
    seen = visibility >= VISIBLE
    # The rarest combinations of the last parts end up together; the first part is the most significant.
    return np.lexsort(seen.T[::-1]).astype(np.int64)
