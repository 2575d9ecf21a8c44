"""`Restorer`: a backup becomes a gallery again, in one step, without those who were erased since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.bundle import ModelIdentity
from server import faults
from server.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from server.galleries.backup import BackupError, Facts, read_items
from server.galleries.backups import Backups
from server.galleries.gallery import Gallery
from server.galleries.ledger import Erased
from server.galleries.settings import GallerySettings
from server.galleries.store import HIDDEN, Kept, Store
from server.security import audit

if TYPE_CHECKING:
    from server.galleries.catalog import Catalog

CHUNK_ITEMS = 256


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    gallery: Gallery
    items: int
    left_out: int
    """Items of the backup that were erased since it was made."""
    replaced: int
    """Items of the gallery whose place was taken."""


class Restorer:
    """Made by the catalog; `Custody` sees to it that no two methods run at once."""

    def __init__(self, catalog: Catalog, store: Store, backups: Backups) -> None:
        self._catalog = catalog
        self._store = store
        self._backups = backups

    def restore(self, backup: str, gallery: str, *, replace: bool, served: ModelIdentity | None) -> Restored:
        """Makes a gallery of a backup. Until its last step nobody sees any of it.

        Args:
            backup: its name.
            gallery: the name it gets; empty for the one that it had.
            replace: a gallery of that name gives way; otherwise there must be none.
            served: the model being served; a backup of another one is refused. None takes any.

        Raises:
            InvalidArgument: a bad name.
            NotFound: no such backup.
            AlreadyExists: the name is taken.
            FailedPrecondition: the backup is damaged, cut off, of a newer format or of another model.
            ResourceExhausted: the disk is full. In all these cases the live galleries are as they were.
        """
        path, facts = self._backups.verified(backup)
        settings = _settings_of(backup, facts, gallery or facts.gallery)
        _check_model(backup, settings, served)
        audit.resolved(settings.name)
        self._catalog.check_name(settings.name, replace=replace)
        faults.point("restore.checked")
        try:
            with audit.aside():
                key, kept = self._filled(path, backup, facts, settings)
            found, replaced = self._catalog.unveil(key, settings, facts.sequence)
            faults.point("restore.swapped")
        except BackupError as error:  # verified before, and changed since
            raise FailedPrecondition(f"snapshot {backup!r} cannot be restored: {error}") from error
        finally:
            with audit.aside():
                self._store.drop_hidden()
        faults.point("restore.dropped")
        return Restored(found, kept, facts.items - kept, replaced)

    def _filled(self, path: Path, backup: str, facts: Facts, settings: GallerySettings) -> tuple[int, int]:
        """The key of a hidden gallery with the backup's items, and how many those are."""
        self._store.drop_hidden()
        key = self._store.create(f"{HIDDEN}restoring", settings.to_json()).id
        faults.point("restore.begun")
        erased = self._backups.forbidden(facts)
        kept = 0
        for chunk in _chunks(_allowed(read_items(path), erased, settings)):
            self._store.refill(key, chunk)
            kept += len(chunk)
        faults.point("restore.filled")
        return key, kept


def _settings_of(backup: str, facts: Facts, name: str) -> GallerySettings:
    try:
        return GallerySettings.from_json(name, facts.settings)
    except InvalidArgument:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FailedPrecondition(
            f"snapshot {backup!r} cannot be restored: the settings of its gallery cannot be read by this Glimpse"
        ) from error


def _check_model(backup: str, settings: GallerySettings, served: ModelIdentity | None) -> None:
    if served is not None and settings.model is not None and settings.model.sha256 != served.sha256:
        raise FailedPrecondition(
            f"snapshot {backup!r} holds features of model {settings.model}; this server runs {served}. Start the "
            "server with the first model, or allow another one (any_model) and migrate the gallery then"
        )


def _allowed(items: Iterable[Kept], erased: Erased, settings: GallerySettings) -> Iterator[Kept]:
    width, parts = settings.schema.width, len(settings.schema)
    for item in items:
        if len(item.vectors) != 2 * width or len(item.visibility) != 4 * parts:
            raise BackupError(f"its item {item.item_id[:80]!r} does not fit the parts of its gallery")
        if not erased.holds(item.item_id, item.person_id):
            yield item


def _chunks(items: Iterator[Kept]) -> Iterator[list[Kept]]:
    chunk: list[Kept] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK_ITEMS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def check_name_is_free(name: str, taken: bool, alias_of: str | None, *, replace: bool) -> None:
    """Refuses a name for a restored gallery.

    Raises:
        AlreadyExists: a gallery has it and is not to be replaced.
        FailedPrecondition: an alias has it.
    """
    if alias_of is not None:
        raise FailedPrecondition(
            f"{name!r} is an alias of gallery {alias_of!r}; restore under another name and move the alias then",
            field="gallery",
        )
    if taken and not replace:
        raise AlreadyExists(
            f"gallery {name!r} exists already; restore under another name, or allow it to be replaced", field="gallery"
        )
