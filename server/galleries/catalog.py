"""`Catalog`: all galleries of a data folder."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from server.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from server.galleries.aliases import Aliases
from server.galleries.background import Background
from server.galleries.columns import Columns
from server.galleries.custody import Custody
from server.galleries.database import Database, StoreError
from server.galleries.gallery import Gallery
from server.galleries.migration import Migrations
from server.galleries.restoring import check_name_is_free
from server.galleries.searching import SearchTuning
from server.galleries.segments.folder import SegmentFolder
from server.galleries.segments.upkeep import GallerySegments
from server.galleries.segments.versions import Versions
from server.galleries.settings import GallerySettings, check_name
from server.galleries.store import GalleryRow, Store
from server.security.audit import resolved
from server.security.caller import visible

_USUAL = SearchTuning()
NAMES_TOLD = 5


class Catalog:
    """The galleries of one folder, held exclusively until `close`; open one with `Catalog.open`."""

    def __init__(self, store: Store, folder: SegmentFolder, tuning: SearchTuning) -> None:
        self._store = store
        self._folder = folder
        self._tuning = tuning
        self._background = Background()
        self._lock = threading.Lock()
        self._galleries: dict[str, Gallery] = {}
        self.aliases = Aliases(store.database)
        self.custody = Custody(self, store)
        self.migrations = Migrations(self)

    @classmethod
    def open(cls, data_dir: Path | str, tuning: SearchTuning = _USUAL) -> Catalog:
        """Opens the folder, made if it does not exist: its galleries' segments, and what the store has besides.

        Args:
            data_dir: the folder of the store.
            tuning: how its galleries are searched.

        Raises:
            StoreError: the folder cannot be used, another server uses it, the store is damaged or too new.
        """
        store = Store(data_dir)
        try:
            catalog = cls(store, SegmentFolder(Path(data_dir)), tuning)
            catalog._load()
            catalog.custody.resume()
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
            if (other := self.aliases.get(settings.name)) is not None:
                raise AlreadyExists(f"{settings.name!r} is an alias of gallery {other!r}", field="gallery")
            row = self._store.create(settings.name, settings.to_json())
            gallery = self._gallery(row, settings, Columns(settings.schema))
            # A new dict, so that `get` and `list` need no lock.
            self._galleries = dict(sorted({**self._galleries, settings.name: gallery}.items()))
        return gallery

    def ensure(self, settings: GallerySettings) -> None:
        """Makes the gallery if there is none of its name."""
        if settings.name not in self._galleries:
            self.create(settings)

    def get(self, name: str) -> Gallery:
        """The gallery of that name or alias. NotFound, naming a few that exist, if there is none."""
        galleries = self._galleries
        gallery = galleries.get(name)
        if gallery is None:
            gallery = galleries.get(self.aliases.get(name) or "")
            if gallery is not None:
                resolved(gallery.settings.name)
        if gallery is None:
            raise NotFound(f"no gallery {name[:80]!r}; {_told(visible(galleries))}", field="gallery")
        return gallery

    def list(self) -> list[Gallery]:
        """All galleries, by name."""
        return list(self._galleries.values())

    def delete(self, name: str) -> int:
        """Removes a gallery and everything in it; returns how many items that were.

        Raises:
            NotFound: there is none.
            FailedPrecondition: the name is an alias, or the gallery has aliases.
        """
        with self._lock:
            gallery = self.get(name)
            if gallery.settings.name != name:
                raise FailedPrecondition(
                    f"{name!r} is an alias of gallery {gallery.settings.name!r}; delete that or the alias",
                    field="gallery",
                )
            if aliases := self.aliases.of(name):
                raise FailedPrecondition(
                    f"gallery {name!r} is what {', '.join(map(repr, aliases))} stands for; delete the alias first",
                    field="gallery",
                )
            deleted = gallery.drop()
            self.migrations.forget(name)
            self._galleries = {key: gallery for key, gallery in self._galleries.items() if key != name}
        return deleted

    def set_alias(self, alias: str, gallery: str) -> str:
        """Makes a name stand for a gallery, from the next call on; returns the gallery it stood for, empty if none.

        Raises:
            InvalidArgument: a bad name.
            NotFound: no such gallery.
            AlreadyExists: a gallery has the name.
        """
        self.check_alias(alias)
        with self._lock:
            self.check_alias(alias)
            target = self.get(gallery).settings.name
            before = self.aliases.get(alias) or ""
            self.aliases.set(alias, target)
        return before

    def check_alias(self, alias: str) -> None:
        """InvalidArgument for a bad name, AlreadyExists if a gallery has it."""
        check_name(alias, "alias")
        if alias in self._galleries:
            raise AlreadyExists(f"{alias!r} is a gallery and cannot be an alias", field="alias")

    def move_alias(self, alias: str, old: str, sequence: int, new: str) -> bool:
        """Makes an alias stand for ``new``, if the last write of gallery ``old`` is still ``sequence``; or not."""
        with self._lock:
            self.check_alias(alias)
            self.get(new)
            # Chooses nothing, and holds writes back.
            with self.get(old).erasing(lambda snapshot: np.zeros(snapshot.rows, np.bool_)) as nothing:
                same = nothing.sequence == sequence + 1
                if same:
                    self.aliases.set(alias, new)
            return same

    def delete_alias(self, alias: str) -> None:
        """Removes an alias; the gallery stays. NotFound if there is none."""
        with self._lock:
            gallery = self.aliases.get(alias)
            if gallery is None:
                raise NotFound(f"there is no alias {alias[:80]!r}", field="alias")
            resolved(gallery)
            self.aliases.remove(alias)

    def check_name(self, name: str, *, replace: bool) -> None:
        """Refuses a name for a gallery that is to be restored; see `check_name_is_free`."""
        check_name_is_free(name, name in self._galleries, self.aliases.get(name), replace=replace)

    def unveil(self, key: int, settings: GallerySettings, sequence: int) -> tuple[Gallery, int]:
        """Puts a hidden gallery of the store, filled up to write ``sequence``, in the place of the one of its name.

        Returns:
            The gallery, and how many items the other one had.
        """
        gallery = self._loaded(GalleryRow(key, settings.name, settings.to_json(), sequence), settings)
        with self._lock:
            old = self._galleries.get(settings.name)
            with old.retiring() if old is not None else nullcontext(None) as instead_of:
                replaced = len(old) if old is not None else 0
                # Later than anything either of them has told.
                sequence = max(sequence, old.sequence if old is not None else 0) + 1
                self._store.unveil(key, settings.name, settings.to_json(), sequence, instead_of)
                gallery.advance(sequence)
                self._galleries = dict(sorted({**self._galleries, settings.name: gallery}.items()))
        return gallery, replaced

    def expire(self, now_us: int) -> int:
        """Erases the items that are older than their gallery's retention; returns how many."""
        return self.custody.expire(now_us)

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
        self._store.drop_hidden()
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
        return Gallery(self._store, row.id, settings, columns, row.sequence, self._background, self._tuning, segments)

    def _segments(self, key: int, settings: GallerySettings) -> GallerySegments:
        return GallerySegments(self._folder, key, settings, self._store)


def _told(names: list[str]) -> str:
    if not names:
        return "this server has none yet; create one first"
    told = ", ".join(repr(name) for name in names[:NAMES_TOLD])
    more = len(names) - NAMES_TOLD
    return f"this server has {told}" + (f" and {more} more" if more > 0 else "")
