"""Dot products of four rows of int8 codes with four queries, by AVX-512 VNNI.

``vpdpbusd`` multiplies 64 unsigned bytes with 64 signed ones and adds neighbours in fours to 16 sums. Codes are made
unsigned by adding 128 (flipping their highest bit), which adds ``128 * sum(query)`` to each product; the caller takes
that away. Sixteen accumulators stay in registers over all parts, so a loaded code is used four times and so is a
loaded piece of a query. Written as LLVM instructions because no loop that Numba compiles becomes this one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

ROWS = 4
QUERIES = 4
STEP = 64
"""Bytes of one step: a span of parts is multiplied in whole steps, beyond its end by zeros of the query."""

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, STEP)
_SUMS = ir.VectorType(ir.IntType(32), 16)
_PRODUCT = "llvm.x86.avx512.vpdpbusd.512"
_PREFETCH = "llvm.prefetch.p0"
_SECOND_CACHE = 2
"""Rows to come are fetched into the second cache: into the first, they would push out the queries."""


def _load(builder: Any, address: Any) -> Any:
    value = builder.load(builder.inttoptr(address, _BYTES.as_pointer()))
    value.align = 1
    return value


def _shuffled(builder: Any, first: Any, second: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(first, second, mask)


def sums_of_four(builder: Any, a: list[Any]) -> Any:
    """Four vectors of 16 as one vector of their four sums."""
    quarters = range(0, 16, 4)

    def interleaved(x: Any, y: Any, offsets: tuple[int, int, int, int]) -> Any:
        return _shuffled(builder, x, y, [quarter + offset for quarter in quarters for offset in offsets])

    def merged(x: Any, y: Any, low: tuple[int, int, int, int], high: tuple[int, int, int, int]) -> Any:
        return builder.add(interleaved(x, y, low), interleaved(x, y, high))

    pairs = [merged(a[i], a[i + 1], (0, 16, 1, 17), (2, 18, 3, 19)) for i in (0, 2)]
    fours = merged(pairs[0], pairs[1], (0, 1, 16, 17), (2, 3, 18, 19))
    for width in (8, 4):
        low, high = list(range(width)), list(range(width, 2 * width))
        fours = builder.add(_shuffled(builder, fours, fours, low), _shuffled(builder, fours, fours, high))
    return fours


def prefetching(builder: Any) -> Any:
    """Emits the fetching of the line at an address."""
    how = [ir.Constant(ir.IntType(32), hint) for hint in (0, _SECOND_CACHE, 1)]  # to read, data
    kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), *(hint.type for hint in how)])
    function = cgutils.get_or_insert_function(builder.module, kind, _PREFETCH)
    return lambda address: builder.call(function, [builder.inttoptr(address, _BYTE.as_pointer()), *how])


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Fetches the line at an int64 address into the cache; harmless where nothing is."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        prefetching(builder)(arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def multiply_tile(  # type: ignore[no-untyped-def]
    typing_context, rows, ahead, queries, stride, spans, count, out, out_stride
):
    """``out[q, r] = <row r + 128, query q>`` over the spans, for four of each; all arguments are int64.

    Args:
        rows: address of four addresses of rows.
        ahead: address of four addresses of rows to fetch into the cache meanwhile.
        queries: address of the first query; the next ones follow every ``stride`` bytes.
        spans: address of ``count`` pairs (first byte, steps).
        out: address of int32 ``(4, out_stride)``.
    """
    signature = types.void(*[types.int64] * 8)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        rows, ahead, queries, stride, spans, count, out, out_stride = arguments
        product = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES]), _PRODUCT
        )
        fetch = prefetching(builder)
        zeros = ir.Constant(_SUMS, [0] * 16)
        highest_bits = ir.Constant(_BYTES, [-128] * STEP)

        def number(address: Any, index: Any) -> Any:
            return builder.load(builder.gep(builder.inttoptr(address, _LONG.as_pointer()), [index]))

        bases = [number(rows, _LONG(r)) for r in range(ROWS)]
        nexts = [number(ahead, _LONG(r)) for r in range(ROWS)]
        sources = [builder.add(queries, builder.mul(stride, _LONG(q))) for q in range(QUERIES)]
        sums = [[cgutils.alloca_once_value(builder, zeros) for _ in range(ROWS)] for _ in range(QUERIES)]
        for slot in (slot for line in sums for slot in line):
            builder.store(zeros, slot)  # an alloca is made once, however often the tile runs
        with cgutils.for_range(builder, count) as span:
            at = builder.mul(span.index, _LONG(2))
            first, steps = number(spans, at), number(spans, builder.add(at, _LONG(1)))
            with cgutils.for_range(builder, steps) as step:
                offset = builder.add(first, builder.mul(step.index, _LONG(STEP)))
                codes = [builder.xor(_load(builder, builder.add(base, offset)), highest_bits) for base in bases]
                for base in nexts:
                    fetch(builder.add(base, offset))
                for source, line in zip(sources, sums, strict=True):
                    query = _load(builder, builder.add(source, offset))
                    for code, slot in zip(codes, line, strict=True):
                        builder.store(builder.call(product, [builder.load(slot), code, query]), slot)
        for q, line in enumerate(sums):
            four = sums_of_four(builder, [builder.load(slot) for slot in line])
            address = builder.add(out, builder.mul(builder.mul(out_stride, _LONG(q)), _LONG(4)))
            builder.store(four, builder.inttoptr(address, four.type.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, generate
