"""The store: all galleries and items of a data folder, the truth from which everything in memory is derived.

A write is one transaction; when it returns, it is on disk. The tables know nothing of distances or engines: items
with their features as bytes, and a CRC-32 of each row so that a flipped bit is found when it is read, not when it
ranks.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from server import faults
from server.errors import NotFound, Unavailable
from server.galleries.database import Database, StoreError
from server.galleries.items import Batch, Int64
from server.security.audit import touch

CHUNK_ROWS = 2048

_INSERT = """
    INSERT INTO items (gallery, item_id, person_id, camera_id, captured_at, attributes, vectors, visibility, sequence,
                       stored_at, checksum)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPSERT = f"""
    {_INSERT}
    ON CONFLICT (gallery, item_id) DO UPDATE SET
        person_id = excluded.person_id, camera_id = excluded.camera_id, captured_at = excluded.captured_at,
        attributes = excluded.attributes, vectors = excluded.vectors, visibility = excluded.visibility,
        sequence = excluded.sequence, stored_at = excluded.stored_at, checksum = excluded.checksum
"""
_COLUMNS = """
    SELECT gallery, item_id, person_id, camera_id, captured_at, attributes, vectors, visibility, sequence, stored_at,
           checksum
    FROM items
"""
_KEPT = """
    SELECT gallery, item_id, person_id, camera_id, captured_at, attributes, vectors, visibility, sequence, stored_at,
           checksum, data
    FROM items LEFT JOIN images ON images.item = items.id WHERE gallery = ? ORDER BY items.id
"""
_VECTORS, _VISIBILITY, _CHECKSUM = 6, 7, 10

HIDDEN = "."
"""How the name of a gallery begins that is being restored, or was replaced and is to go: no caller can name it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """A row of the table of galleries."""

    id: int
    name: str
    settings: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to be erased from one gallery: its key and name, the write that does it, live items and their people."""

    key: int
    gallery: str
    sequence: int
    item_ids: list[str]
    person_ids: list[str]
    dead: list[str]
    """Items that the choice fits too and that were deleted or replaced before."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An item as a backup has it: everything that the store knows of it but its gallery."""

    item_id: str
    person_id: str
    camera_id: str
    captured_at: int | None
    attributes: str
    vectors: bytes
    visibility: bytes
    sequence: int
    stored_at: int
    image: bytes | None


class Store:
    """The store of one data folder; opening it raises `StoreError` as `Database` does.

    Methods that write raise ResourceExhausted when the disk is full, Unavailable when it fails otherwise.
    """

    def __init__(self, folder: Path | str) -> None:
        self._database = Database(Path(folder))

    @property
    def database(self) -> Database:
        """The file itself, for the audit trail."""
        return self._database

    def galleries(self) -> list[GalleryRow]:
        """All galleries, by name. StoreError when one fails its checksum."""
        with self._database.read() as connection, self._database.starting():
            rows = connection.execute("SELECT id, name, settings, checksum, sequence FROM galleries ORDER BY name")
            return [self._gallery(*row) for row in rows]

    def create(self, name: str, settings: str) -> GalleryRow:
        """A new gallery of sequence 0."""
        with self._database.write() as connection:
            row = (name, settings, _checksum((name, settings)))
            cursor = connection.execute("INSERT INTO galleries (name, settings, checksum) VALUES (?, ?, ?)", row)
            return GalleryRow(int(cursor.lastrowid or 0), name, settings, 0)

    def drop(self, gallery: int) -> None:
        """Removes a gallery and all that is in it."""
        with self._database.write() as connection:
            (count,) = connection.execute("SELECT count(*) FROM items WHERE gallery = ?", (gallery,)).fetchone()
            touch(count=count)
            connection.execute("DELETE FROM galleries WHERE id = ?", (gallery,))

    def upsert(self, gallery: int, batch: Batch, sequence: int, images: Sequence[bytes | None] | None) -> Batch:
        """Commits the batch as write ``sequence`` and returns it with its checksums. With ``images`` an item's image is
        replaced or removed too."""
        rows = zip(
            [gallery] * len(batch),
            batch.item_ids,
            batch.person_ids,
            batch.camera_ids,
            batch.captured_at,
            batch.attributes,
            map(bytes, batch.vectors),
            map(bytes, batch.visibility),
            batch.sequences.tolist(),
            batch.stored_at.tolist(),
            strict=True,
        )
        checked = [(*row, _item_checksum(row)) for row in rows]
        with self._database.write() as connection:
            _advance(connection, gallery, sequence)
            touch(batch.item_ids, batch.person_ids)
            connection.executemany(_UPSERT, checked)
            if images is not None:
                keys = [(gallery, item_id) for item_id in batch.item_ids]
                connection.executemany(
                    "DELETE FROM images WHERE item = (SELECT id FROM items WHERE gallery = ? AND item_id = ?)", keys
                )
                connection.executemany(
                    "INSERT INTO images (item, data) SELECT id, ? FROM items WHERE gallery = ? AND item_id = ?",
                    ((image, *key) for image, key in zip(images, keys, strict=True) if image is not None),
                )
        return replace(batch, checksums=np.array([row[-1] for row in checked], np.uint32))

    def delete(self, gallery: int, item_ids: Iterable[str], people: Iterable[str], sequence: int) -> None:
        """Commits the removal of items, which are of these people, as write ``sequence``."""
        ids = list(item_ids)
        with self._database.write() as connection:
            _advance(connection, gallery, sequence)
            touch(ids, people)
            connection.executemany(
                "DELETE FROM items WHERE gallery = ? AND item_id = ?", ((gallery, item_id) for item_id in ids)
            )

    def erase(self, doomed: Sequence[Doomed], record: Callable[[sqlite3.Connection], T]) -> T:
        """Commits the erasure of items of one or more galleries, together with what ``record`` writes."""
        with self._database.write() as connection:
            for each in doomed:
                if each.item_ids:
                    _advance(connection, each.key, each.sequence)
                connection.executemany(
                    "DELETE FROM items WHERE gallery = ? AND item_id = ?",
                    ((each.key, item_id) for item_id in each.item_ids),
                )
            faults.point("erase.deleted")
            return record(connection)

    def keep(self, connection: sqlite3.Connection, gallery: int) -> Iterator[Kept]:
        """All items of a gallery with their images, within the caller's transaction.

        Raises:
            Unavailable: one differs from its checksum.
        """
        cursor = connection.execute(_KEPT, (gallery,))
        while chunk := cursor.fetchmany(CHUNK_ROWS // 8):
            for *row, image in chunk:
                if _item_checksum(tuple(row)) != row[_CHECKSUM]:
                    raise Unavailable(f"item {row[1][:80]!r} differs from its checksum: the store is damaged")
                yield Kept(*[*row[1:_CHECKSUM], image])

    def refill(self, gallery: int, items: Sequence[Kept]) -> None:
        """Adds items of a backup to a gallery that nobody can see yet."""
        with self._database.write() as connection:
            for item in items:
                row = (
                    gallery,
                    item.item_id,
                    item.person_id,
                    item.camera_id,
                    item.captured_at,
                    item.attributes,
                    item.vectors,
                    item.visibility,
                    item.sequence,
                    item.stored_at,
                )
                cursor = connection.execute(_INSERT, (*row, _item_checksum(row)))
                if item.image is not None:
                    connection.execute("INSERT INTO images (item, data) VALUES (?, ?)", (cursor.lastrowid, item.image))

    def unveil(self, key: int, name: str, settings: str, sequence: int, instead_of: int | None) -> GalleryRow:
        """In one transaction, gives a hidden gallery its name and takes it from the one that had it, which is hidden
        then."""
        with self._database.write() as connection:
            if instead_of is not None:
                hidden = f"{HIDDEN}{instead_of}"
                connection.execute("UPDATE galleries SET name = ? WHERE id = ?", (hidden, instead_of))
            connection.execute(
                "UPDATE galleries SET name = ?, settings = ?, checksum = ?, sequence = ? WHERE id = ?",
                (name, settings, _checksum((name, settings)), sequence, key),
            )
            (count,) = connection.execute("SELECT count(*) FROM items WHERE gallery = ?", (key,)).fetchone()
            touch(count=count)
            faults.point("restore.swapping")
        return GalleryRow(key, name, settings, sequence)

    def drop_hidden(self) -> None:
        """Removes galleries that a restore left hidden: unfinished ones, and those that were replaced."""
        query = "FROM galleries WHERE substr(name, 1, 1) = ?"
        with self._database.read() as connection, self._database.starting():
            found = connection.execute(f"SELECT 1 {query}", (HIDDEN,)).fetchone()
        if found:
            with self._database.write() as connection:
                connection.execute(f"DELETE {query}", (HIDDEN,))

    def image(self, gallery: int, item_id: str) -> tuple[int, bytes | None]:
        """The write that stored the item, and its image if one is kept; write 0 when there is no such item."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT sequence, data FROM items LEFT JOIN images ON images.item = items.id "
                "WHERE gallery = ? AND item_id = ?",
                (gallery, item_id),
            ).fetchone()
        return (int(row[0]), row[1]) if row else (0, None)

    def versions(self, gallery: int) -> tuple[Int64, Int64, NDArray[np.uint32]]:
        """Row id, write and checksum ``(N,)`` of each item, read from an index of just these.

        Raises:
            StoreError: the file cannot be read, or the index does not have all items.
        """
        with self._database.read() as connection, self._database.starting():
            cursor = connection.execute(
                "SELECT id, sequence, checksum FROM items INDEXED BY items_versions WHERE gallery = ?", (gallery,)
            )
            found = [np.empty((0, 3), np.int64)]
            while chunk := cursor.fetchmany(CHUNK_ROWS):
                try:
                    found.append(np.array(chunk, np.int64))
                except (TypeError, ValueError, OverflowError) as error:
                    raise self.damaged("its index of versions holds other things than numbers") from error
            query = "SELECT count(*) FROM items INDEXED BY sqlite_autoindex_items_1 WHERE gallery = ?"
            (items,) = connection.execute(query, (gallery,)).fetchone()
        versions = np.concatenate(found)
        if len(versions) != items:
            raise self.damaged(f"its indexes know of {len(versions):,} and {items:,} items of one gallery")
        return versions[:, 0], versions[:, 1], versions[:, 2].astype(np.uint32)

    def row_ids(self, gallery: int, item_ids: Sequence[str]) -> Int64:
        """The row id of each item; -1 where there is no such item. Unavailable when the disk fails."""
        query = "SELECT items.item_id, items.id FROM json_each(?) CROSS JOIN items ON gallery = ? AND item_id = value"
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for start in range(0, len(item_ids), CHUNK_ROWS):
                wanted = json.dumps(item_ids[start : start + CHUNK_ROWS])
                found.update(connection.execute(query, (wanted, gallery)))
        return np.array([found.get(item_id, -1) for item_id in item_ids], np.int64)

    def batches(self, gallery: int, row_ids: Int64, layout: tuple[int, int]) -> Iterator[Batch]:
        """The items of these ascending row ids.

        Args:
            layout: the embedding width and the number of parts of the gallery's items.

        Raises:
            StoreError: the file cannot be read, or a row is missing, fails its checksum or does not fit its gallery.
        """
        with self._database.read() as connection, self._database.starting():
            for start in range(0, len(row_ids), CHUNK_ROWS):
                wanted = row_ids[start : start + CHUNK_ROWS].tolist()
                query = f"{_COLUMNS} WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
                rows = connection.execute(query, (json.dumps(wanted),)).fetchall()
                if len(rows) != len(wanted) or any(row[0] != gallery for row in rows):
                    raise self.damaged("it lacks items that its index knows")
                yield self._batch(rows, *layout)

    def check_galleries(self) -> None:
        """StoreError when there are items of an unknown gallery."""
        with self._database.read() as connection, self._database.starting():
            query = "SELECT EXISTS (SELECT 1 FROM items WHERE gallery NOT IN (SELECT id FROM galleries))"
            if connection.execute(query).fetchone()[0]:
                raise self.damaged("it holds items of an unknown gallery")

    def damaged(self, reason: str) -> StoreError:
        """The error for contents that cannot be right."""
        return self._database.damaged(reason)

    def check(self) -> None:
        """Unavailable, saying why, when the store cannot be used."""
        self._database.check()

    def close(self) -> None:
        """Every write is on disk already; this lets go of the folder."""
        self._database.close()

    def _gallery(self, key: int, name: str, settings: str, checksum: int, sequence: int) -> GalleryRow:
        if _checksum((name, settings)) != checksum:
            raise self.damaged(f"gallery {name!r} differs from its checksum")
        return GalleryRow(key, name, settings, sequence)

    def _batch(self, rows: list[tuple[Any, ...]], width: int, parts: int) -> Batch:
        for row in rows:
            fits = len(row[_VECTORS]) == 2 * width and len(row[_VISIBILITY]) == 4 * parts
            if not fits or _item_checksum(row) != row[_CHECKSUM]:
                raise self.damaged(f"item {row[1]!r} differs from its checksum")
        columns = list(zip(*rows, strict=True))
        return Batch(
            item_ids=columns[1],
            person_ids=columns[2],
            camera_ids=columns[3],
            captured_at=columns[4],
            attributes=columns[5],
            vectors=np.frombuffer(b"".join(columns[_VECTORS]), np.float16).reshape(len(rows), width),
            visibility=np.frombuffer(b"".join(columns[_VISIBILITY]), np.float32).reshape(len(rows), parts),
            sequences=np.array(columns[8], np.int64),
            stored_at=np.array(columns[9], np.int64),
            checksums=np.array(columns[_CHECKSUM], np.uint32),
        )


def _advance(connection: sqlite3.Connection, gallery: int, sequence: int) -> None:
    cursor = connection.execute(
        "UPDATE galleries SET sequence = ? WHERE id = ? AND sequence = ?", (sequence, gallery, sequence - 1)
    )
    if cursor.rowcount != 1:
        raise NotFound("the gallery was deleted meanwhile")


def _item_checksum(row: tuple[Any, ...]) -> int:
    return _checksum(row[:_VECTORS] + row[_VISIBILITY + 1 : _CHECKSUM], row[_VECTORS], row[_VISIBILITY])


def _checksum(values: tuple[str | int | None, ...], *blobs: bytes) -> int:
    """CRC-32 over everything that a row says."""
    code = zlib.crc32(repr(values).encode())
    for blob in blobs:
        code = zlib.crc32(blob, code)
    return code
