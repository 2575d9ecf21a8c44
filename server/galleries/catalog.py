"""`Catalog`: all galleries of a data folder."""

from __future__ import annotations

import threading
from pathlib import Path

from server.errors import AlreadyExists, InvalidArgument, NotFound
from server.galleries.background import Background
from server.galleries.columns import Columns
from server.galleries.database import Database, StoreError
from server.galleries.gallery import Gallery
from server.galleries.segments.folder import SegmentFolder
from server.galleries.segments.upkeep import GallerySegments
from server.galleries.segments.versions import Versions
from server.galleries.settings import GallerySettings
from server.galleries.store import GalleryRow, Store
from server.security.audit import acting
from server.security.caller import visible

RECALL_EVERY = 100
NAMES_TOLD = 5


class Catalog:
    """The galleries of one folder, held exclusively until `close`; open one with `Catalog.open`."""

    def __init__(self, store: Store, folder: SegmentFolder, recall_every: int) -> None:
        self._store = store
        self._folder = folder
        self._recall_every = recall_every
        self._background = Background()
        self._lock = threading.Lock()
        self._galleries: dict[str, Gallery] = {}

    @classmethod
    def open(cls, data_dir: Path | str, *, recall_every: int = RECALL_EVERY) -> Catalog:
        """Opens the folder, made if it does not exist: its galleries' segments, and what the store has besides.

        Args:
            data_dir: the folder of the store.
            recall_every: one in so many fast searches of a gallery is compared with the exact ranking; 0 for none.

        Raises:
            StoreError: the folder cannot be used, another server uses it, the store is damaged or too new.
        """
        store = Store(data_dir)
        try:
            catalog = cls(store, SegmentFolder(Path(data_dir)), recall_every)
            catalog._load()
        except BaseException:
            store.close()
            raise
        return catalog

    @property
    def database(self) -> Database:
        """The file that holds everything, for the audit trail."""
        return self._store.database

    def create(self, settings: GallerySettings) -> Gallery:
        """A new, empty gallery. AlreadyExists if the name is taken."""
        with self._lock:
            if settings.name in self._galleries:
                raise AlreadyExists(f"gallery {settings.name!r} exists already", field="gallery")
            row = self._store.create(settings.name, settings.to_json())
            gallery = self._gallery(row, settings, Columns(settings.schema))
            # A new dict, so that `get` and `list` need no lock.
            self._galleries = dict(sorted({**self._galleries, settings.name: gallery}.items()))
        return gallery

    def get(self, name: str) -> Gallery:
        """The gallery. NotFound, naming a few that exist, if there is none."""
        galleries = self._galleries
        gallery = galleries.get(name)
        if gallery is None:
            raise NotFound(f"no gallery {name[:80]!r}; {_told(visible(galleries))}", field="gallery")
        return gallery

    def list(self) -> list[Gallery]:
        """All galleries, by name."""
        return list(self._galleries.values())

    def delete(self, name: str) -> int:
        """Removes a gallery and everything in it; returns how many items that were. NotFound if there is none."""
        with self._lock:
            deleted = self.get(name).drop()
            self._galleries = {key: gallery for key, gallery in self._galleries.items() if key != name}
        return deleted

    def expire(self, now_us: int) -> int:
        """Removes the items that are older than their gallery's retention; returns how many."""
        expired = 0
        for gallery in self.list():
            try:
                with acting("Retention", gallery.settings.name):
                    expired += gallery.expire(now_us)
            except NotFound:  # deleted meanwhile
                continue
        return expired

    def check(self) -> None:
        """Unavailable, saying why, when the store cannot be used."""
        self._store.check()

    def drain(self) -> None:
        """Waits until the background work queued so far (sealing lists, sampling recall) is done."""
        self._background.drain()

    def close(self) -> None:
        """Ends the background work and closes the store; every acknowledged write is on disk already."""
        self._background.close()
        self._store.close()

    def _load(self) -> None:
        rows = self._store.galleries()
        settings = {}
        for row in rows:
            try:
                settings[row.id] = GallerySettings.from_json(row.name, row.settings)
            except (KeyError, TypeError, ValueError, InvalidArgument) as error:
                raise StoreError(f"the settings of gallery {row.name!r} cannot be read: {error}") from error
        self._store.check_galleries()
        self._folder.tidy(settings.keys())
        self._galleries = {row.name: self._loaded(row, settings[row.id]) for row in rows}

    def _loaded(self, row: GalleryRow, settings: GallerySettings) -> Gallery:
        columns = Columns(settings.schema)
        versions = Versions(*self._store.versions(row.id))
        segments = self._segments(row.id, settings)
        for segment in segments.opened():
            alive = versions.claim(segment)
            if alive.any():
                columns.add(segment, alive)
            else:
                segments.removed([segment])
        gallery = self._gallery(row, settings, columns)
        gallery.catch_up(versions.unclaimed())
        return gallery

    def _gallery(self, row: GalleryRow, settings: GallerySettings, columns: Columns) -> Gallery:
        segments = self._segments(row.id, settings)
        return Gallery(
            self._store, row.id, settings, columns, row.sequence, self._background, self._recall_every, segments
        )

    def _segments(self, key: int, settings: GallerySettings) -> GallerySegments:
        return GallerySegments(self._folder, key, settings, self._store)


def _told(names: list[str]) -> str:
    if not names:
        return "this server has none yet; create one first"
    told = ", ".join(repr(name) for name in names[:NAMES_TOLD])
    more = len(names) - NAMES_TOLD
    return f"this server has {told}" + (f" and {more} more" if more > 0 else "")
