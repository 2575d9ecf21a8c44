"""`Custody`: erasing, backing up and restoring, one at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glimpse.bundle import ModelIdentity
from server.galleries.backups import Backup, Backups
from server.galleries.choosing import Order
from server.galleries.erasure import Eraser, EraseReport
from server.galleries.ledger import Ledger
from server.galleries.restoring import Restored, Restorer
from server.galleries.store import Store

if TYPE_CHECKING:
    from server.galleries.catalog import Catalog

_log = logging.getLogger(__name__)


class Custody:
    """What a data folder keeps besides the galleries that are searched, and what leaves it.

    A backup made while somebody is erased, or a restore, must not bring them back: so these wait for each other.
    Searches and writes go on meanwhile, but for the moment in which the store's file is put right after an erasure.
    """

    def __init__(self, catalog: Catalog, store: Store) -> None:
        self._catalog = catalog
        self._database = store.database
        self._lock = threading.Lock()
        ledger = Ledger(store.database)
        self._backups = Backups(store, ledger)
        self._eraser = Eraser(catalog, store, ledger, self._backups)
        self._restorer = Restorer(catalog, store, self._backups)

    def resume(self) -> None:
        """Finishes what a killed process left unfinished."""
        for folder in self._database.aside():
            _log.warning(
                "%s keeps people as they were when the store was damaged: delete it once it is of no use", folder
            )
        with self._lock:
            self._backups.tidy()
            if self._eraser.is_unfinished:
                self._eraser.finish()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nobody is erased and nothing restored during the block."""
        with self._lock:
            yield

    def erase(self, order: Order) -> EraseReport:
        """See `Eraser.erase`."""
        with self._lock:
            return self._eraser.erase(order)

    def expire(self, now_us: int) -> int:
        """See `Eraser.expire`. What a backup or a restore holds up is for the next time."""
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            return self._eraser.expire(now_us)
        finally:
            self._lock.release()

    def back_up(self, gallery: str, name: str = "") -> Backup:
        """See `Backups.create`."""
        with self._lock:
            found = self._catalog.get(gallery)
            return self._backups.create(name, found.key, found.settings.name)

    def backups(self) -> list[Backup]:
        """See `Backups.all`."""
        return self._backups.all()

    def delete_backup(self, name: str) -> None:
        """See `Backups.delete`."""
        with self._lock:
            self._backups.delete(name)

    def restore(self, backup: str, gallery: str, *, replace: bool, served: ModelIdentity | None) -> Restored:
        """See `Restorer.restore`."""
        with self._lock:
            return self._restorer.restore(backup, gallery, replace=replace, served=served)
