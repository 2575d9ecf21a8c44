"""`Aliases`: names that stand for galleries, moved from one to another in one step."""

from __future__ import annotations

from collections.abc import Mapping

from server import faults
from server.galleries.database import Database


class Aliases:
    """The table ``aliases``, and a copy of it that is read without a lock. One writer at a time: the catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as connection, database.starting():
            self._names: Mapping[str, str] = dict(connection.execute("SELECT name, gallery FROM aliases ORDER BY name"))

    def get(self, name: str) -> str | None:
        """The gallery that an alias stands for, None if there is no such alias."""
        return self._names.get(name)

    def all(self) -> Mapping[str, str]:
        """Alias -> gallery, by name."""
        return self._names

    def of(self, gallery: str) -> list[str]:
        """The aliases of a gallery."""
        return [name for name, other in self._names.items() if other == gallery]

    def set(self, name: str, gallery: str) -> None:
        """Makes or moves an alias: durable when this returns, and seen by every call that begins then."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO aliases (name, gallery) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET gallery = excluded.gallery",
                (name, gallery),
            )
            faults.point("alias.written")
        faults.point("alias.committed")
        self._names = dict(sorted({**self._names, name: gallery}.items()))

    def remove(self, name: str) -> None:
        """Removes an alias, if there is one; the gallery stays."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM aliases WHERE name = ?", (name,))
        self._names = {other: gallery for other, gallery in self._names.items() if other != name}
