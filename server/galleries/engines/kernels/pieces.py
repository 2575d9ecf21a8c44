"""Inner products of the two-bit codes of one part with one query, by AVX-512 VNNI or by plain loops.

A piece of 64 bytes is shifted and masked into four vectors of codes 0 to 3, which ``vpdpbusd`` multiplies with int8
codes of the query. Four rows go together, so that their sums are added across in one tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from server.galleries.engines.kernels import part
from server.galleries.engines.kernels.tile import prefetching, sums_of_four

PIECE = 64
ROWS = 4
_AHEAD = 128 * PIECE
"""The piece so many bytes later is fetched into the cache while one is multiplied."""
_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _SHORTS = ir.VectorType(_BYTE, PIECE), ir.VectorType(ir.IntType(16), PIECE // 2)
_SUMS, _FOUR = ir.VectorType(_INT, 16), ir.VectorType(_INT, ROWS)

Array = NDArray[Any]


@intrinsic
def multiply_pieces(typing_context, pieces, places, fours, query, products):  # type: ignore[no-untyped-def]
    """``products[r] += <codes of row places[r], query>`` for four rows at a time; all arguments are int64.

    Args:
        pieces: address of uint8 ``(B, 64)``; places: of int32 ``(4 * fours,)``.
        query: address of int8 ``(4, 64)``; products: of int32 ``(4 * fours,)``.
    """
    signature = types.void(*[types.int64] * 5)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pieces, places, fours, query, products = arguments
        product = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES]), "llvm.x86.avx512.vpdpbusd.512"
        )
        fetch = prefetching(builder)
        lowest = ir.Constant(_BYTES, [3] * PIECE)

        def load(address: Any, kind: Any, align: int = 1) -> Any:
            value = builder.load(builder.inttoptr(address, kind.as_pointer()))
            value.align = align
            return value

        values = [load(builder.add(query, _LONG(PIECE * quarter)), _BYTES) for quarter in range(4)]
        with cgutils.for_range(builder, fours) as loop:
            offset = builder.mul(loop.index, _LONG(4 * ROWS))
            sums = []
            for r in range(ROWS):
                place = load(builder.add(places, builder.add(offset, _LONG(4 * r))), _INT, 4)
                address = builder.add(pieces, builder.mul(builder.sext(place, _LONG), _LONG(PIECE)))
                fetch(builder.add(address, _LONG(_AHEAD)))
                piece = load(address, _SHORTS)
                total = ir.Constant(_SUMS, [0] * 16)
                for quarter in range(4):
                    shift = ir.Constant(_SHORTS, [2 * quarter] * (PIECE // 2))
                    codes = builder.and_(builder.bitcast(builder.lshr(piece, shift), _BYTES), lowest)
                    total = builder.call(product, [total, codes, values[quarter]])
                sums.append(total)
            target = builder.add(products, offset)
            added = builder.add(load(target, _FOUR, 4), sums_of_four(builder, sums))
            builder.store(added, builder.inttoptr(target, _FOUR.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, generate


@part
def multiply_pieces_plainly(pieces: Array, places: Array, query: Array, products: Array) -> None:
    """The same by loops: ``pieces`` uint8 ``(B, 64)``, ``query`` int8 ``(4, 64)``."""
    for r in range(len(places)):
        piece, total = pieces[places[r]], np.int32(0)
        for quarter in range(4):
            values = query[quarter]
            for j in range(PIECE):
                total += np.int32((piece[j] >> (2 * quarter)) & 3) * np.int32(values[j])
        products[r] += total
