"""The columns of a gallery in memory: append-only rows, and immutable snapshots of them.

A gallery has one `Columns` object, changed by one writer at a time. Rows are only ever appended; a deleted or
replaced row is marked dead in a copy of the alive mask. Each write ends in one new `Snapshot`, which shares the
buffers but knows how many of their rows are its own, so a reader that holds a snapshot is never disturbed and never
waits. When more than a quarter of the rows are dead, `compacted` copies the live ones into new columns; snapshots of
the old ones stay valid for as long as somebody holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartFeatures, PartSchema
from server.galleries.attributes import AttributeIndex
from server.galleries.blocks import Block, Blocks
from server.galleries.codes import VISIBLE
from server.galleries.growing import Codes, GrowingArray
from server.galleries.items import Batch, Float16, Int64, ItemMetadata, StoredItem, attributes_from_json, decode

NO_TIME = int(np.iinfo(np.int64).min)
"""`captured_at` of an item without one."""
_COLUMN_BYTES = 69
"""A row's share of the one-dimensional columns, its codes' scale and bounds included."""


class Columns:
    """The growing columns; every method that writes is for one writer at a time."""

    def __init__(self, schema: PartSchema) -> None:
        self.schema = schema
        self.item_ids: list[str] = []
        self.attributes: list[str] = []
        self.attribute_index = AttributeIndex(self.attributes)
        self.cameras = Codes()
        self.people = Codes()
        self.newest_row: dict[str, int] = {}
        """The last row written for each item, dead or alive; see `Snapshot.row_of`."""
        self._rows = 0
        self._dead = 0
        self._blocks = Blocks(schema)
        self._alive = GrowingArray(np.bool_)
        self._cameras = GrowingArray(np.int32)
        self._people = GrowingArray(np.int32)
        self._captured_at = GrowingArray(np.int64)
        self._sequences = GrowingArray(np.int64)
        self._stored_at = GrowingArray(np.int64)
        self.previous = GrowingArray(np.int64)
        self._patterns = GrowingArray(np.uint64)
        self._sizes = GrowingArray(np.int64)

    def reserve(self, count: int) -> None:
        """Room for ``count`` more rows, so that `extend` after a commit has no memory left to ask for."""
        rows = self._rows + count
        for column in self._per_row():
            column.reserve(rows)
        self._blocks.reserve(rows)

    def extend(self, batch: Batch) -> None:
        """Appends the batch (item ids distinct) and marks the rows it replaces as dead; `snapshot` publishes it."""
        count = len(batch)
        start, stop = self._rows, self._rows + count
        self.reserve(count)
        self._blocks.write(start, batch)
        self.item_ids.extend(batch.item_ids)
        self.attributes.extend(batch.attributes)
        previous = [self.newest_row.get(item_id, -1) for item_id in batch.item_ids]
        self.previous.write(start, previous)
        self._cameras.write(start, self.cameras.encode(batch.camera_ids))
        self._people.write(start, self.people.encode(batch.person_ids))
        self._captured_at.write(start, [NO_TIME if time is None else time for time in batch.captured_at])
        self._sequences.write(start, batch.sequences)
        self._stored_at.write(start, batch.stored_at)
        seen = (batch.visibility >= VISIBLE).astype(np.uint64)
        self._patterns.write(start, seen @ (np.uint64(1) << np.arange(seen.shape[1], dtype=np.uint64)))
        features = 2 * self.schema.width + 4 * len(self.schema)
        texts = zip(batch.item_ids, batch.person_ids, batch.camera_ids, batch.attributes, strict=True)
        self._sizes.write(start, [features + len("".join(row).encode()) for row in texts])
        self._alive.write(start, np.ones(count, np.bool_))
        self._rows = stop
        self.newest_row.update(zip(batch.item_ids, range(start, stop), strict=True))
        self.kill([row for row in previous if row >= 0])

    def kill(self, rows: Sequence[int] | Int64) -> None:
        """Marks rows as dead."""
        if len(rows) == 0:
            return
        alive = GrowingArray(np.bool_)
        alive.reserve(len(self._alive.view(self._rows)) * 5 // 4 + 64)
        alive.write(0, self._alive.view(self._rows))
        mask = alive.view(self._rows)
        self._dead += int(np.count_nonzero(mask[rows]))
        mask[rows] = False
        self._alive = alive

    def snapshot(self, sequence: int) -> Snapshot:
        """What has been written so far, as of the committed write ``sequence``."""
        rows = self._rows
        return Snapshot(
            columns=self,
            sequence=sequence,
            rows=rows,
            live=rows - self._dead,
            alive=self._alive.view(rows),
            blocks=self._blocks.first(rows),
            cameras=self._cameras.view(rows),
            people=self._people.view(rows),
            captured_at=self._captured_at.view(rows),
            sequences=self._sequences.view(rows),
            stored_at=self._stored_at.view(rows),
            patterns=self._patterns.view(rows),
            sizes=self._sizes.view(rows),
        )

    @property
    def holds_duplicates(self) -> bool:
        """Whether some item was written more than once."""
        return len(self.newest_row) != self._rows

    @property
    def needs_compaction(self) -> bool:
        """More than a quarter of the rows are dead."""
        return self._dead * 4 > self._rows

    def compacted(self) -> Columns:
        """New columns with the live rows only, in their order."""
        source = self.snapshot(0)
        rows = np.flatnonzero(source.alive)
        columns = Columns(self.schema)
        columns.reserve(len(rows))
        for start in range(0, len(rows), 4096):
            columns.extend(source.batch(rows[start : start + 4096]))
        return columns

    def _per_row(self) -> tuple[GrowingArray, ...]:
        return (
            self._alive,
            self._cameras,
            self._people,
            self._captured_at,
            self._sequences,
            self._stored_at,
            self.previous,
            self._patterns,
            self._sizes,
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A gallery as of one committed write. Arrays are ``(rows,)`` and never change."""

    columns: Columns
    sequence: int
    rows: int
    live: int
    alive: NDArray[np.bool_]
    blocks: tuple[Block, ...]
    cameras: NDArray[np.int32]
    people: NDArray[np.int32]
    captured_at: Int64
    sequences: Int64
    stored_at: Int64
    patterns: NDArray[np.uint64]
    """Bit p is set when part p is visible (at least 0.5)."""
    sizes: Int64

    @property
    def schema(self) -> PartSchema:
        return self.columns.schema

    @property
    def dead(self) -> int:
        return self.rows - self.live

    def item_id(self, row: int) -> str:
        return self.columns.item_ids[row]

    def row_of(self, item_id: str) -> int | None:
        """The live row of an item, or None.

        The newest row may have been written after this snapshot; the chain of replaced rows leads back to ours.
        """
        row = self.columns.newest_row.get(item_id, -1)
        while row >= self.rows:
            row = int(self.columns.previous[row])
        return row if row >= 0 and self.alive[row] else None

    @cached_property
    def by_item_id(self) -> list[int]:
        """Live rows in the order of their item ids."""
        ids = self.columns.item_ids
        return sorted(np.flatnonzero(self.alive).tolist(), key=ids.__getitem__)

    @cached_property
    def pattern_count(self) -> int:
        """How many visibility patterns the live items have."""
        return len(np.unique(self.patterns[self.alive]))

    @cached_property
    def bytes(self) -> int:
        """Size of the live items: features and metadata."""
        return int(self.sizes[self.alive].sum())

    @property
    def memory_bytes(self) -> int:
        """Memory of the rows' columns (Python's own overhead for texts not counted)."""
        return int(self.sizes.sum()) + self.rows * (self.schema.width + _COLUMN_BYTES)

    def pieces(self) -> Iterator[tuple[Block, int]]:
        """Each block with the number of its rows that belong to this snapshot."""
        for block in self.blocks:
            yield block, min(self.rows - block.start, block.capacity)

    def split(self, rows: Int64) -> Iterator[tuple[Block, slice, Int64]]:
        """Ascending ``rows`` block by block: the block, the slice of ``rows`` and their places in the block."""
        bounds = np.searchsorted(rows, [block.start for block in self.blocks] + [self.rows])
        for block, first, last in zip(self.blocks, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if first < last:
                yield block, slice(first, last), rows[first:last] - block.start

    def stored(self, rows: Int64) -> tuple[Float16, Float32]:
        """Vectors float16 ``(K, sum_p D_p)`` and visibilities float32 ``(K, P)`` of the rows, in the given order."""
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        vectors = np.empty((len(rows), self.schema.width), np.float16)
        visibility = np.empty((len(rows), len(self.schema)), np.float32)
        for block, at, local in self.split(ascending):
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
        columns = self.columns
        captured_at = int(self.captured_at[row])
        return ItemMetadata(
            item_id=columns.item_ids[row],
            person_id=columns.people.texts[self.people[row]],
            camera_id=columns.cameras.texts[self.cameras[row]],
            captured_at=None if captured_at == NO_TIME else captured_at,
            attributes=attributes_from_json(columns.attributes[row]),
        )

    def items(self, rows: Int64, *, vectors: bool) -> list[StoredItem]:
        """The whole items, their vectors only if asked for."""
        visibility = self.visibility(rows).T.copy()
        stored = self.stored(rows)[0] if vectors else [None] * len(rows)
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
                sequence=int(self.sequences[row]),
                vectors=stored[at],
            )
            items.append(item)
        return items

    def batch(self, rows: Int64) -> Batch:
        """The rows as they were stored."""
        columns = self.columns
        vectors, visibility = self.stored(rows)
        times = self.captured_at[rows].tolist()
        return Batch(
            item_ids=[columns.item_ids[row] for row in rows],
            person_ids=[columns.people.texts[code] for code in self.people[rows]],
            camera_ids=[columns.cameras.texts[code] for code in self.cameras[rows]],
            captured_at=[None if time == NO_TIME else time for time in times],
            attributes=[columns.attributes[row] for row in rows],
            vectors=vectors,
            visibility=visibility,
            sequences=self.sequences[rows],
            stored_at=self.stored_at[rows],
        )
