"""Rows of a file, a few at a time: the vectors of the items that a search scores exactly.

A page fault waits for the disk once for every row: 0.9-2.1 s for a search's rows of a cold file, where 16 reads at a
time take 25-45 ms. What the page cache has is taken at once, without the threads (``RWF_NOWAIT``).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from server.errors import Unavailable
from server.galleries.items import Float16, Int64
from server.galleries.segments.container import Container

READERS = 16
"""Reads at a time; they wait for the disk, not for the processor."""
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class RowReader:
    """Reads rows of one two-dimensional array of an open container."""

    def __init__(self, container: Container, name: str) -> None:
        self._container = container  # keeps the file open
        self._dtype, self.shape, self._offset = container.place(name)
        self._row_bytes = self._dtype.itemsize * int(np.prod(self.shape[1:]))

    def read(self, rows: Int64) -> Float16:
        """The rows, in the given order. Unavailable when the disk fails."""
        result = np.empty((len(rows), *self.shape[1:]), self._dtype)
        if result.size == 0:
            return result
        target = result.reshape(-1).view(np.uint8).data
        size = self._row_bytes
        offsets = (self._offset + rows * size).tolist()
        missing = [
            at for at, offset in enumerate(offsets) if not self._at_hand(target[at * size : (at + 1) * size], offset)
        ]
        if missing:
            reads = [(target[at * size : (at + 1) * size], offsets[at]) for at in missing]
            share = -(-len(reads) // READERS)
            shares = [reads[start : start + share] for start in range(0, len(reads), share)]
            for _ in _pool().map(self._wait_for, shares):
                pass
        return result

    def _at_hand(self, target: memoryview, offset: int) -> bool:
        if not _NOWAIT:
            return False
        try:
            return os.preadv(self._container.handle, [target], offset, _NOWAIT) == len(target)
        except OSError:  # not in the page cache, or a file system that cannot say
            return False

    def _wait_for(self, reads: list[tuple[memoryview, int]]) -> None:
        for target, offset in reads:
            try:
                found = os.preadv(self._container.handle, [target], offset)
            except OSError as error:
                raise Unavailable("the index on disk cannot be read just now; check the server's disk") from error
            if found != len(target):
                raise Unavailable("the index on disk was changed while the server was running; restart it")


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(READERS, thread_name_prefix="glimpse-vectors")
