"""The tables of a store and the format that brought each of them.

A new table is one entry of `TABLES`: its name, the format it came with, and the statements that make it (indexes
included). A store of an older format gets what it lacks, in one transaction, when it is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

FORMAT = 2
"""1: galleries, items, images. 2: keys, the audit trail, erasures, aliases, migrations."""


@dataclass(frozen=True, slots=True)
class Table:
    """The format that brought a table, and the statements that make it."""

    since: int
    statements: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.since <= FORMAT:
            raise ValueError(f"a table came with format 1 to {FORMAT}, got {self.since}")


TABLES: Mapping[str, Table] = {
    "galleries": Table(
        1,
        (
            """CREATE TABLE galleries (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                name TEXT NOT NULL UNIQUE,
                settings TEXT NOT NULL,
                checksum INTEGER NOT NULL,
                sequence INTEGER NOT NULL DEFAULT 0
            )""",
        ),
    ),
    "items": Table(
        1,
        (
            """CREATE TABLE items (
                id INTEGER PRIMARY KEY,
                gallery INTEGER NOT NULL REFERENCES galleries (id) ON DELETE CASCADE,
                item_id TEXT NOT NULL,
                person_id TEXT NOT NULL,
                camera_id TEXT NOT NULL,
                captured_at INTEGER,
                attributes TEXT NOT NULL,
                vectors BLOB NOT NULL,
                visibility BLOB NOT NULL,
                sequence INTEGER NOT NULL,
                stored_at INTEGER NOT NULL,
                checksum INTEGER NOT NULL,
                UNIQUE (gallery, item_id)
            )""",
        ),
    ),
    # What the segments of the index are held against at start, see `segments.versions`.
    "items_versions": Table(2, ("CREATE INDEX items_versions ON items (gallery, sequence, checksum)",)),
    "images": Table(
        1,
        (
            """CREATE TABLE images (
                item INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE,
                data BLOB NOT NULL
            )""",
        ),
    ),
    # Secrets of this store, each made at random when it is first asked for.
    "keys": Table(2, ("CREATE TABLE keys (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",)),
    # The rows that are not yet in a sealed segment, see `server.security.trail`.
    "audit": Table(
        2,
        (
            """CREATE TABLE audit (
                seq INTEGER PRIMARY KEY,
                row TEXT NOT NULL,
                digests BLOB NOT NULL,
                hash BLOB NOT NULL
            )""",
        ),
    ),
    # One row: the last row of the trail, wherever it is kept.
    "audit_head": Table(
        2,
        (
            "CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL)",
            "INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, zeroblob(32))",
        ),
    ),
    # The sealed segments: files of rows that have left the table.
    "audit_segments": Table(
        2,
        (
            """CREATE TABLE audit_segments (
                first INTEGER PRIMARY KEY,
                last INTEGER NOT NULL,
                before BLOB NOT NULL,
                hash BLOB NOT NULL,
                sha256 BLOB NOT NULL,
                sealed_at INTEGER NOT NULL
            )""",
        ),
    ),
    # What was erased, by keyed digests, and in which erasure last; see `ledger`.
    "ledger": Table(
        2,
        (
            """CREATE TABLE ledger (
                digest BLOB NOT NULL,
                gallery TEXT NOT NULL,
                erasure INTEGER NOT NULL,
                PRIMARY KEY (digest, gallery)
            ) WITHOUT ROWID""",
        ),
    ),
    # Each erasure, and whether every file has been rewritten since.
    "erasures": Table(
        2,
        (
            """CREATE TABLE erasures (
                number INTEGER PRIMARY KEY AUTOINCREMENT,
                erased_at INTEGER NOT NULL,
                galleries TEXT NOT NULL,
                done INTEGER NOT NULL
            )""",
        ),
    ),
    # Names that stand for galleries.
    "aliases": Table(2, ("CREATE TABLE aliases (name TEXT PRIMARY KEY, gallery TEXT NOT NULL) WITHOUT ROWID",)),
    # Galleries being re-embedded under another model, and those that were; see `migration`.
    "migrations": Table(2, ("CREATE TABLE migrations (target TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID",)),
}


def make_tables(connection: sqlite3.Connection, version: int) -> None:
    """Makes the tables that came after format ``version`` (0: all of them), within the caller's transaction."""
    for table in TABLES.values():
        if table.since > version:
            for statement in table.statements:
                connection.execute(statement)


def missing_tables(connection: sqlite3.Connection) -> list[str]:
    """The names of the tables and indexes that the file lacks."""
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")}
    return [name for name in TABLES if name not in found]
