"""What SQLite's ``secure_delete`` leaves behind: copies of rows in the unused space of b-tree pages.

``secure_delete`` zeroes a cell where it is deleted. But when pages are balanced, rows move to a neighbour, and the
bytes that they leave in the unused middle of the old page are not zeroed (``rebuildPage`` of SQLite 3.40): deleting a
row later leaves that copy. `tests/server/galleries/test_scrub.py` shows it: a thousand updates and deletes leave ids,
attributes and pieces of vectors of deleted rows behind. ``VACUUM`` would rewrite the whole store and need as much free
disk again; `scrub` reads it once, and zeroes only bytes that the file format declares unused
(https://www.sqlite.org/fileformat2.html, sections 1.5 and 1.6), in place. That changes no row, and may be cut off
anywhere and repeated.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
_INTERIOR = (2, 5)
_LEAVES = (10, 13)

Stretch = tuple[int, int]
"""First byte in the file and number of bytes."""


class UnknownPage(Exception):
    """A page is not what the file format says it must be; nothing was changed."""


def scrub(path: Path, roots: Sequence[int]) -> int:
    """Zeroes the unused bytes of all b-tree and free pages; returns how many pages had some that were not zero.

    Nobody may have the file open, and its write-ahead log must be empty.

    Args:
        roots: ``rootpage`` of every row of ``sqlite_master`` that has one.

    Raises:
        UnknownPage: the file is damaged.
        OSError: it cannot be read or written.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
            dirty = [
                stretches
                for unused in _unused(data, roots)
                if (stretches := [(at, size) for at, size in unused if data[at : at + size] != bytes(size)])
            ]
        for stretches in dirty:
            for at, size in stretches:
                os.pwrite(handle, bytes(size), at)
        if dirty:
            os.fsync(handle)
    finally:
        os.close(handle)
    return len(dirty)


def _unused(data: mmap.mmap, roots: Sequence[int]) -> Iterator[list[Stretch]]:
    """The unused stretches of each page that may have some."""
    if data[: len(MAGIC)] != MAGIC:
        raise UnknownPage("it is no SQLite file")
    (size,) = struct.unpack_from(">H", data, 16)
    size = 65_536 if size == 1 else size
    usable = size - data[20]
    pages = len(data) // size
    waiting = [1, *roots]
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if not 1 <= number <= pages or number in seen:
            raise UnknownPage(f"page {number} is missing or used twice")
        seen.add(number)
        page = _Page(data, number, size, usable)
        waiting += page.children()
        yield page.unused()
    (trunk,) = struct.unpack_from(">I", data, 32)
    while trunk:
        if not 1 <= trunk <= pages or trunk in seen:
            raise UnknownPage(f"free page {trunk} is missing or used twice")
        seen.add(trunk)
        start = (trunk - 1) * size
        following, count = struct.unpack_from(">II", data, start)
        if count > usable // 4 - 2:
            raise UnknownPage(f"free page {trunk} lists {count} pages")
        yield [(start + 8 + 4 * count, size - 8 - 4 * count)]
        for leaf in struct.unpack_from(f">{count}I", data, start + 8):
            if not 1 <= leaf <= pages or leaf in seen:
                raise UnknownPage(f"free page {leaf} is missing or used twice")
            seen.add(leaf)
            yield [((leaf - 1) * size, size)]
        trunk = following


class _Page:
    """A b-tree page: its header, cell pointers, unused middle, cells and free blocks among them."""

    def __init__(self, data: mmap.mmap, number: int, size: int, usable: int) -> None:
        self._data = data
        self._number = number
        self._start = (number - 1) * size
        self._usable = usable
        header = self._start + (HEADER_BYTES if number == 1 else 0)
        self._kind, self._free, self._cells, content = struct.unpack_from(">BHHH", data, header)
        self._content = 65_536 if content == 0 else content
        if self._kind not in _INTERIOR + _LEAVES:
            raise self._unknown(f"is of kind {self._kind}")
        self._header = header
        self._pointers = header + (12 if self._kind in _INTERIOR else 8)
        self._middle = self._pointers + 2 * self._cells - self._start
        if not self._middle <= self._content <= usable:
            raise self._unknown("has its cells where they cannot be")

    def children(self) -> list[int]:
        """The pages below an interior one."""
        if self._kind not in _INTERIOR:
            return []
        (last,) = struct.unpack_from(">I", self._data, self._header + 8)
        children = [int(last)]
        for cell in struct.unpack_from(f">{self._cells}H", self._data, self._pointers):
            if not self._content <= cell <= self._usable - 4:
                raise self._unknown("has a cell where none can be")
            children.append(int(struct.unpack_from(">I", self._data, self._start + cell)[0]))
        return children

    def unused(self) -> list[Stretch]:
        """The unused middle, and the free blocks behind their own four bytes."""
        stretches = [(self._start + self._middle, self._content - self._middle)]
        block, before = self._free, self._content - 1
        while block:
            following, size = (0, 0)
            if before < block <= self._usable - 4:
                following, size = struct.unpack_from(">HH", self._data, self._start + block)
            if size < 4 or block + size > self._usable:
                raise self._unknown("has a free block where none can be")
            stretches.append((self._start + block + 4, size - 4))
            block, before = following, block
        return stretches

    def _unknown(self, what: str) -> UnknownPage:
        return UnknownPage(f"page {self._number} {what}")
