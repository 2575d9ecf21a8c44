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
from server.galleries.items import MAX_NORM, Float16, Int64, column_bounds

Int8 = NDArray[np.int8]

VISIBLE = 0.5
"""A part counts as visible in a row's pattern from this visibility on."""
_FAINT = 2.0**-100
"""Rows whose largest value is smaller are coded as zeros: their scale would not be a normal float32."""


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

    def __getitem__(self, rows: slice) -> RowCodes:
        """These rows; the arrays are views."""
        return RowCodes(self.codes[rows], self.scale[rows], self.residual[rows], self.norm[rows])

    @classmethod
    def empty(cls, rows: int, width: int) -> RowCodes:
        """Room for the codes of ``rows`` rows."""
        columns = (np.empty(rows, np.float32) for _ in range(3))
        return cls(np.empty((rows, width), np.int8), *columns)


def encode(vectors: Float16, visibility: Float32, schema: PartSchema, into: RowCodes | None = None) -> RowCodes:
    """The codes of rows with these vectors ``(B, sum_p D_p)``, finite and of part norms up to 1.01, and visibilities
    ``(B, P)`` in [0, 1]; written ``into`` room for as many, if given."""
    from server.galleries.engines.kernels.coding import encode_rows

    result = RowCodes.empty(len(vectors), schema.width) if into is None else into
    encode_rows(
        *(np.ascontiguousarray(vectors).view(np.int16), np.ascontiguousarray(visibility), column_bounds(schema)),
        *(MAX_NORM, _FAINT, result.codes, result.scale, result.residual, result.norm),
    )
    return result


def pattern_order(visibility: Float32) -> Int64:
    """The order in which rows with these visibilities ``(B, P)`` are best sealed: by the parts they show, so that a
    scan can pass over stretches that hide a part."""
    seen = visibility >= VISIBLE
    # The rarest combinations of the last parts end up together; the first part is the most significant.
    return np.lexsort(seen.T[::-1]).astype(np.int64)
