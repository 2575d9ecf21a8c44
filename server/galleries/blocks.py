"""The feature blocks of a gallery: a stretch of rows, as an engine sees it, and those that are still being filled.

Blocks never move and rows once published are never written again, so growing copies nothing and a reader's view stays
valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.codes import RowCodes, encode
from server.galleries.items import Batch, Float16, Int64

FIRST_BLOCK_ROWS = 512
BLOCK_ROWS = 16_384


class Block(Protocol):
    """A stretch of rows. Engines scan `codes` and `visibility` and ask `read` for the few vectors they score exactly:
    whether those are in memory or in a file is the block's business. Any number of threads may read."""

    @property
    def start(self) -> int:
        """The row of the gallery that is this block's first."""

    @property
    def capacity(self) -> int:
        """Rows that fit; a snapshot knows how many of the last block's are its own."""

    @property
    def stop(self) -> int:
        """``start + capacity``."""

    @property
    def visibility(self) -> Float32:
        """``(P, B)``: a row a part, so that a scan reads the parts it needs."""

    @property
    def codes(self) -> RowCodes:
        """The int8 codes of the rows and their error bounds; arrays may be memory-mapped."""

    @property
    def compact(self) -> Mapping[str, NDArray[Any]] | None:
        """What `server.galleries.compact.compress` made of the rows when the block was sealed; None while it is
        open."""

    def read(self, rows: Int64) -> Float16:
        """The stored vectors ``(K, sum_p D_p)`` of the block's rows (places within the block, in any order)."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenBlock:
    """A block in memory that is being filled; all of a gallery's but the last are full."""

    start: int
    vectors: Float16
    """``(B, sum_p D_p)``, as stored."""
    visibility: Float32
    codes: RowCodes
    compact: Mapping[str, NDArray[Any]] | None = field(default=None, init=False)

    @property
    def capacity(self) -> int:
        return len(self.vectors)

    @property
    def stop(self) -> int:
        return self.start + self.capacity

    def read(self, rows: Int64) -> Float16:
        return self.vectors[rows]


class Blocks:
    """All blocks of one gallery, for one writer at a time."""

    def __init__(self, schema: PartSchema) -> None:
        self._schema = schema
        self._blocks: tuple[OpenBlock, ...] = ()

    def reserve(self, rows: int) -> None:
        """Room for ``rows`` rows in all."""
        while not self._blocks or self._blocks[-1].stop < rows:
            # Small first: a server may hold many small galleries.
            start = self._blocks[-1].stop if self._blocks else 0
            size = min(BLOCK_ROWS, max(FIRST_BLOCK_ROWS, rows - start, 3 * start))
            block = OpenBlock(
                start=start,
                vectors=np.empty((size, self._schema.width), np.float16),
                visibility=np.empty((len(self._schema), size), np.float32),
                codes=RowCodes.empty(size, self._schema.width),
            )
            self._blocks = (*self._blocks, block)

    def write(self, start: int, batch: Batch) -> None:
        """Fills the rows from ``start`` on; there must be room."""
        for block in self._blocks:
            first, last = max(start, block.start), min(start + len(batch), block.stop)
            if first >= last:
                continue
            ours, theirs = slice(first - block.start, last - block.start), slice(first - start, last - start)
            block.vectors[ours] = batch.vectors[theirs]
            block.visibility[:, ours] = batch.visibility[theirs].T
            encode(batch.vectors[theirs], batch.visibility[theirs], self._schema, block.codes[ours])

    def first(self, rows: int) -> tuple[OpenBlock, ...]:
        """The blocks that hold the first ``rows`` rows."""
        return tuple(block for block in self._blocks if block.start < rows)
