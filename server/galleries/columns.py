"""The rows of a gallery in memory and on disk, for one writer, and immutable snapshots of them.

Rows are appended to the open segment; full ones follow each other as closed segments (see `segments`). A deleted or
replaced row is marked dead in a copy of its own segment's bitmap, so that a write costs what it writes, whatever the
size of the gallery. Each write ends in one new `Snapshot`, which shares all arrays but knows which rows are its own:
who holds one is never disturbed and never waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from glimpse.parts import PartSchema
from server.galleries.growing import GrowingArray
from server.galleries.items import Batch, Int64
from server.galleries.segments.opened import OpenSegment
from server.galleries.segments.stretch import NO_TIME, Ids, Mask, Segment, Stretch
from server.galleries.snapshots import Numbering, Snapshot

__all__ = ["NO_TIME", "Columns", "Snapshot"]

SEGMENT_ROWS = 32_768
"""The open segment is closed when it has so many rows."""
COPIED_AT_ONCE = 4096


class Columns:
    """The writer's side; every method is for one thread at a time."""

    def __init__(self, schema: PartSchema) -> None:
        self.schema = schema
        self._closed: tuple[Stretch, ...] = ()
        self._open = OpenSegment(schema)
        self._alive = GrowingArray(np.bool_)
        self._dead = 0
        self._numbering = Numbering()

    def reserve(self, count: int) -> None:
        """Room for ``count`` more rows, so that `extend` after a commit has no memory left to ask for."""
        self._open.reserve(count)
        self._alive.reserve(self._open.rows + count)

    def extend(self, batch: Batch) -> int:
        """Appends the batch (item ids distinct) and marks the rows it replaces as dead, returning how many those are;
        `snapshot` publishes it."""
        self.reserve(len(batch))
        start = self._open.rows
        ids = Ids(batch.item_ids)
        replaced = self._kill_closed([stretch.live_rows_of(ids) for stretch in self._closed])
        previous = self._open.extend(batch)
        self._alive.write(start, np.ones(len(batch), np.bool_))
        return replaced + self._kill_open(previous)

    def kill(self, rows: Sequence[int] | Int64) -> None:
        """Marks rows as dead; they are those of the last snapshot."""
        ascending = np.sort(np.asarray(rows, np.int64))
        bounds = np.searchsorted(ascending, [stretch.start for stretch in self._closed] + [self._open_start])
        parts = [ascending[first:last] for first, last in pairwise(bounds)]
        self._kill_closed([part - stretch.start for part, stretch in zip(parts, self._closed, strict=True)])
        self._kill_open(ascending[bounds[-1] :] - self._open_start)

    def snapshot(self, sequence: int) -> Snapshot:
        """What has been written so far, as of the committed write ``sequence``."""
        stretches = self._closed
        rows = self._open.rows
        if rows:
            alive = self._alive.view(rows)
            stretches = (*stretches, Stretch(self._open, self._open_start, rows, alive, rows - self._dead))
        return Snapshot(self.schema, sequence, stretches, self._numbering)

    @property
    def closed(self) -> tuple[Stretch, ...]:
        """The segments that take no more rows."""
        return self._closed

    @property
    def is_full(self) -> bool:
        """Whether the open segment is to be closed."""
        return self._open.rows >= SEGMENT_ROWS

    @property
    def needs_compaction(self) -> bool:
        """More than a quarter of the open segment's rows are dead."""
        return self._dead * 4 > self._open.rows

    def compact(self) -> None:
        """Puts the open segment's live rows into a new one; nothing here refers to the others any more."""
        source = self.snapshot(0)
        rows = self._open_start + np.flatnonzero(self._alive.view(self._open.rows))
        opened = OpenSegment(self.schema)
        opened.reserve(len(rows))
        for start in range(0, len(rows), COPIED_AT_ONCE):
            opened.extend(source.batch(rows[start : start + COPIED_AT_ONCE]))
        self._open_with(opened)
        self._numbering = Numbering()

    def close(self) -> None:
        """Closes the open segment, if it has rows, and opens another."""
        self._closed = self.snapshot(0).stretches
        self._open_with(OpenSegment(self.schema))

    def add(self, segment: Segment, alive: Mask) -> None:
        """Appends a closed segment; its live items must be in no other one, and the open segment empty."""
        self._closed = (*self._closed, Stretch(segment, self._open_start, len(alive), alive, _count(alive)))

    def swap(self, old: Sequence[Segment], new: Segment | None, rows: Int64) -> None:
        """Puts ``new`` in the place of closed segments; its row i is row ``rows[i]`` of them, one after the other.

        Raises:
            RuntimeError: it lacks a live row; nothing is changed then.
        """
        current = {id(stretch.segment): stretch for stretch in self._closed}
        chosen = [current[id(segment)] for segment in old]
        alive = np.concatenate([stretch.alive for stretch in chosen])[rows]
        if _count(alive) != sum(stretch.live for stretch in chosen):
            raise RuntimeError("a new segment lacks live rows of those that it was to replace")
        closed: list[Stretch] = []
        start = 0
        for stretch in self._closed:
            if stretch is chosen[0] and new is not None:
                closed.append(Stretch(new, start, len(rows), alive, _count(alive)))
            elif stretch in chosen:
                continue
            else:
                closed.append(stretch if stretch.start == start else replace(stretch, start=start))
            start = closed[-1].stop
        self._closed = tuple(closed)
        self._numbering = Numbering()

    @property
    def _open_start(self) -> int:
        return self._closed[-1].stop if self._closed else 0

    def _open_with(self, opened: OpenSegment) -> None:
        self._open = opened
        self._dead = 0
        self._alive = GrowingArray(np.bool_)
        self._alive.reserve(opened.rows)
        self._alive.write(0, np.ones(opened.rows, np.bool_))

    def _kill_closed(self, rows: Sequence[Sequence[int] | Int64]) -> int:
        """Marks these rows of each closed segment; returns how many were alive."""
        killed = 0
        closed = list(self._closed)
        for at, local in enumerate(rows):
            if len(local):
                alive = closed[at].alive.copy()
                alive[local] = False
                live = _count(alive)
                killed += closed[at].live - live
                closed[at] = replace(closed[at], alive=alive, live=live)
        self._closed = tuple(closed)
        return killed

    def _kill_open(self, rows: Int64) -> int:
        if len(rows) == 0:
            return 0
        size = self._open.rows
        alive = GrowingArray(np.bool_)
        alive.reserve(size * 5 // 4 + 64)
        alive.write(0, self._alive.view(size))
        mask = alive.view(size)
        killed = _count(mask[rows])
        mask[rows] = False
        self._dead += killed
        self._alive = alive
        return killed


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))
