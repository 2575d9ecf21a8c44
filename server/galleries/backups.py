"""`Backups`: the files below ``snapshots/`` of a data folder, made and kept by the server.

They are what the API and users call snapshots; in this code a `Snapshot` is a gallery in memory.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from server import faults
from server.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from server.galleries.backup import (
    UNFINISHED,
    BackupError,
    Facts,
    Written,
    read_facts,
    read_items,
    sha256_of,
    verify,
    verify_hash,
    write_backup,
)
from server.galleries.ledger import Erased, Ledger, last_erasure
from server.galleries.segments.container import flush_folder
from server.galleries.store import Kept, Store
from server.security import audit
from server.version import VERSION

FOLDER = "snapshots"
SUFFIX = ".snapshot"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backup:
    """A file of the folder."""

    name: str
    bytes: int
    facts: Facts | None
    """None when they cannot be read."""
    sha256: str = ""
    damage: str = ""
    """Why they cannot."""


class Backups:
    """One folder of backups. `Custody` sees to it that no two methods run at once."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._database = store.database
        self._ledger = ledger
        self._folder = self._database.folder / FOLDER
        with self._database.starting():
            self._store_id = self._database.key("store").hex()[:32]

    def create(self, name: str, key: int, gallery: str) -> Backup:
        """Writes a backup of a gallery as of its last committed write; other writes go on meanwhile.

        Args:
            name: of the new backup; empty for one made of the gallery's name and the time.

        Raises:
            InvalidArgument: a bad name.
            AlreadyExists: it is taken.
            NotFound: the gallery was deleted.
            ResourceExhausted: the disk is full.
        """
        now_us = time.time_ns() // 1000
        name = name or f"{gallery}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}.{now_us % 1_000_000:06d}Z"
        path = self._path(name)
        if path.exists():
            raise AlreadyExists(f"snapshot {name!r} exists already", field="snapshot")
        with self._database.read() as connection:
            connection.execute("BEGIN")
            try:
                row = connection.execute("SELECT settings, sequence FROM galleries WHERE id = ?", (key,)).fetchone()
                if row is None:
                    raise NotFound(f"gallery {gallery!r} was deleted meanwhile")
                (count,) = connection.execute("SELECT count(*) FROM items WHERE gallery = ?", (key,)).fetchone()
                facts = Facts(
                    gallery=gallery,
                    settings=row[0],
                    sequence=int(row[1]),
                    items=int(count),
                    erasures=last_erasure(connection),
                    store=self._store_id,
                    created_at_us=now_us,
                    version=VERSION,
                )
                with self._database.write():  # the row of the audit trail, before there is a file
                    audit.aimed(f"snapshot {name}")
                    audit.touch(count=facts.items)
                faults.point("backup.begun")
                written = self._written(path, facts, self._store.keep(connection, key))
            finally:
                connection.execute("ROLLBACK")
        return Backup(name, written.bytes, facts, written.sha256)

    def all(self) -> list[Backup]:
        """By name; those that cannot be read say why."""
        return [self._described(path) for path in self._files()]

    def delete(self, name: str) -> None:
        """Removes a backup. NotFound if there is none of this name."""
        path = self._existing(name)
        try:
            facts = read_facts(path)
        except BackupError:  # it may be deleted all the same
            pass
        else:
            audit.resolved(facts.gallery[:64])  # the header is not checked
            audit.touch(count=facts.items)
        with self._database.write():  # the row of the audit trail, before the file is gone
            pass
        path.unlink()
        flush_folder(self._folder)

    def verified(self, name: str) -> tuple[Path, Facts]:
        """The path of a backup that is whole, and its facts.

        Raises:
            InvalidArgument, NotFound: no such name.
            FailedPrecondition: it is damaged, cut off, or of a newer format.
        """
        path = self._existing(name)
        try:
            return path, verify(path)
        except BackupError as error:
            raise FailedPrecondition(f"snapshot {name!r} cannot be restored: {error}") from error

    def forbidden(self, facts: Facts) -> Erased:
        """Who was erased since a backup was made, and ever if it comes from another data folder."""
        since = facts.erasures if facts.store == self._store_id else 0
        with self._database.read() as connection:
            return self._ledger.erased_since(connection, facts.gallery, since)

    def check(self) -> None:
        """FailedPrecondition when one of them is damaged, so that nobody can say who is in it."""
        self._sound()

    def matching(self, gallery: str | None, wanted: Callable[[Kept], bool]) -> dict[str, list[Kept]]:
        """Items in the backups of one gallery (None: of all) that are wanted, by gallery."""
        found: dict[str, list[Kept]] = {}
        for path, facts in self._sound():
            if gallery in (None, facts.gallery):
                found.setdefault(facts.gallery, []).extend(item for item in read_items(path) if wanted(item))
        return found

    def cleanse(self) -> tuple[list[Path], int]:
        """Takes out of every backup who was erased since it was made, each file in one step.

        Returns:
            The files that were rewritten, and how many items they lost.

        Raises:
            ResourceExhausted: the disk is full; call it again then.
        """
        rewritten: list[Path] = []
        lost = 0
        self.tidy()
        with self._database.read() as connection:
            latest = last_erasure(connection)
        for path, facts in self._sound():
            erased = self.forbidden(facts)
            if not erased:
                continue
            try:
                items = sum(1 for item in read_items(path) if not erased.holds(item.item_id, item.person_id))
                if items == facts.items:
                    continue
                faults.point("backup.purging")
                kept = (item for item in read_items(path) if not erased.holds(item.item_id, item.person_id))
                self._written(path, replace(facts, items=items, erasures=latest, store=self._store_id), kept)
            except BackupError as error:
                raise _unsearchable(path, error) from error
            rewritten.append(path)
            lost += facts.items - items
        return rewritten, lost

    def tidy(self) -> None:
        """Removes what a killed process left unfinished."""
        if self._folder.is_dir():
            for path in self._folder.glob(f"*{SUFFIX}{UNFINISHED}"):
                path.unlink(missing_ok=True)

    def _written(self, path: Path, facts: Facts, items: Iterable[Kept]) -> Written:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return write_backup(path, facts, items)
        except OSError as error:
            raise ResourceExhausted(
                f"a snapshot cannot be written just now ({error.strerror}); searches go on", retry_after=30.0
            ) from error

    def _sound(self) -> list[tuple[Path, Facts]]:
        found = []
        for path in self._files():
            try:
                found.append((path, verify_hash(path)))
            except BackupError as error:
                raise _unsearchable(path, error) from error
        return found

    def _files(self) -> Sequence[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else ()

    def _described(self, path: Path) -> Backup:
        name, size = path.name.removesuffix(SUFFIX), path.stat().st_size
        try:
            return Backup(name, size, read_facts(path), sha256_of(path))
        except BackupError as error:
            return Backup(name, size, None, damage=str(error))

    def _existing(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file() or path.is_symlink():
            names = [each.name.removesuffix(SUFFIX) for each in self._files()]
            told = f"; there is {', '.join(map(repr, names[-5:]))}" if names else "; there is none yet"
            raise NotFound(f"no snapshot {name!r}{told}", field="snapshot")
        return path

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"snapshot name {name[:80]!r}: expected letters, digits, '.', '_' and '-', at most 100, starting with "
                "a letter or digit",
                field="snapshot",
            )
        return self._folder / f"{name}{SUFFIX}"


def _unsearchable(path: Path, error: BackupError) -> FailedPrecondition:
    name = path.name.removesuffix(SUFFIX)
    what = "delete it" if _NAME.fullmatch(name) else f"delete the file {FOLDER}/{path.name}"  # no call can name it
    return FailedPrecondition(
        f"snapshot {name!r} cannot be searched for what is to be erased: {error}; {what} and erase again"
    )
