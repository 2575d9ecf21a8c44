"""A sealed segment: a file whose scanned arrays are in memory, and the rest of which is read where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartSchema
from server.galleries.attributes import AttributeIndex
from server.galleries.blocks import Block
from server.galleries.codes import RowCodes
from server.galleries.items import Float16, Int64
from server.galleries.segments.container import Container, SegmentError
from server.galleries.segments.reading import RowReader
from server.galleries.segments.stretch import Ids, Mask, TextColumns
from server.galleries.segments.texts import Lookup, Texts

COMPACT = "compact."
"""Prefix of the names of the arrays of two-bit codes that the fast engine scans."""
SCANNED = ("visibility", "scale", "residual", "norm", "camera", "person", "captured_at", "digests", "digest_rows")
"""Arrays that searches and look-ups read from end to end: always loaded."""
CODES, VECTORS = "codes", "vectors"


@dataclass(frozen=True, slots=True, eq=False)
class SealedBlock:
    """The one block of a sealed segment."""

    start: int
    visibility: Float32
    codes: RowCodes
    compact: Mapping[str, NDArray[Any]] | None
    reader: RowReader

    @property
    def capacity(self) -> int:
        return len(self.codes)

    @property
    def stop(self) -> int:
        return self.start + self.capacity

    def read(self, rows: Int64) -> Float16:
        return self.reader.read(rows)


class SealedSegment:
    """See `Segment`; opening checks every byte of the file, unless this process has just written it.

    Args:
        path: the file.
        schema: the gallery's.
        facts: what the file must say of its gallery.
        exact: load the int8 codes; else they are read from the disk when they are asked for.
        fast: the same of the two-bit codes.
        fresh: check only what is loaded.

    Raises:
        SegmentError: the file is missing, damaged, of another gallery or format.
    """

    def __init__(
        self, path: Path, schema: PartSchema, facts: Mapping[str, Any], *, exact: bool, fast: bool, fresh: bool
    ) -> None:
        container = Container(path)
        if any(container.facts.get(name) != value for name, value in facts.items()):
            raise SegmentError("it belongs to another gallery")
        self.path = path
        self._size = container.size
        wanted = {CODES: exact, **dict.fromkeys(SCANNED, True)}
        loaded = [name for name in container.names if wanted.get(name, fast and name.startswith(COMPACT))]
        array = {name: container.loaded(name) for name in loaded}
        for name in container.names:
            if name not in array:
                if not fresh:
                    container.verify(name)
                if name != VECTORS:
                    array[name] = container.mapped(name)
        self._fill(container, array, schema)
        self._memory = sum(array[name].nbytes for name in loaded)

    def _fill(self, container: Container, array: dict[str, NDArray[Any]], schema: PartSchema) -> None:
        try:
            codes = RowCodes(array[CODES], array["scale"], array["residual"], array["norm"])
            compact = {name.removeprefix(COMPACT): array[name] for name in array if name.startswith(COMPACT)}
            self._block = SealedBlock(0, array["visibility"], codes, compact or None, RowReader(container, VECTORS))
            self.rows = len(codes)
            self.item_ids = Texts(array["item_ids"], array["item_id_offsets"])
            self._lookup = Lookup(array["digests"], array["digest_rows"], self.item_ids)
            self._by_item_id: NDArray[np.uint32] = array["by_item_id"]
            self._cameras = Texts(array["cameras"], array["camera_offsets"])
            self._camera_codes: NDArray[np.int32] = array["camera"]
            self._people = Texts(array["people"], array["person_offsets"])
            self._person_codes: NDArray[np.int32] = array["person"]
            self._attributes = Texts(array["attributes"], array["attribute_offsets"])
            self.captured_at: Int64 = array["captured_at"]
            self.sequences: Int64 = array["sequences"]
            self.stored_at: Int64 = array["stored_at"]
            self.checksums: NDArray[np.uint32] = array["checksums"]
            self.row_ids: Int64 = array["row_ids"]
            """The rows of the store."""
            self.sizes: NDArray[np.int32] = array["sizes"]
        except KeyError as error:
            raise SegmentError(f"it has no array {error.args[0]!r}") from error
        if self._block.reader.shape != (self.rows, schema.width) or codes.codes.shape != (self.rows, schema.width):
            raise SegmentError("its rows do not fit the gallery's parts")
        self.oldest = int(self.stored_at.min(initial=np.iinfo(np.int64).max))
        self._attribute_index = AttributeIndex(self._attributes)

    def blocks(self, start: int, rows: int) -> tuple[Block, ...]:
        return (replace(self._block, start=start),) if rows else ()

    def item_id(self, row: int) -> str:
        return self.item_ids[row]

    def person_id(self, row: int) -> str:
        return self._people[int(self._person_codes[row])]

    def camera_id(self, row: int) -> str:
        return self._cameras[int(self._camera_codes[row])]

    def attributes(self, row: int) -> str:
        return self._attributes[row]

    def texts(self, rows: Int64) -> TextColumns:
        places = rows.tolist()
        return (
            [self.item_ids[row] for row in places],
            [self._people[code] for code in self._person_codes[rows].tolist()],
            [self._cameras[code] for code in self._camera_codes[rows].tolist()],
            [self._attributes[row] for row in places],
        )

    def among_cameras(self, camera_ids: Sequence[str], rows: int) -> Mask:
        return _among(self._cameras, camera_ids, self._camera_codes)

    def among_people(self, person_ids: Sequence[str], rows: int) -> Mask:
        return _among(self._people, person_ids, self._person_codes)

    def having(self, key: str, value: Any, rows: int) -> Mask:
        return self._attribute_index.matches(key, value, rows)

    def newest(self, ids: Ids, rows: int) -> dict[int, int]:
        return self._lookup.rows(ids.texts, ids.digests)

    def by_item_id(self, rows: int) -> Sequence[int]:
        return self._by_item_id  # type: ignore[return-value]  # an array is a sequence in all but name

    def memory_bytes(self, rows: int) -> int:
        return self._memory + self._attribute_index.memory_bytes

    def disk_bytes(self) -> int:
        return self._size


def _among(texts: Texts, wanted: Sequence[str], codes: NDArray[np.int32]) -> Mask:
    found = [code for code in map(texts.position, wanted) if code is not None]
    if not found:
        return np.zeros(len(codes), np.bool_)
    return codes == found[0] if len(found) == 1 else np.isin(codes, found)
