"""Inner products of the two-bit codes of one part with one query, by AVX-512 VNNI, by AVX2 or by plain loops.

A piece of 64 bytes is shifted and masked into four times as many codes 0 to 3, which are multiplied as bytes with int8
codes of the query: ``vpdpbusd`` adds to sums of 32 bits; ``vpmaddubsw`` to sums of 16, which hold a whole piece because
such codes are small. Four rows go together, so that their sums are added across in one tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from server.galleries.engines.kernels import AVX2, VNNI, part
from server.galleries.engines.kernels.products import BYTE, INT, LONG, SHORT, load, prefetching, sums_of_four

PIECE = 64
ROWS = 4
PIECES = VNNI or AVX2
"""Whether this processor has the instructions of `multiply_pieces`."""
_BYTES = 64 if VNNI else 32
"""Bytes of one instruction."""
_AHEAD = 128 * PIECE
"""The piece so many bytes later is fetched into the cache while one is multiplied."""

Array = NDArray[Any]


def _quarters(builder: Any, address: Any) -> list[Any]:
    """The four codes of each byte, as four vectors of bytes."""
    shorts = ir.VectorType(SHORT, _BYTES // 2)
    kind = ir.VectorType(BYTE, _BYTES)
    packed = load(builder, address, shorts)
    shifted = [builder.lshr(packed, ir.Constant(shorts, [2 * place] * (_BYTES // 2))) for place in range(4)]
    return [builder.and_(builder.bitcast(codes, kind), ir.Constant(kind, [3] * _BYTES)) for codes in shifted]


def _sums(builder: Any, codes: list[Any], values: list[Any]) -> Any:
    """Sums of 32 bits, over 4 neighbours and all vectors, of products of codes 0 to 3 with int8 values."""
    lanes = _BYTES // 4
    sums = ir.VectorType(INT, lanes)
    total = ir.Constant(sums, [0] * lanes)
    if VNNI:
        kind = ir.FunctionType(sums, [sums, codes[0].type, values[0].type])
        product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        for code, value in zip(codes, values, strict=True):
            total = builder.call(product, [total, code, value])
        return total
    shorts = ir.VectorType(SHORT, _BYTES // 2)
    kind = ir.FunctionType(shorts, [codes[0].type, values[0].type])
    product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
    kind = ir.FunctionType(sums, [shorts, shorts])
    pairs = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
    small = [builder.call(product, [code, value]) for code, value in zip(codes, values, strict=True)]
    while len(small) > 1:
        small = [builder.add(first, second) for first, second in zip(small[::2], small[1::2], strict=True)]
    return builder.call(pairs, [small[0], ir.Constant(shorts, [1] * (_BYTES // 2))])


@intrinsic
def multiply_pieces(typing_context, pieces, places, fours, query, products):  # type: ignore[no-untyped-def]
    """``products[r] += <codes of row places[r], query>`` for four rows at a time; all arguments are int64.

    Args:
        pieces: address of uint8 ``(B, 64)``; places: of int32 ``(4 * fours,)``.
        query: address of int8 ``(4, 64)``; products: of int32 ``(4 * fours,)``.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pieces, places, fours, query, products = arguments
        fetch = prefetching(builder)
        kind, four = ir.VectorType(BYTE, _BYTES), ir.VectorType(INT, ROWS)
        starts = range(0, PIECE, _BYTES)
        values = [
            load(builder, builder.add(query, LONG(PIECE * quarter + start)), kind)
            for start in starts
            for quarter in range(4)
        ]
        with cgutils.for_range(builder, fours) as loop:
            offset = builder.mul(loop.index, LONG(4 * ROWS))
            sums = []
            for r in range(ROWS):
                place = load(builder, builder.add(places, builder.add(offset, LONG(4 * r))), INT, 4)
                address = builder.add(pieces, builder.mul(builder.sext(place, LONG), LONG(PIECE)))
                fetch(builder.add(address, LONG(_AHEAD)))
                codes = [part for start in starts for part in _quarters(builder, builder.add(address, LONG(start)))]
                sums.append(_sums(builder, codes, values))
            target = builder.add(products, offset)
            added = builder.add(load(builder, target, four, 4), sums_of_four(builder, sums))
            builder.store(added, builder.inttoptr(target, four.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


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
