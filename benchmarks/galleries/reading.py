"""The floor of every scan: reading a byte a dimension and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.galleries.problem import Int64, SearchProblem
from glimpse.parts import PartFeatures


@numba.njit(parallel=True, nogil=True)
def _read(words: NDArray[np.int64], pieces: int) -> int:
    """The sum of all words: what the compiler turns into loads as wide as the processor has."""
    sums = np.zeros(pieces, np.int64)
    size = (len(words) + pieces - 1) // pieces
    for piece in numba.prange(pieces):
        total = 0
        # A slice: an index that could be negative keeps the loop from becoming vector instructions.
        mine = words[piece * size : min(len(words), (piece + 1) * size)]
        for i in range(len(mine)):
            total += mine[i]
        sums[piece] = total
    return sums.sum()


class ReadTheCodes:
    """N x sum_p D_p bytes, read once a call however many queries there are."""

    points: Sequence[str] = ("read",)

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        del cache
        size = len(problem) * problem.schema.width
        self._words = np.full(-(-size // 8), 1, np.int64)
        self._pieces = 8 * threads
        self.facts: dict[str, float] = {"bytes_an_item": float(problem.schema.width)}
        numba.set_num_threads(threads)
        self.search("read", problem.queries[:1], 1)  # compiles

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        return _read(self._words, self._pieces)

    def rows(self, found: Any) -> list[Int64]:
        raise NotImplementedError("reading ranks nothing")

    def close(self) -> None:
        del self._words
