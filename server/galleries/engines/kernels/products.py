"""The instructions that multiply codes: AVX-512 VNNI where a processor has it, AVX2 where it has that.

``vpdpbusd`` multiplies 64 unsigned bytes with 64 signed ones and adds neighbours in fours to 16 sums. Codes of rows are
made unsigned by adding 128 (flipping their highest bit), which adds ``128 * sum(query)`` to each product; the caller
takes that away. AVX2 has no product of bytes that cannot overflow, so ``vpmaddwd`` multiplies 16 shorts, made of the
bytes, with the shorts of a query and adds neighbours in pairs to 8 sums. Written as LLVM instructions because no loop
that Numba compiles becomes these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from server.galleries.engines.kernels import AVX2, VNNI

BYTE, SHORT, INT, LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_PREFETCH = "llvm.prefetch.p0"
_SECOND_CACHE = 2
"""Rows to come are fetched into the second cache: into the first, they would push out the queries."""


def load(builder: Any, address: Any, kind: Any, align: int = 1) -> Any:
    """Emits the reading of a value of this LLVM type."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


@dataclass(frozen=True)
class ByBytes:
    """``vpdpbusd``: 64 codes of a row, plus 128, with 64 int8 codes of a query."""

    piece = 64
    """Codes of one instruction."""
    lanes = 16
    """Sums that it adds to."""
    registers = 32

    def row(self, builder: Any, address: Any) -> Any:
        kind = ir.VectorType(BYTE, self.piece)
        return builder.xor(load(builder, address, kind), ir.Constant(kind, [-128] * self.piece))

    def query(self, builder: Any, address: Any, offset: Any) -> Any:
        return load(builder, builder.add(address, offset), ir.VectorType(BYTE, self.piece))

    def add(self, builder: Any, total: Any, row: Any, query: Any) -> Any:
        kind = ir.FunctionType(total.type, [total.type, row.type, query.type])
        product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
        return builder.call(product, [total, row, query])


@dataclass(frozen=True)
class ByShorts:
    """``vpmaddwd``: 16 codes of a row, made shorts, with 16 int16 codes of a query."""

    piece = 16
    lanes = 8
    registers = 16

    def row(self, builder: Any, address: Any) -> Any:
        shorts = ir.VectorType(SHORT, self.piece)
        return builder.sext(load(builder, address, ir.VectorType(BYTE, self.piece)), shorts)

    def query(self, builder: Any, address: Any, offset: Any) -> Any:
        there = builder.add(address, builder.mul(offset, LONG(SHORT.width // BYTE.width)))
        return load(builder, there, ir.VectorType(SHORT, self.piece))

    def add(self, builder: Any, total: Any, row: Any, query: Any) -> Any:
        kind = ir.FunctionType(total.type, [row.type, query.type])
        product = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.wd")
        return builder.add(total, builder.call(product, [row, query]))


Instructions = ByBytes | ByShorts

ALONE: Instructions | None = ByShorts() if AVX2 else None
"""What multiplies rows with one query; None: plain loops do."""
TOGETHER: Instructions | None = ByBytes() if VNNI else ALONE
"""What multiplies rows with several queries."""
COARSE = VNNI
"""Whether several queries have int8 codes. They let more rows pass than int16 codes do, but where there is ``vpdpbusd``
they are multiplied so much sooner that it is worth it. A query alone waits for the memory and loses nothing by finer
codes."""
SHIFT = 128 if VNNI else 0
"""What `TOGETHER` adds to each code of a row."""


def _shuffled(builder: Any, first: Any, second: Any, places: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(INT, len(places)), places)
    return builder.shuffle_vector(first, second, mask)


def sums_of_four(builder: Any, totals: list[Any]) -> Any:
    """Four vectors of 8 or 16 as one vector of their four sums."""
    lanes = totals[0].type.count
    quarters = range(0, lanes, 4)

    def merged(x: Any, y: Any, low: list[int], high: list[int]) -> Any:
        halves = ([quarter + place for quarter in quarters for place in places] for places in (low, high))
        return builder.add(*(_shuffled(builder, x, y, places) for places in halves))

    pairs = [merged(totals[i], totals[i + 1], [0, lanes, 1, lanes + 1], [2, lanes + 2, 3, lanes + 3]) for i in (0, 2)]
    fours = merged(pairs[0], pairs[1], [0, 1, lanes, lanes + 1], [2, 3, lanes + 2, lanes + 3])
    while (width := fours.type.count // 2) >= 4:
        low, high = list(range(width)), list(range(width, 2 * width))
        fours = builder.add(_shuffled(builder, fours, fours, low), _shuffled(builder, fours, fours, high))
    return fours


def prefetching(builder: Any) -> Any:
    """Emits the fetching of the line at an address."""
    how = [ir.Constant(INT, hint) for hint in (0, _SECOND_CACHE, 1)]  # to read, data
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), *(hint.type for hint in how)])
    function = cgutils.get_or_insert_function(builder.module, kind, _PREFETCH)
    return lambda address: builder.call(function, [builder.inttoptr(address, BYTE.as_pointer()), *how])
