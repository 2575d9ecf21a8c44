"""`Ledger`: what was erased, so that no older backup brings it back.

An entry is the keyed digest of an item or person of a gallery (or of all galleries), and the number of the erasure.
Erasures of a store are numbered 1, 2, 3...; a backup notes the last one before it was made. When it is restored, it
loses what later erasures name, and only that: what was legitimately added again after its erasure is in a later backup,
which knows of that erasure. Numbers, not times: clocks are set back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.galleries.database import Database
from server.security.trail import Digester

EVERYWHERE = ""
"""Stands for all galleries, those that are gone and those to come included."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Who must not come back into one gallery."""

    gallery: str
    digester: Digester
    digests: frozenset[bytes]

    def __bool__(self) -> bool:
        return bool(self.digests)

    def holds(self, item_id: str, person_id: str) -> bool:
        """Whether the item, or its person, was erased."""
        if not self.digests:
            return False
        for gallery in (self.gallery, EVERYWHERE):
            if self.digester.item(gallery, item_id) in self.digests:
                return True
            if person_id and self.digester.person(gallery, person_id) in self.digests:
                return True
        return False


class Ledger:
    """The tables ``ledger`` and ``erasures`` of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.digester = database.digester

    def record(
        self,
        connection: sqlite3.Connection,
        gallery: str,
        items: Iterable[str],
        people: Iterable[str],
        number: int,
    ) -> list[bytes]:
        """Notes, within the caller's transaction, that items and people of a gallery were erased; returns digests."""
        digests = [self.digester.item(gallery, item_id) for item_id in dict.fromkeys(items)]
        digests += [self.digester.person(gallery, person_id) for person_id in dict.fromkeys(people)]
        connection.executemany(
            "INSERT INTO ledger (digest, gallery, erasure) VALUES (?, ?, ?) "
            "ON CONFLICT (digest, gallery) DO UPDATE SET erasure = excluded.erasure",
            [(digest, gallery, number) for digest in digests],
        )
        return digests

    def begin(self, connection: sqlite3.Connection, galleries: Sequence[str], now_us: int) -> int:
        """The number of a new erasure, noted as unfinished within the caller's transaction."""
        cursor = connection.execute(
            "INSERT INTO erasures (erased_at, galleries, done) VALUES (?, ?, 0)", (now_us, json.dumps(list(galleries)))
        )
        return int(cursor.lastrowid or 0)

    def unfinished(self) -> dict[int, list[str]]:
        """Erasures that have not yet reached every file, with their galleries."""
        with self._database.read() as connection, self._database.starting():
            rows = connection.execute("SELECT number, galleries FROM erasures WHERE NOT done ORDER BY number")
            return {int(number): json.loads(galleries) for number, galleries in rows}

    def finish(self, numbers: Iterable[int]) -> None:
        """Notes that erasures have reached every file."""
        with self._database.write() as connection:
            connection.executemany("UPDATE erasures SET done = 1 WHERE number = ?", [(number,) for number in numbers])

    def erased_since(self, connection: sqlite3.Connection, gallery: str, number: int) -> Erased:
        """Who of a gallery was erased after erasure ``number``; 0 for all there ever were."""
        rows = connection.execute(
            "SELECT digest FROM ledger WHERE gallery IN (?, ?) AND erasure > ?", (gallery, EVERYWHERE, number)
        )
        return Erased(gallery, self.digester, frozenset(bytes(digest) for (digest,) in rows))


def last_erasure(connection: sqlite3.Connection) -> int:
    """The number of the last erasure, 0 when there was none."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM erasures").fetchone()
    return int(number)
