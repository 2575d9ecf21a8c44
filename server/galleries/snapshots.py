"""`Snapshot`: a gallery as of one committed write, for any number of readers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import merge
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartFeatures, PartSchema
from server.galleries.blocks import Block
from server.galleries.items import Batch, Float16, Int64, ItemMetadata, StoredItem, attributes_from_json, decode
from server.galleries.segments.stretch import NO_TIME, Ids, Mask, Stretch, TextColumns, block_patterns


class Numbering:
    """Stands for an assignment of rows to items: snapshots of the same one mean the same item by a row."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A gallery as of one committed write. Rows are numbered from 0; arrays never change."""

    schema: PartSchema
    sequence: int
    stretches: tuple[Stretch, ...]
    numbering: Numbering

    @cached_property
    def rows(self) -> int:
        return self.stretches[-1].stop if self.stretches else 0

    @cached_property
    def live(self) -> int:
        return sum(stretch.live for stretch in self.stretches)

    @property
    def dead(self) -> int:
        return self.rows - self.live

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for stretch in self.stretches for block in stretch.blocks)

    @cached_property
    def alive(self) -> Mask:
        """bool ``(rows,)``."""
        return np.concatenate([np.empty(0, np.bool_), *(stretch.alive for stretch in self.stretches)])

    @cached_property
    def patterns(self) -> NDArray[np.uint64]:
        """uint64 ``(rows,)``: bit p is set when part p is visible (at least 0.5)."""
        return np.concatenate([np.empty(0, np.uint64), *(block_patterns(*piece) for piece in self.pieces())])

    @property
    def pattern_count(self) -> int:
        """How many visibility patterns the live items have."""
        return len(np.unique(np.concatenate([np.empty(0, np.uint64), *(each.patterns for each in self.stretches)])))

    @property
    def bytes(self) -> int:
        """Size of the live items: features and metadata."""
        return sum(stretch.bytes for stretch in self.stretches)

    @property
    def memory_bytes(self) -> int:
        """Memory of the rows, dead ones included; what stays on disk does not count."""
        return sum(stretch.rows + stretch.segment.memory_bytes(stretch.rows) for stretch in self.stretches)

    @property
    def disk_bytes(self) -> int:
        """Size of the segment files."""
        return sum(stretch.segment.disk_bytes() for stretch in self.stretches)

    def among(self, stretches: Sequence[Stretch]) -> Snapshot:
        """The rows of some of the stretches only, numbered anew."""
        chosen: list[Stretch] = []
        for stretch in stretches:
            chosen.append(replace(stretch, start=chosen[-1].stop if chosen else 0))
        return Snapshot(self.schema, self.sequence, tuple(chosen), Numbering())

    def item_id(self, row: int) -> str:
        stretch = self._stretch(row)
        return stretch.segment.item_id(row - stretch.start)

    def row_of(self, item_id: str) -> int | None:
        """The live row of an item, or None."""
        ids = Ids([item_id])
        for stretch in reversed(self.stretches):
            if rows := stretch.live_rows_of(ids):
                return stretch.start + rows[0]
        return None

    def rows_of(self, item_ids: Sequence[str]) -> Int64:
        """Ascending live rows of those of the items that are here."""
        ids = Ids(list(dict.fromkeys(item_ids)))
        found = [stretch.start + row for stretch in self.stretches for row in stretch.live_rows_of(ids)]
        return np.array(sorted(found), np.int64)

    def stored_before(self, time: int) -> Int64:
        """Ascending live rows that were stored before ``time`` (microseconds since 1970 UTC)."""
        found = [np.empty(0, np.int64)]
        for stretch in self.stretches:
            if stretch.segment.oldest < time:
                early = stretch.segment.stored_at[: stretch.rows] < time
                found.append(stretch.start + np.flatnonzero(early & stretch.alive))
        return np.concatenate(found)

    def page(self, after: str, limit: int, allowed: Mask | None) -> Int64:
        """Up to ``limit`` live and allowed rows with ids greater than ``after``, in the order of their ids."""
        rows = merge(*(self._ordered(stretch, after, allowed) for stretch in self.stretches))
        return np.array([row for _, row in islice(rows, limit)], np.int64)

    def pieces(self) -> Iterator[tuple[Block, int]]:
        """Each block with the number of its rows that belong to this snapshot."""
        for stretch in self.stretches:
            for block, size, _ in stretch.pieces():
                yield block, size

    def split(self, rows: Int64) -> Iterator[tuple[Block, slice, Int64]]:
        """Ascending ``rows`` block by block: the block, the slice of ``rows`` and their places in the block."""
        bounds = np.searchsorted(rows, [block.start for block in self.blocks] + [self.rows])
        for block, first, last in zip(self.blocks, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if first < last:
                yield block, slice(first, last), rows[first:last] - block.start

    def gathered(self, name: str, rows: Int64) -> NDArray[Any]:
        """One of the arrays of `Segment` (`sequences`, say) for the rows, in the given order."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        bounds = np.searchsorted(ascending, [stretch.start for stretch in self.stretches] + [self.rows]).tolist()
        found = [
            getattr(stretch.segment, name)[ascending[first:last] - stretch.start]
            for stretch, first, last in zip(self.stretches, bounds[:-1], bounds[1:], strict=True)
        ]
        if not found:
            return np.empty(0, np.int64)
        result = np.empty(len(rows), found[0].dtype)
        result[order] = np.concatenate(found)
        return result

    def texts(self, rows: Int64) -> TextColumns:
        """Item ids, person ids, camera ids and attributes (JSON) of the rows, in the given order."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        bounds = np.searchsorted(ascending, [*self._starts, self.rows]).tolist()
        found: TextColumns = ([], [], [], [])
        for stretch, (first, last) in zip(self.stretches, pairwise(bounds), strict=True):
            for column, texts in zip(found, stretch.segment.texts(ascending[first:last] - stretch.start), strict=True):
                column.extend(texts)
        places = np.argsort(order).tolist()
        item_ids, people, cameras, attributes = ([column[place] for place in places] for column in found)
        return item_ids, people, cameras, attributes

    def stored(self, rows: Int64) -> tuple[Float16, Float32]:
        """Vectors float16 ``(K, sum_p D_p)`` and visibilities float32 ``(K, P)`` of the rows, in the given order."""
        order = np.argsort(rows, kind="stable")
        vectors = np.empty((len(rows), self.schema.width), np.float16)
        visibility = np.empty((len(rows), len(self.schema)), np.float32)
        for block, at, local in self.split(rows[order]):
            vectors[order[at]] = block.read(local)
            visibility[order[at]] = block.visibility[:, local].T
        return vectors, visibility

    def visibility(self, rows: Int64) -> Float32:
        """Visibilities float32 ``(P, K)`` of the rows, in the given order."""
        order = np.argsort(rows, kind="stable")
        visibility = np.empty((len(self.schema), len(rows)), np.float32)
        for block, at, local in self.split(rows[order]):
            visibility[:, order[at]] = block.visibility[:, local]
        return visibility

    def weighted(self, rows: Int64) -> Float32:
        """Visibility-weighted vectors float32 ``(K, sum_p D_p)`` of the rows, in the given order."""
        vectors, visibility = self.stored(rows)
        return decode(vectors, np.repeat(visibility, self.schema.dims, axis=1))

    def features(self, rows: Int64) -> PartFeatures:
        """The stored features of the rows, decoded to float32."""
        vectors, visibility = self.stored(rows)
        return PartFeatures.trusted(decode(vectors), visibility, self.schema)

    def metadata(self, row: int) -> ItemMetadata:
        """What is known of the item besides its features."""
        stretch = self._stretch(row)
        segment, local = stretch.segment, row - stretch.start
        captured_at = int(segment.captured_at[local])
        return ItemMetadata(
            item_id=segment.item_id(local),
            person_id=segment.person_id(local),
            camera_id=segment.camera_id(local),
            captured_at=None if captured_at == NO_TIME else captured_at,
            attributes=attributes_from_json(segment.attributes(local)),
        )

    def items(self, rows: Int64, *, vectors: bool) -> list[StoredItem]:
        """The whole items, their vectors only if asked for."""
        visibility = self.visibility(rows).T.copy()
        stored = self.stored(rows)[0] if vectors else [None] * len(rows)
        sequences = self.gathered("sequences", rows).tolist()
        items = []
        for at, row in enumerate(rows.tolist()):
            known = self.metadata(row)
            item = StoredItem(
                item_id=known.item_id,
                person_id=known.person_id,
                camera_id=known.camera_id,
                captured_at=known.captured_at,
                attributes=known.attributes,
                visibility=visibility[at],
                sequence=sequences[at],
                vectors=stored[at],
            )
            items.append(item)
        return items

    def batch(self, rows: Int64) -> Batch:
        """The rows as they were stored."""
        item_ids, person_ids, camera_ids, attributes = self.texts(rows)
        vectors, visibility = self.stored(rows)
        times = self.gathered("captured_at", rows).tolist()
        return Batch(
            item_ids=item_ids,
            person_ids=person_ids,
            camera_ids=camera_ids,
            captured_at=[None if time == NO_TIME else time for time in times],
            attributes=attributes,
            vectors=vectors,
            visibility=visibility,
            sequences=self.gathered("sequences", rows),
            stored_at=self.gathered("stored_at", rows),
            checksums=self.gathered("checksums", rows),
        )

    @cached_property
    def _starts(self) -> list[int]:
        return [stretch.start for stretch in self.stretches]

    def _stretch(self, row: int) -> Stretch:
        return self.stretches[bisect_right(self._starts, row) - 1]

    def _ordered(self, stretch: Stretch, after: str, allowed: Mask | None) -> Iterator[tuple[str, int]]:
        """(id, row) of a stretch's live and allowed rows with greater ids, in their order."""
        item_id = stretch.segment.item_id
        by_id = stretch.by_item_id
        for place in range(bisect_right(by_id, after, key=lambda local: item_id(int(local))), len(by_id)):
            local = int(by_id[place])
            row = stretch.start + local
            if stretch.alive[local] and (allowed is None or allowed[row]):
                yield item_id(local), row
