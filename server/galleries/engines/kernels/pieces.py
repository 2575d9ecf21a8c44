"""The inner product of one row of two-bit codes with one query, by AVX-512 VNNI or by plain loops.

A piece of 64 bytes is shifted and masked into four vectors of codes 0 to 3, which ``vpdpbusd`` multiplies with int8
codes of the query; the sums of a part are weighted as floats, and added across once for the row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from server.galleries.engines.kernels import part

PIECE = 64
_BYTE, _LONG, _FLOAT = ir.IntType(8), ir.IntType(64), ir.FloatType()
_BYTES, _SHORTS = ir.VectorType(_BYTE, PIECE), ir.VectorType(ir.IntType(16), PIECE // 2)
_SUMS, _FLOATS = ir.VectorType(ir.IntType(32), 16), ir.VectorType(_FLOAT, 16)

Array = NDArray[Any]


@intrinsic
def multiply_row(typing_context, row, query, bounds, weights, parts):  # type: ignore[no-untyped-def]
    """``sum_p weights[p] * <codes of part p, query>`` over parts of weight above 0; arguments are addresses, and how
    many parts there are; bounds are pieces, see `server.galleries.compact`."""
    signature = types.float32(*[types.int64] * 5)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        row, query, bounds, weights, parts = arguments
        product = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES]), "llvm.x86.avx512.vpdpbusd.512"
        )
        add_across = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS]), "llvm.vector.reduce.fadd.v16f32"
        )
        lowest = ir.Constant(_BYTES, [3] * PIECE)

        def load(address: Any, kind: Any) -> Any:
            value = builder.load(builder.inttoptr(address, kind.as_pointer()))
            value.align = 1
            return value

        total = cgutils.alloca_once(builder, _FLOATS)
        builder.store(ir.Constant(_FLOATS, [0.0] * 16), total)
        sums = cgutils.alloca_once(builder, _SUMS)
        with cgutils.for_range(builder, parts) as loop:
            weight = load(builder.add(weights, builder.mul(loop.index, _LONG(4))), _FLOAT)
            with builder.if_then(builder.fcmp_ordered(">", weight, ir.Constant(_FLOAT, 0.0))):
                here = builder.add(bounds, builder.mul(loop.index, _LONG(8)))
                first, last = load(here, _LONG), load(builder.add(here, _LONG(8)), _LONG)
                builder.store(ir.Constant(_SUMS, [0] * 16), sums)
                with cgutils.for_range(builder, builder.sub(last, first)) as inner:
                    at = builder.add(first, inner.index)
                    piece = load(builder.add(row, builder.mul(at, _LONG(PIECE))), _SHORTS)
                    source = builder.add(query, builder.mul(at, _LONG(4 * PIECE)))
                    for quarter in range(4):
                        shift = ir.Constant(_SHORTS, [2 * quarter] * (PIECE // 2))
                        codes = builder.and_(builder.bitcast(builder.lshr(piece, shift), _BYTES), lowest)
                        values = load(builder.add(source, _LONG(PIECE * quarter)), _BYTES)
                        builder.store(builder.call(product, [builder.load(sums), codes, values]), sums)
                scalar = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), weight, ir.IntType(32)(0))
                spread = builder.shuffle_vector(scalar, scalar, ir.Constant(_SUMS, [0] * 16))
                weighted = builder.fmul(builder.sitofp(builder.load(sums), _FLOATS), spread)
                builder.store(builder.fadd(builder.load(total), weighted), total)
        call = builder.call(add_across, [ir.Constant(_FLOAT, -0.0), builder.load(total)], fastmath=("reassoc",))
        return call

    return signature, generate


@part
def multiply_row_plainly(row: Array, query: Array, bounds: Array, weights: Array) -> float:
    """The same by loops: ``row`` uint8 ``(64 * pieces,)``, ``query`` int8 ``(pieces, 4, 64)``."""
    total = np.float32(0.0)
    for p in range(len(weights)):
        if weights[p] > 0.0:
            products = np.int32(0)
            for at in range(bounds[p], bounds[p + 1]):
                piece = row[at * PIECE : at * PIECE + PIECE]
                for quarter in range(4):
                    values = query[at, quarter]
                    for j in range(PIECE):
                        products += np.int32((piece[j] >> (2 * quarter)) & 3) * np.int32(values[j])
            total += weights[p] * np.float32(products)
    return float(total)
