"""Dot products of four rows of int8 codes with four queries, or with one.

The sums stay in registers over all parts, so a loaded code is used as often as there are queries and a loaded piece of
a query as often as there are rows. Where registers are few, the queries take turns.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from server.galleries.engines.kernels.products import ALONE, INT, LONG, TOGETHER, prefetching, sums_of_four

ROWS = 4
QUERIES = 4
STEP = 64
"""Codes of one step: a span of parts is multiplied in whole steps, beyond its end by zeros of the query."""


def _emit(builder: Any, how: Any, arguments: Any, rows: range, queries: range, fetched: range) -> list[list[Any]]:
    """Multiplies these of the rows with these of the queries; the arguments are those of `multiply_tile`.

    Args:
        fetched: which of the rows ahead are fetched meanwhile.

    Returns:
        For each query and row a vector whose sum is the product.
    """
    row_addresses, ahead, first_query, stride, spans, count, _, _ = arguments
    fetch = prefetching(builder)
    kind = ir.VectorType(INT, how.lanes)
    zeros = ir.Constant(kind, [0] * how.lanes)
    pieces = range(0, STEP, how.piece)
    # A product alone is made in several sums: in one, each addition would wait for the last.
    chains = len(pieces) if len(rows) == len(queries) == 1 else 1

    def number(address: Any, index: Any) -> Any:
        return builder.load(builder.gep(builder.inttoptr(address, LONG.as_pointer()), [index]))

    bases = [number(row_addresses, LONG(r)) for r in rows]
    nexts = [number(ahead, LONG(r)) for r in fetched]
    sources = [builder.add(first_query, builder.mul(stride, LONG(q))) for q in queries]
    sums = [[[cgutils.alloca_once_value(builder, zeros) for _ in range(chains)] for _ in rows] for _ in queries]
    for slot in (slot for line in sums for chain in line for slot in chain):
        builder.store(zeros, slot)  # an alloca is made once, however often the tile runs
    with cgutils.for_range(builder, count) as span:
        at = builder.mul(span.index, LONG(2))
        first, steps = number(spans, at), number(spans, builder.add(at, LONG(1)))
        with cgutils.for_range(builder, steps) as step:
            begin = builder.add(first, builder.mul(step.index, LONG(STEP)))
            for base in nexts:
                fetch(builder.add(base, begin))
            for place, piece in enumerate(pieces):
                offset = builder.add(begin, LONG(piece))
                codes = [how.row(builder, builder.add(base, offset)) for base in bases]
                for source, line in zip(sources, sums, strict=True):
                    query = how.query(builder, source, offset)
                    for code, chain in zip(codes, line, strict=True):
                        slot = chain[place % chains]
                        builder.store(how.add(builder, builder.load(slot), code, query), slot)
    return [[reduce(builder.add, [builder.load(slot) for slot in chain]) for chain in line] for line in sums]


def _store(builder: Any, totals: list[Any], address: Any) -> None:
    four = sums_of_four(builder, totals)
    builder.store(four, builder.inttoptr(address, four.type.as_pointer())).align = 4


def _tile(fetched: int) -> Any:
    """The intrinsic that multiplies a tile and fetches so many rows."""

    @intrinsic
    def multiply(typing_context, rows, ahead, queries, stride, spans, count, out, out_stride):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            how: Any = TOGETHER  # a kernel that calls this where it is None does not compile
            turn = min(QUERIES, how.registers // 2 // ROWS)
            for first in range(0, QUERIES, turn):
                queries = range(first, first + turn)
                some = range(fetched if first == 0 else 0)
                for q, totals in zip(queries, _emit(builder, how, arguments, range(ROWS), queries, some), strict=True):
                    _store(builder, totals, builder.add(arguments[-2], builder.mul(arguments[-1], LONG(4 * q))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), generate

    return multiply


multiply_tile = _tile(ROWS)
"""``out[q, r] = <row r + SHIFT, query q>`` over the spans, for four of each; all arguments are int64.

Args:
    rows: address of four addresses of rows.
    ahead: address of four addresses of rows to fetch into the cache meanwhile.
    queries: address of the first query's codes, int8 where queries are `COARSE`, else int16; the next ones follow every
        ``stride`` bytes.
    spans: address of ``count`` pairs (first code, steps).
    out: address of int32 ``(4, out_stride)``.
"""
multiply_tile_by_one = _tile(1)
"""`multiply_tile` that fetches only the first row ahead: four at once are more than a processor has open."""


@intrinsic
def multiply_four(typing_context, rows, ahead, query, spans, count, out):  # type: ignore[no-untyped-def]
    """``out[r] = <row r, query>`` for four rows and one query of int16 codes; otherwise as `multiply_tile`.

    The rows are gone through one after another, which is how a memory is read fastest.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        rows, ahead, query, spans, count, out = arguments
        tile = (rows, ahead, query, LONG(0), spans, count, out, LONG(0))
        each = [_emit(builder, ALONE, tile, range(r, r + 1), range(1), range(r, r + 1)) for r in range(ROWS)]
        _store(builder, [totals[0][0] for totals in each], out)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate
