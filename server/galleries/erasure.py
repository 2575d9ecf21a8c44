"""`Eraser`: takes items out of everything that the server keeps, and says what it has rewritten.

One transaction removes the items and notes their digests in the ledger: that is the erasure, and nobody finds them from
then on. Then every file that remembers them is put right: the pages of the store and its log, the segments of the
index, the backups. Until all of them are, the erasure is noted as unfinished, and is finished at the next start, or by
the upkeep, if the process dies or the disk is full in between. Each step may be repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING

import numpy as np

from server import faults
from server.errors import FailedPrecondition, NotFound, ResourceExhausted, ServerError, Unavailable
from server.galleries.backups import Backups
from server.galleries.choosing import Order
from server.galleries.gallery import Gallery
from server.galleries.ledger import EVERYWHERE, Ledger
from server.galleries.scrub import UnknownPage, scrub
from server.galleries.segments.stretch import Mask
from server.galleries.snapshots import Snapshot
from server.galleries.store import Doomed, Store
from server.security import audit

if TYPE_CHECKING:
    from server.galleries.catalog import Catalog

PASS_SECONDS = 600.0
"""Between two passes over the files on behalf of retention, which may delete a little every minute."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Touched:
    """A file of the data folder (its path within it) and what became of it."""

    path: str
    action: str


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What an erasure did."""

    number: int
    """Of the erasure; 0 when there was nothing to erase."""
    erased: Mapping[str, int]
    """Gallery -> items that were there and are gone."""
    sequences: Mapping[str, int]
    """Gallery -> the write that removed them."""
    digests: tuple[bytes, ...]
    """Of items and people, as in the audit trail."""
    files: tuple[Touched, ...]
    from_backups: int
    """Items taken out of backups."""


@dataclass(slots=True)
class _Pass:
    files: list[Touched] = field(default_factory=list)
    from_backups: int = 0


class Eraser:
    """Made by the catalog; `Custody` sees to it that no two methods run at once."""

    def __init__(self, catalog: Catalog, store: Store, ledger: Ledger, backups: Backups) -> None:
        self._catalog = catalog
        self._store = store
        self._ledger = ledger
        self._backups = backups
        self._next_pass = 0.0

    def erase(self, order: Order) -> EraseReport:
        """Erases what the order names; see `Order` for what it may.

        Raises:
            NotFound: no such gallery.
            FailedPrecondition: a backup cannot be read, or there is a damaged store; nothing is changed.
            ResourceExhausted, Unavailable: the disk is full or fails. If the message says so, the items are gone from
                the store and the searches all the same, and the files will be put right without another call.
        """
        galleries: Sequence[Gallery] = self._catalog.list()
        name = None
        if order.gallery is not None:
            name = self._catalog.get(order.gallery).settings.name
            reached = {name, *self._catalog.migrations.fed_by(name)}
            galleries = [gallery for gallery in galleries if gallery.settings.name in reached]
        kept = self._backups.matching(name, order.fits) if order.filter else {}
        self._backups.check()
        if aside := self._store.database.aside():
            raise FailedPrecondition(
                f"the folder {aside[0]!r} of the data folder holds a damaged store, which cannot be searched for what "
                "is to be erased; save what you need of it elsewhere, delete it and erase again"
            )
        return self._erase(galleries, name, order.mask, order, {key: ids(found) for key, found in kept.items()})

    def expire(self, now_us: int) -> int:
        """Erases the items that are older than their gallery's retention; returns how many.

        They leave the store and the searches at once. The files follow within `PASS_SECONDS`, at the next start at the
        latest.
        """
        expired = 0
        for gallery in self._catalog.list():
            retention = gallery.settings.retention_us
            if retention is None:
                continue
            name = gallery.settings.name
            with audit.acting("Retention", name):
                expired += self._expire(gallery, now_us - retention)
        if time.monotonic() >= self._next_pass and self.is_unfinished:
            self._next_pass = time.monotonic() + PASS_SECONDS
            self.finish()
        return expired

    @property
    def is_unfinished(self) -> bool:
        """Whether some file may still remember what was erased."""
        return bool(self._ledger.unfinished())

    def finish(self) -> None:
        """Finishes what was left unfinished; logs what cannot be just now."""
        try:
            self._finish({})
        except ServerError as error:
            _log.warning("%s", error)

    def _expire(self, gallery: Gallery, before_us: int) -> int:
        def overdue(snapshot: Snapshot) -> Mask:
            mask = np.zeros(snapshot.rows, np.bool_)
            mask[snapshot.stored_before(before_us)] = True
            return mask

        try:
            with gallery.erasing(overdue) as doomed:
                if not doomed.item_ids:
                    return 0
                self._commit([doomed], doomed.gallery, None, {})
        except NotFound:  # deleted meanwhile
            return 0
        return len(doomed.item_ids)

    def _erase(
        self,
        galleries: Iterable[Gallery],
        name: str | None,
        choose: Callable[[Snapshot], Mask],
        order: Order,
        kept: Mapping[str, Sequence[str]],
    ) -> EraseReport:
        doomed: list[Doomed] = []
        with ExitStack() as writing:
            for gallery in galleries:
                try:
                    doomed.append(writing.enter_context(gallery.erasing(choose)))
                except NotFound:
                    if name is not None:
                        raise
            faults.point("erase.chosen")
            number, digests = self._commit(doomed, name, order, kept)
            faults.point("erase.committed")
        named = [*order.item_ids, *order.filtered_items]
        remembered: dict[str, tuple[Sequence[str], Sequence[str], int]] = {
            each.gallery: ([*each.item_ids, *each.dead, *named], list(order.people), number) for each in doomed
        }
        done = self._finish(remembered)
        return EraseReport(
            number=number,
            erased={each.gallery: len(each.item_ids) for each in doomed if each.item_ids},
            sequences={each.gallery: each.sequence for each in doomed if each.item_ids},
            digests=tuple(digests),
            files=tuple(done.files),
            from_backups=done.from_backups,
        )

    def _commit(
        self, doomed: Sequence[Doomed], name: str | None, order: Order | None, kept: Mapping[str, Sequence[str]]
    ) -> tuple[int, list[bytes]]:
        def record(connection: Connection) -> tuple[int, list[bytes]]:
            scope = EVERYWHERE if name is None else name
            number = self._ledger.begin(connection, [scope], time.time_ns() // 1000)
            digests = []
            if order is not None:
                audit.touch(people=order.person_ids)
                digests += self._ledger.record(connection, scope, order.item_ids, order.person_ids, number)
            for each in doomed:
                audit.touch(each.item_ids, each.person_ids, gallery=each.gallery)
                items = [*each.item_ids, *each.dead]
                digests += self._ledger.record(connection, each.gallery, items, (), number)
            for gallery, found in kept.items():
                digests += self._ledger.record(connection, gallery, found, (), number)
            return number, list(dict.fromkeys(digests))

        return self._store.erase(doomed, record)

    def _finish(self, remembered: Mapping[str, tuple[Sequence[str], Sequence[str], int]]) -> _Pass:
        """Puts every file right.

        Args:
            remembered: for a gallery the items and people that its index is to forget, and the number of their erasure;
                for older, unfinished ones it forgets all that is deleted.
        """
        unfinished = self._ledger.unfinished()
        done = _Pass()
        try:
            with audit.aside():
                self._catalog.migrations.tidy()
            self._scrub(done)
            for gallery in self._catalog.list():
                self._purge(gallery, unfinished, remembered, done)
            faults.point("erase.purged")
            rewritten, done.from_backups = self._backups.cleanse()
            done.files += [self._touched(path, "rewritten") for path in rewritten]
            faults.point("erase.backups")
            with audit.aside():
                self._ledger.finish(unfinished)
            faults.point("erase.finished")
        except (OSError, UnknownPage, ServerError) as error:
            raise _unfinished(error) from error
        return done

    def _scrub(self, done: _Pass) -> None:
        log = self._store.database.folder / "glimpse.db-wal"
        size = log.stat().st_size if log.exists() else 0
        with self._store.database.alone() as (path, roots):
            faults.point("erase.folded")
            pages = scrub(path, roots)
        faults.point("erase.scrubbed")
        done.files.append(self._touched(path, f"rows removed, {pages} pages zeroed where nothing is stored"))
        done.files.append(self._touched(log, f"{size:,} bytes folded in and removed"))

    def _purge(
        self,
        gallery: Gallery,
        unfinished: Mapping[int, Sequence[str]],
        remembered: Mapping[str, tuple[Sequence[str], Sequence[str], int]],
        done: _Pass,
    ) -> None:
        name = gallery.settings.name
        items, people, number = remembered.get(name, ([], [], 0))
        if any(other != number and ({EVERYWHERE, name} & set(names)) for other, names in unfinished.items()):
            items, people = _dead(gallery.snapshot)
        if items or people:
            gone = gallery.purge(items, people)
            done.files += [self._touched(path, "replaced without them, or removed") for path in gone]

    def _touched(self, path: Path, action: str) -> Touched:
        return Touched(path.relative_to(self._store.database.folder).as_posix(), action)


def ids(items: Iterable[object]) -> list[str]:
    """The item ids of items of a backup."""
    return [str(getattr(item, "item_id", "")) for item in items]


def _dead(snapshot: Snapshot) -> tuple[Sequence[str], Sequence[str]]:
    """Items and people of which there are deleted or replaced rows."""
    item_ids, person_ids, _, _ = snapshot.texts(np.flatnonzero(~snapshot.alive))
    return item_ids, [person for person in dict.fromkeys(person_ids) if person]


def _unfinished(error: Exception) -> ServerError:
    what = getattr(error, "message", "") or getattr(error, "strerror", "") or str(error)
    sentence = (
        f"the items are erased from the store and from searches, but not yet from every file: {what}. "
        "The server finishes it by itself, at its next start at the latest"
    )
    if isinstance(error, (UnknownPage, Unavailable)):
        return Unavailable(sentence)
    return ResourceExhausted(sentence, retry_after=60.0)
