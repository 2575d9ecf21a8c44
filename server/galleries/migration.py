"""`Migrations`: the kept images of a gallery, embedded anew into another one, until an alias can be moved to it.

What is to be embedded is asked for batch by batch and may be interrupted anywhere: the place that was reached is noted
after each batch, and a batch that is done twice is stored once. A first pass takes all items in the order of their ids;
further passes take what was written since the one before began. When nothing was, the alias is moved while writes to
the old gallery are held back. Who leaves the old gallery leaves the new one too, by erasure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from glimpse.parts import PartFeatures
from server import faults
from server.errors import FailedPrecondition, InvalidArgument, NotFound, ServerError
from server.galleries.choosing import MAX_IDS, Order
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.restoring import check_name_is_free
from server.galleries.settings import GallerySettings
from server.security import audit

if TYPE_CHECKING:
    from server.galleries.catalog import Catalog

BATCH_ITEMS = 64
TOLD = 1000
"""Items left behind that are named; all are counted."""
RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass(frozen=True, slots=True)
class Migration:
    """How far one has come."""

    gallery: str
    into: str
    alias: str
    state: str = RUNNING
    after: str = ""
    """The last item of this pass that is done."""
    since: int = 0
    """This pass takes what was written later than this write of the old gallery."""
    until: int = 0
    """Its last write when the pass began."""
    key: int = 0
    """What the store knew the old gallery by; another one under its name begins anew."""
    left_behind: tuple[str, ...] = ()
    left_count: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item to be embedded; without an image it is left behind."""

    item_id: str
    sequence: int
    stored_at: int
    image: bytes | None = field(repr=False)


class Migrations:
    """The table ``migrations`` of a store; made by the catalog. Each migration is for one thread at a time."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._database = catalog.database
        with self._database.read() as connection, self._database.starting():
            rows = connection.execute("SELECT target, state FROM migrations ORDER BY target").fetchall()
        self._known = {}
        for target, state in rows:
            said = json.loads(state)
            self._known[target] = Migration(**{**said, "left_behind": tuple(said["left_behind"])})

    def all(self) -> list[Migration]:
        """By the name of the new gallery."""
        return [self._known[target] for target in sorted(self._known)]

    def get(self, into: str) -> Migration:
        """One of them."""
        return self._known[into]

    def fed_by(self, gallery: str) -> list[str]:
        """The new galleries that are being filled from this one."""
        return [each.into for each in self.all() if each.gallery == gallery and each.state != DONE]

    def begin(self, gallery: str, alias: str, settings: GallerySettings) -> Migration:
        """Begins to fill a new gallery of these settings, or goes on with it.

        Args:
            gallery: the old one, or an alias.
            alias: what is to be moved; empty if ``gallery`` is one.

        Raises:
            NotFound: no such gallery.
            FailedPrecondition: it keeps no images, is of this model already, or the new name is an alias.
            InvalidArgument: no alias is given.
            AlreadyExists: the alias is the name of a gallery.
        """
        old = self._catalog.get(gallery)
        name = old.settings.name
        alias = alias or (gallery if gallery != name else "")
        if not alias:
            raise InvalidArgument(
                f"gallery {name!r} was named, not an alias; say which alias is to stand for the new gallery",
                field="alias",
            )
        known = self._known.get(settings.name)
        if known is not None and (known.gallery, known.alias) == (name, alias):
            if known.state == DONE:
                return known
            self._catalog.ensure(settings)
            return self._note(replace(known, state=RUNNING, error=""))
        if not old.settings.keep_images:
            raise FailedPrecondition(f"gallery {name!r} keeps no images: there is nothing to embed anew")
        if old.settings.model == settings.model:
            raise FailedPrecondition(f"gallery {name!r} is of the served model {settings.model} already")
        self._catalog.check_alias(alias)
        check_name_is_free(
            settings.name,
            any(each.settings.name == settings.name for each in self._catalog.list()),
            self._catalog.aliases.get(settings.name),
            replace=False,
        )
        begun = self._note(Migration(name, settings.name, alias, until=old.sequence, key=old.key))
        self._catalog.ensure(settings)
        faults.point("migrate.created")
        return begun

    def next(self, into: str) -> list[Wanted] | None:
        """Items to be embedded now; None when all is done and the alias moved.

        Raises:
            NotFound: one of the galleries was deleted.
            AlreadyExists: a gallery has taken the name of the alias.
        """
        while True:
            migration = self._known[into]
            if migration.state == DONE:
                return None
            if self._catalog.aliases.get(migration.alias) == into:
                self._note(replace(migration, state=DONE))
                return None
            old = self._named(migration.gallery)
            if old.key != migration.key:
                self._note(replace(migration, after="", since=0, until=old.sequence, key=old.key))
                continue
            snapshot = old.snapshot
            rows = snapshot.page(migration.after, BATCH_ITEMS, None)
            if len(rows) == 0:
                if self._passed(migration, old):
                    return None
                continue
            sequences = snapshot.gathered("sequences", rows).tolist()
            stored = snapshot.gathered("stored_at", rows).tolist()
            names = snapshot.texts(rows)[0]
            chosen = [
                Wanted(item_id, sequence, stored_at, old.image(item_id, sequence))
                for item_id, sequence, stored_at in zip(names, sequences, stored, strict=True)
                if sequence > migration.since
            ]
            if chosen:
                return chosen
            with self._catalog.custody.undisturbed():
                if old.snapshot.row_of(names[-1]) is not None:  # not erased meanwhile: nothing may name them then
                    self._note(replace(migration, after=names[-1]))

    def store(self, into: str, wanted: Sequence[Wanted], found: Sequence[PartFeatures | ServerError | None]) -> None:
        """Stores what was embedded, for items that are still what they were, and notes the place."""
        # An erasure either comes before, and is seen here, or finds what is stored here.
        with self._catalog.custody.undisturbed(), audit.acting("Migration", into):
            migration = self._known[into]
            old, new = self._named(migration.gallery), self._named(into)
            snapshot = old.snapshot
            items, times, left = [], [], []
            after = migration.after
            for each, row in zip(wanted, found, strict=True):
                at = snapshot.row_of(each.item_id)
                if at is None:
                    continue
                after = each.item_id
                if not isinstance(row, PartFeatures):
                    left.append(each.item_id)
                    continue
                (item,) = snapshot.items(np.array([at]), vectors=False)
                if item.sequence != each.sequence:  # a later pass takes it
                    continue
                items.append(
                    NewItem(
                        item.item_id,
                        row.vectors[0].astype(np.float16),
                        row.visibility[0],
                        item.person_id,
                        item.camera_id,
                        item.captured_at,
                        item.attributes,
                        each.image,
                    )
                )
                times.append(each.stored_at)
            new.upsert(items, stored_at=times)
            faults.point("migrate.stored")
            told = tuple(dict.fromkeys((*migration.left_behind, *left)))[:TOLD]
            count = migration.left_count + len(left)
            self._note(replace(migration, after=after, left_behind=told, left_count=count))

    def fail(self, into: str, why: str) -> None:
        """Notes why one cannot go on."""
        self._note(replace(self._known[into], state=FAILED, error=why))

    def tidy(self) -> None:
        """Forgets the names of items that are not in the old gallery any more; a pass that stood at one begins anew."""
        for each in self.all():
            here = {gallery.settings.name: gallery.snapshot for gallery in self._catalog.list()}.get(each.gallery)
            named = {item_id for item_id in (each.after, *each.left_behind) if item_id}
            gone = {item_id for item_id in named if here is None or here.row_of(item_id) is None}
            if gone:
                told = tuple(item_id for item_id in each.left_behind if item_id not in gone)
                self._note(replace(each, after="" if each.after in gone else each.after, left_behind=told))

    def forget(self, gallery: str) -> None:
        """Forgets migrations into a gallery that was deleted."""
        if self._known.pop(gallery, None) is not None:
            with self._database.write() as connection:
                connection.execute("DELETE FROM migrations WHERE target = ?", (gallery,))

    def _passed(self, migration: Migration, old: Gallery) -> bool:
        """At the end of a pass: moves the alias if nothing was written meanwhile, or begins another pass."""
        self._leave(migration, old)
        faults.point("migrate.swapping")
        if not self._catalog.move_alias(migration.alias, migration.gallery, migration.until, migration.into):
            self._note(replace(migration, after="", since=migration.until, until=old.sequence))
            return False
        faults.point("migrate.swapped")
        self._note(replace(migration, state=DONE))
        return True

    def _leave(self, migration: Migration, old: Gallery) -> None:
        """Erases from the new gallery what is not in the old one any more."""
        new = self._named(migration.into)
        here, there = new.snapshot, old.snapshot
        names = here.texts(np.flatnonzero(here.alive))[0]
        gone = [item_id for item_id in names if there.row_of(item_id) is None]
        for start in range(0, len(gone), MAX_IDS):
            with audit.acting("Migration", migration.into):
                order = Order(migration.into, item_ids=tuple(gone[start : start + MAX_IDS]))
                self._catalog.custody.erase(order)

    def _named(self, name: str) -> Gallery:
        gallery = self._catalog.get(name)
        if gallery.settings.name != name:
            raise NotFound(f"gallery {name!r} was deleted")
        return gallery

    def _note(self, migration: Migration) -> Migration:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO migrations (target, state) VALUES (?, ?) "
                "ON CONFLICT (target) DO UPDATE SET state = excluded.state",
                (migration.into, json.dumps(asdict(migration))),
            )
        self._known[migration.into] = migration
        faults.point("migrate.noted")
        return migration
