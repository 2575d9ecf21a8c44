"""Sealed segments: rows of the audit trail that have left the store's table for a file.

A segment is a gzip file of JSON lines in the folder ``audit``, named by its first and last row; its SHA-256 and the
hashes at both ends stay in the store, so that the chain goes on across files. A file is complete on disk before the
transaction that takes its rows out of the table: a kill in between leaves a file that is not listed, which the next
start removes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from server.security.audit import acting, touch
from server.security.trail import BEGINNING, Row, rows_between

if TYPE_CHECKING:
    from server.galleries.database import Database

FOLDER = "audit"
SEGMENT_ROWS = 10_000
SEGMENT_DAYS = 7.0
PRUNED = "AuditPruned"
"""The row that says that segments were deleted for their age; ``items`` is the last row they held."""
PRUNING = threading.Lock()
"""Held while segments are deleted, and by whoever must find all that are listed."""


class TrailError(Exception):
    """A part of the trail is missing or not what was written; the message says which."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment as the store lists it."""

    first: int
    last: int
    before: bytes
    hash: bytes
    sha256: bytes
    sealed_at: int

    @property
    def name(self) -> str:
        return f"{self.first:012d}-{self.last:012d}.jsonl.gz"

    def load(self, folder: Path) -> list[Row]:
        """Its rows. TrailError when the file is missing, damaged or another one."""
        try:
            data = (folder / self.name).read_bytes()
        except OSError as error:
            raise TrailError(f"segment {self.name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).digest() != self.sha256:
            raise TrailError(f"segment {self.name} differs from its checksum")
        try:
            lines = gzip.decompress(data).splitlines()
            return [_row(line) for line in lines]
        except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise TrailError(f"segment {self.name} is not a file of rows") from error


def segments_of(connection: sqlite3.Connection) -> list[Segment]:
    """All sealed segments, the oldest first."""
    found = connection.execute(
        "SELECT first, last, before, hash, sha256, sealed_at FROM audit_segments ORDER BY first"
    ).fetchall()
    return [Segment(*row) for row in found]


def seal(database: Database, *, everything: bool = False) -> list[str]:
    """Moves rows into segments: `SEGMENT_ROWS` at a time, and the rest once its oldest row is `SEGMENT_DAYS` old.

    Args:
        everything: the rest in any case.

    Returns:
        The names of the new files.
    """
    names: list[str] = []
    while True:
        with database.read() as connection:
            (first,) = connection.execute("SELECT min(seq) FROM audit").fetchone()
            if first is None:
                return names
            rows = rows_between(connection, first, first + SEGMENT_ROWS - 1)
            segments = segments_of(connection)
            before = segments[-1].hash if segments else BEGINNING
        age = time.time() - rows[0].said.time / 1e6
        if len(rows) < SEGMENT_ROWS and age < SEGMENT_DAYS * 86_400 and not everything:
            return names
        names.append(_seal(database, rows, before))


def prune(database: Database, keep_days: float, now: float | None = None) -> list[str]:
    """Deletes segments that were sealed longer ago, but for the newest, on whose end the chain goes on; a row of the
    trail says so. Returns the names of the files."""
    horizon = int(((time.time() if now is None else now) - keep_days * 86_400) * 1e6)
    with database.read() as connection:
        old: list[Segment] = []
        for segment in segments_of(connection)[:-1]:
            if segment.sealed_at >= horizon:
                break
            old.append(segment)
    if not old:
        return []
    with PRUNING:
        with acting(PRUNED), database.write() as connection:
            touch(count=old[-1].last)
            connection.execute("DELETE FROM audit_segments WHERE last <= ?", (old[-1].last,))
        for segment in old:
            with suppress(FileNotFoundError):
                (database.folder / FOLDER / segment.name).unlink()
    return [segment.name for segment in old]


def sweep(database: Database) -> list[str]:
    """Removes what a kill has left in the folder: files that the store does not list. Returns their names."""
    folder = database.folder / FOLDER
    with database.read() as connection:
        known = {segment.name for segment in segments_of(connection)}
    strays = [path for path in folder.glob("*.jsonl.gz*") if path.name not in known]
    for path in strays:
        path.unlink()
    return [path.name for path in strays]


def _seal(database: Database, rows: Sequence[Row], before: bytes) -> str:
    data = gzip.compress(b"".join(map(_line, rows)), mtime=0)
    segment = Segment(
        rows[0].seq, rows[-1].seq, before, rows[-1].hash, hashlib.sha256(data).digest(), time.time_ns() // 1000
    )
    folder = database.folder / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    temporary = folder / f"{segment.name}.new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    temporary.replace(folder / segment.name)
    listing = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(listing)
    finally:
        os.close(listing)
    with database.write() as connection:
        connection.execute(
            "INSERT INTO audit_segments (first, last, before, hash, sha256, sealed_at) VALUES (?, ?, ?, ?, ?, ?)",
            (segment.first, segment.last, before, segment.hash, segment.sha256, segment.sealed_at),
        )
        connection.execute("DELETE FROM audit WHERE seq BETWEEN ? AND ?", (segment.first, segment.last))
    return segment.name


def _line(row: Row) -> bytes:
    said = {"seq": row.seq, "row": row.text, "digests": row.digests.hex(), "hash": row.hash.hex()}
    return json.dumps(said).encode() + b"\n"


def _row(line: bytes) -> Row:
    said = json.loads(line)
    return Row(int(said["seq"]), str(said["row"]), bytes.fromhex(said["digests"]), bytes.fromhex(said["hash"]))
