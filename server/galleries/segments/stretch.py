"""What a gallery asks of a segment, and `Stretch`: a segment as one snapshot sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.galleries.blocks import Block
from server.galleries.codes import VISIBLE
from server.galleries.items import Int64
from server.galleries.segments.texts import UInt32, UInt64, digests

Mask = NDArray[np.bool_]

NO_TIME = int(np.iinfo(np.int64).min)
"""`captured_at` of an item without one."""

TextColumns = tuple[list[str], list[str], list[str], list[str]]
"""Item ids, person ids, camera ids and attributes (JSON, or empty)."""


class Ids:
    """Item ids to be found, and their digests once a segment needs them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    @cached_property
    def digests(self) -> UInt64:
        return digests(self.texts)


class Segment(Protocol):
    """Rows that are never changed; arrays may be longer than the rows that a snapshot may see. Any thread may read."""

    @property
    def captured_at(self) -> Int64: ...

    @property
    def sequences(self) -> Int64: ...

    @property
    def stored_at(self) -> Int64: ...

    @property
    def checksums(self) -> UInt32:
        """CRC-32 of each item as the store has it."""

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Bytes of features and metadata."""

    @property
    def oldest(self) -> int:
        """At most the smallest `stored_at`."""

    def blocks(self, start: int, rows: int) -> tuple[Block, ...]:
        """The features of the first ``rows`` rows, the first of which is row ``start`` of the snapshot."""

    def item_id(self, row: int) -> str: ...

    def person_id(self, row: int) -> str: ...

    def camera_id(self, row: int) -> str: ...

    def attributes(self, row: int) -> str:
        """JSON, or empty text."""

    def texts(self, rows: Int64) -> TextColumns:
        """Of the rows ``(K,)``, in the given order; much sooner than one by one."""

    def among_cameras(self, camera_ids: Sequence[str], rows: int) -> Mask:
        """Which of the first ``rows`` rows are of one of these cameras."""

    def among_people(self, person_ids: Sequence[str], rows: int) -> Mask:
        """Which of the first ``rows`` rows are of one of these people."""

    def having(self, key: str, value: Any, rows: int) -> Mask:
        """Which of the first ``rows`` rows have the JSON ``value`` as their attribute ``key``."""

    def newest(self, ids: Ids, rows: int) -> dict[int, int]:
        """Position in ``ids`` -> the last of the first ``rows`` rows of that item, dead or alive, if there is one."""

    def by_item_id(self, rows: int) -> Sequence[int]:
        """The first ``rows`` rows in the order of their item ids, dead ones included."""

    def memory_bytes(self, rows: int) -> int:
        """Memory that the first ``rows`` rows take; what is in files and read by the page does not count."""

    def disk_bytes(self) -> int:
        """Size of the segment's file; 0 if it has none."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """The rows of one segment within a snapshot."""

    segment: Segment
    start: int
    """Row of the snapshot that is the segment's row 0."""
    rows: int
    alive: Mask
    """``(rows,)``; never changes."""
    live: int

    @property
    def stop(self) -> int:
        return self.start + self.rows

    @property
    def dead(self) -> int:
        return self.rows - self.live

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return self.segment.blocks(self.start, self.rows)

    @cached_property
    def patterns(self) -> NDArray[np.uint64]:
        """The visibility patterns of the live items, distinct: bit p is set when part p is visible."""
        found = [block_patterns(block, size)[self.alive[at : at + size]] for block, size, at in self.pieces()]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    @cached_property
    def bytes(self) -> int:
        """Size of the live items: features and metadata."""
        return int(self.segment.sizes[: self.rows].sum(where=self.alive, dtype=np.int64))

    @cached_property
    def by_item_id(self) -> Sequence[int]:
        """All rows of the segment in the order of their item ids."""
        return self.segment.by_item_id(self.rows)

    def pieces(self) -> list[tuple[Block, int, int]]:
        """Each block, how many of its rows count, and its first row within the segment."""
        first = [block.start - self.start for block in self.blocks]
        return [(block, min(self.rows - at, block.capacity), at) for block, at in zip(self.blocks, first, strict=True)]

    def live_rows_of(self, ids: Ids) -> list[int]:
        """The segment's live rows of these items."""
        return [row for row in self.segment.newest(ids, self.rows).values() if self.alive[row]]

    def remembers(self, ids: Ids, people: Sequence[str]) -> bool:
        """Whether a dead row is of one of these items or people; or may be, where that is not worth a closer look."""
        if self.dead == 0:
            return False
        if not self.segment.disk_bytes():
            return True
        if any(not self.alive[row] for row in self.segment.newest(ids, self.rows).values()):
            return True
        return bool((self.segment.among_people(people, self.rows) & ~self.alive).any())


def block_patterns(block: Block, rows: int) -> NDArray[np.uint64]:
    """uint64 ``(rows,)``: bit p is set when part p is visible (at least 0.5)."""
    patterns = np.zeros(rows, np.uint64)
    for p, visibility in enumerate(block.visibility):
        patterns |= (visibility[:rows] >= VISIBLE).astype(np.uint64) << np.uint64(p % 64)
    return patterns
