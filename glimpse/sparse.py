"""Sparse rows of numbers in [0, 1], in the compressed form that NumPy can hold: what re-ranking needs, no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32

Int64 = NDArray[np.int64]
Integers = NDArray[np.integer[Any]]
_CHUNK = 1024  # rows averaged together


@dataclass(frozen=True)
class SparseRows:
    """N rows over M columns; row ``i`` has ``values[starts[i]:starts[i + 1]]`` at ``columns`` of the same places."""

    starts: Int64
    """int64 ``(N + 1,)``."""
    columns: NDArray[np.int32]
    """Ascending within a row."""
    values: Float32
    width: int
    """M."""

    @classmethod
    def of(
        cls, rows: Integers, columns: Integers, values: NDArray[np.floating[Any]], count: int, width: int | None = None
    ) -> SparseRows:
        """Entries in order of row, then column, as ``count`` rows; ``width`` is ``count`` if left out."""
        starts = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=count), out=starts[1:])
        return cls(starts, columns.astype(np.int32), values.astype(np.float32, copy=False), width or count)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, i: int) -> tuple[NDArray[np.int32], Float32]:
        """Columns and values of one row."""
        place = slice(self.starts[i], self.starts[i + 1])
        return self.columns[place], self.values[place]

    def normalised(self) -> SparseRows:
        """Every row scaled to sum 1; a row that sums to 0 stays."""
        sums = np.bincount(self._owners(), weights=self.values, minlength=len(self))
        scale = np.divide(1, sums, out=np.ones_like(sums), where=sums > 0)
        values = (self.values * np.repeat(scale, np.diff(self.starts))).astype(np.float32)
        return SparseRows(self.starts, self.columns, values, self.width)

    def take(self, rows: Int64) -> SparseRows:
        """Some of the rows, in the given order."""
        places, lengths = self._places(rows)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return SparseRows(starts, self.columns[places], self.values[places], self.width)

    def transposed(self) -> SparseRows:
        """M rows over N columns."""
        order = np.argsort(self.columns, kind="stable")
        rows = self._owners()[order]
        return SparseRows.of(self.columns[order], rows, self.values[order], self.width, len(self))

    def averaged(self, rows: Int64, valid: NDArray[np.bool_]) -> SparseRows:
        """Row ``i`` becomes the mean of this one's rows ``rows[i]`` that are ``valid``, both ``(N, k)``."""
        pieces = []
        for start in range(0, len(rows), _CHUNK):
            chosen, kept = rows[start : start + _CHUNK], valid[start : start + _CHUNK]
            counts = kept.sum(axis=1)
            targets = np.repeat(np.arange(start, start + len(chosen)), counts)
            places, lengths = self._places(chosen[kept])
            keys = np.repeat(targets, lengths) * self.width + self.columns[places]
            share = np.repeat(1 / np.repeat(counts, counts), lengths)
            order = np.argsort(keys, kind="stable")
            keys, values = keys[order], (self.values[places] * share)[order]
            first = np.flatnonzero(np.diff(keys, prepend=-1))
            pieces.append((keys[first], np.add.reduceat(values, first) if len(first) else values))
        keys = np.concatenate([piece[0] for piece in pieces])
        values = np.concatenate([piece[1] for piece in pieces])
        return SparseRows.of(keys // self.width, keys % self.width, values, len(rows), self.width)

    def shared_mass(self, rows: NDArray[np.int32], values: Float32) -> NDArray[np.float64]:
        """``(M,)``: for every column the sum over ``rows`` of min(this row's value there, ``values`` of the row).

        With a transposed matrix that is what a vector has in common with each of the original rows.
        """
        places, lengths = self._places(rows.astype(np.int64))
        least = np.minimum(self.values[places], np.repeat(values, lengths))
        return np.bincount(self.columns[places], least, self.width).astype(np.float64, copy=False)

    def _owners(self) -> Int64:
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def _places(self, rows: Int64) -> tuple[Int64, Int64]:
        """Where the entries of some rows lie, one row after another, and how many each has."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(lengths)
        offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        return np.repeat(self.starts[rows], lengths) + offsets, lengths
