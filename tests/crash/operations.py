"""Operations of several steps on a prepared data folder, for the tests that kill a process between the steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from glimpse.bundle import ModelIdentity
from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.choosing import Order
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.migration import Wanted
from tests.server.galleries.generated import SCHEMA, gallery_settings, random_features
from tests.server.galleries.traces import marked

OLD_MODEL = ModelIdentity("lite", "1.0.0", "ab" * 32)
NEW_MODEL = ModelIdentity("lite", "2.0.0", "cd" * 32)
SEGMENT_ROWS = 40
VICTIMS = ("victim-03", "victim-50")

State = Mapping[str, Any]
"""Everything that can be asked of a data folder, comparable with ``==``."""


def opened(folder: Path) -> Catalog:
    """The catalog of the folder, with small segments."""
    columns.SEGMENT_ROWS = SEGMENT_ROWS
    return Catalog.open(folder)


def prepare(folder: Path) -> None:
    """Galleries `lobby` (sealed segments, a past, the backup `early`) and `other`; alias `front` -> `lobby`."""
    chance = np.random.default_rng(0)
    with closing(opened(folder)) as catalog:
        lobby = catalog.create(gallery_settings(name="lobby", keep_images=True, model=OLD_MODEL))
        items = [marked(f"victim-{n:02}", chance, person=f"person-{n:02}") for n in range(90)]
        for start in range(0, 90, 10):
            lobby.upsert(items[start : start + 10])
        catalog.drain()
        catalog.custody.back_up("lobby", "early")
        lobby.delete(item_ids=["victim-70", "victim-71"])
        lobby.upsert([marked(f"late-{n}", chance) for n in range(5)])
        catalog.create(gallery_settings(name="other")).upsert([marked("only", chance)])
        catalog.set_alias("front", "lobby")
        catalog.drain()


def erase(catalog: Catalog) -> None:
    catalog.custody.erase(Order("lobby", item_ids=VICTIMS))


def back_up(catalog: Catalog) -> None:
    catalog.custody.back_up("lobby", "fresh")


def restore(catalog: Catalog) -> None:
    catalog.custody.restore("early", "lobby", replace=True, served=OLD_MODEL)


def move_alias(catalog: Catalog) -> None:
    catalog.set_alias("front", "other")


def seal(catalog: Catalog) -> None:
    """Deletes half of a segment, so that it is written anew."""
    lobby = catalog.get("lobby")
    lobby.delete(item_ids=[f"victim-{n:02}" for n in range(0, 60, 2)])
    catalog.drain()
    lobby.tend()


def migrate(catalog: Catalog) -> None:
    """Embeds `lobby` under another "model", which makes vectors of item ids."""
    migrations = catalog.migrations
    settings = gallery_settings(name="lobby-2", keep_images=True, model=NEW_MODEL)
    migrations.begin("front" if catalog.aliases.get("front") == "lobby" else "lobby", "front", settings)
    while (wanted := migrations.next("lobby-2")) is not None:
        migrations.store("lobby-2", wanted, [embedded(each) for each in wanted])


def embedded(wanted: Wanted) -> Any:
    """Features that another model makes of an item."""
    return random_features(np.random.default_rng(sum(wanted.item_id.encode())), SCHEMA, 1)


OPERATIONS: Mapping[str, Callable[[Catalog], None]] = {
    "erase": erase,
    "backup": back_up,
    "restore": restore,
    "alias": move_alias,
    "migrate": migrate,
    "seal": seal,
}


def state_of(folder: Path) -> State:
    """What a server that starts over the folder would serve; the segments are read as well as the store."""
    with closing(opened(folder)) as catalog:
        with catalog.database.read() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM galleries WHERE name LIKE '.%'").fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM erasures WHERE NOT done").fetchone() == (0,)
        backups = catalog.custody.backups()
        assert not any(each.damage for each in backups)
        for each in backups:
            catalog.custody._backups.verified(each.name)
        catalog.drain()  # a start may have segments to write anew
        assert not list(folder.rglob("*.tmp"))
        return {
            "galleries": {gallery.settings.name: contents(gallery) for gallery in catalog.list()},
            "backups": {each.name: (each.facts.items if each.facts else 0) for each in backups},
            "aliases": dict(catalog.aliases.all()),
            "migrations": [(each.into, each.state) for each in catalog.migrations.all()],
        }


def contents(gallery: Gallery) -> list[tuple[Any, ...]]:
    """Every item with everything that is known of it, but for the write that stored it."""
    found = [gallery.get(item.item_id, image=True) for item in gallery.list(Filter(), "", 100_000)]
    return [
        (
            item.item_id,
            item.person_id,
            item.camera_id,
            item.captured_at,
            str(item.attributes),
            item.visibility.tobytes(),
            item.vectors.tobytes() if item.vectors is not None else b"",
            item.image,
        )
        for item in found
    ]
