"""The open segment: rows in memory, to which one writer appends while readers look at the first so many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartSchema
from server.galleries.attributes import AttributeIndex
from server.galleries.blocks import Block, Blocks
from server.galleries.growing import Codes, GrowingArray
from server.galleries.items import Batch, Int64
from server.galleries.segments.stretch import NO_TIME, Ids, Mask, TextColumns
from server.galleries.segments.texts import UInt32

_ROW_BYTES = 56
"""A row's numbers besides features and their codes."""
_OBJECT_BYTES = 300
"""What Python adds for a row's texts and its entry in the dict of ids."""
_CODE_BYTES = 12
"""Scale and bounds of a row's codes."""


class OpenSegment:
    """See the module; the methods of `Segment` and, for the one writer, `reserve` and `extend`."""

    def __init__(self, schema: PartSchema) -> None:
        self.rows = 0
        self._schema = schema
        self._blocks = Blocks(schema)
        self._item_ids: list[str] = []
        self._attributes: list[str] = []
        self._attribute_index = AttributeIndex(self._attributes)
        self._cameras = Codes()
        self._people = Codes()
        self._newest: dict[str, int] = {}
        """The last row written for each item."""
        self._previous = GrowingArray(np.int64)
        """The row that a row replaced, or -1: leads from the newest row back to an older snapshot's."""
        self._camera_codes = GrowingArray(np.int32)
        self._person_codes = GrowingArray(np.int32)
        self._captured_at = GrowingArray(np.int64)
        self._sequences = GrowingArray(np.int64)
        self._stored_at = GrowingArray(np.int64)
        self._checksums = GrowingArray(np.uint32)
        self._sizes = GrowingArray(np.int32)
        self.oldest = int(np.iinfo(np.int64).max)

    def reserve(self, count: int) -> None:
        """Room for ``count`` more rows, so that `extend` after a commit has no memory left to ask for."""
        rows = self.rows + count
        for column in self._per_row():
            column.reserve(rows)
        self._blocks.reserve(rows)

    def extend(self, batch: Batch) -> Int64:
        """Appends the batch (item ids distinct); returns the rows here that it replaces, dead or alive."""
        start = self.rows
        self.reserve(len(batch))
        self._blocks.write(start, batch)
        self._item_ids.extend(batch.item_ids)
        self._attributes.extend(batch.attributes)
        previous = np.array([self._newest.get(item_id, -1) for item_id in batch.item_ids], np.int64)
        self._previous.write(start, previous)
        self._camera_codes.write(start, self._cameras.encode(batch.camera_ids))
        self._person_codes.write(start, self._people.encode(batch.person_ids))
        self._captured_at.write(start, [NO_TIME if time is None else time for time in batch.captured_at])
        self._sequences.write(start, batch.sequences)
        self._stored_at.write(start, batch.stored_at)
        self._checksums.write(start, np.zeros(len(batch), np.uint32) if batch.checksums is None else batch.checksums)
        features = 2 * self._schema.width + 4 * len(self._schema)
        texts = zip(batch.item_ids, batch.person_ids, batch.camera_ids, batch.attributes, strict=True)
        self._sizes.write(start, [features + len("".join(row).encode()) for row in texts])
        self.rows += len(batch)
        self._newest.update(zip(batch.item_ids, range(start, self.rows), strict=True))
        self.oldest = min(self.oldest, int(batch.stored_at.min(initial=self.oldest)))
        return previous[previous >= 0]

    @property
    def captured_at(self) -> Int64:
        return self._captured_at.view(self.rows)

    @property
    def sequences(self) -> Int64:
        return self._sequences.view(self.rows)

    @property
    def stored_at(self) -> Int64:
        return self._stored_at.view(self.rows)

    @property
    def checksums(self) -> UInt32:
        return self._checksums.view(self.rows)

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self._sizes.view(self.rows)

    def blocks(self, start: int, rows: int) -> tuple[Block, ...]:
        return tuple(replace(block, start=start + block.start) for block in self._blocks.first(rows))

    def item_id(self, row: int) -> str:
        return self._item_ids[row]

    def person_id(self, row: int) -> str:
        return self._people.texts[int(self._person_codes[row])]

    def camera_id(self, row: int) -> str:
        return self._cameras.texts[int(self._camera_codes[row])]

    def attributes(self, row: int) -> str:
        return self._attributes[row]

    def texts(self, rows: Int64) -> TextColumns:
        places = rows.tolist()
        people, cameras = self._people.texts, self._cameras.texts
        return (
            [self._item_ids[row] for row in places],
            [people[code] for code in self._person_codes.view(self.rows)[rows].tolist()],
            [cameras[code] for code in self._camera_codes.view(self.rows)[rows].tolist()],
            [self._attributes[row] for row in places],
        )

    def among_cameras(self, camera_ids: Sequence[str], rows: int) -> Mask:
        return self._cameras.among(camera_ids, self._camera_codes.view(rows))

    def among_people(self, person_ids: Sequence[str], rows: int) -> Mask:
        return self._people.among(person_ids, self._person_codes.view(rows))

    def having(self, key: str, value: Any, rows: int) -> Mask:
        return self._attribute_index.matches(key, value, rows)

    def newest(self, ids: Ids, rows: int) -> dict[int, int]:
        found = {}
        for position, item_id in enumerate(ids.texts):
            row = self._newest.get(item_id, -1)
            while row >= rows:
                row = int(self._previous[row])
            if row >= 0:
                found[position] = row
        return found

    def by_item_id(self, rows: int) -> Sequence[int]:
        return sorted(range(rows), key=self._item_ids.__getitem__)

    def memory_bytes(self, rows: int) -> int:
        coded = rows * (self._schema.width + _CODE_BYTES + _ROW_BYTES + _OBJECT_BYTES)
        return coded + int(self._sizes.view(rows).sum()) + self._attribute_index.memory_bytes

    def disk_bytes(self) -> int:
        return 0

    def _per_row(self) -> tuple[GrowingArray, ...]:
        return (
            self._previous,
            self._camera_codes,
            self._person_codes,
            self._captured_at,
            self._sequences,
            self._stored_at,
            self._checksums,
            self._sizes,
        )
