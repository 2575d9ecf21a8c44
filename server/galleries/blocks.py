"""The feature blocks of a gallery: vectors, visibilities and the weighted vectors that scans read.

Blocks are filled one after the other and never move, so growing copies nothing and a reader's view stays valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glimpse.parts import Float32, PartSchema
from server.galleries.items import Batch, Float16, decode

FIRST_BLOCK_ROWS = 512
BLOCK_ROWS = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A stretch of rows; all blocks but the last are full. Rows once published are never written again."""

    start: int
    vectors: Float16
    """``(B, sum_p D_p)``, as stored."""
    visibility: Float32
    """``(P, B)``: a row a part, so that a scan reads the parts it needs."""
    weighted: Float32
    """``(B, sum_p D_p)``: each part's vector times its visibility, the right-hand side of the numerator."""

    @property
    def capacity(self) -> int:
        return len(self.vectors)

    @property
    def stop(self) -> int:
        return self.start + self.capacity


class Blocks:
    """All blocks of one gallery, for one writer at a time."""

    def __init__(self, schema: PartSchema) -> None:
        self._schema = schema
        self._dims = np.array(schema.dims)
        self._blocks: tuple[Block, ...] = ()

    def reserve(self, rows: int) -> None:
        """Room for ``rows`` rows in all."""
        while not self._blocks or self._blocks[-1].stop < rows:
            # Small first: a server may hold many small galleries.
            start = self._blocks[-1].stop if self._blocks else 0
            size = min(BLOCK_ROWS, max(FIRST_BLOCK_ROWS, rows - start, 3 * start))
            block = Block(
                start=start,
                vectors=np.empty((size, self._schema.width), np.float16),
                visibility=np.empty((len(self._schema), size), np.float32),
                weighted=np.empty((size, self._schema.width), np.float32),
            )
            self._blocks = (*self._blocks, block)

    def write(self, start: int, batch: Batch) -> None:
        """Fills the rows from ``start`` on; there must be room."""
        for block in self.first(start + len(batch)):
            first, last = max(start, block.start), min(start + len(batch), block.stop)
            # In steps that stay in the processor's cache between the decoding and the product.
            for begin in range(first, last, 256):
                end = min(begin + 256, last)
                vectors, visibility = (
                    batch.vectors[begin - start : end - start],
                    batch.visibility[begin - start : end - start],
                )
                rows = slice(begin - block.start, end - block.start)
                block.vectors[rows] = vectors
                block.visibility[:, rows] = visibility.T
                block.weighted[rows] = decode(vectors, np.repeat(visibility, self._dims, axis=1))

    def first(self, rows: int) -> tuple[Block, ...]:
        """The blocks that hold the first ``rows`` rows."""
        return tuple(block for block in self._blocks if block.start < rows)
