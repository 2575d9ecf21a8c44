"""A gallery being embedded anew while people are written, updated and erased."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from server.galleries.catalog import Catalog
from server.galleries.choosing import Order
from server.galleries.migration import DONE
from tests.crash.operations import NEW_MODEL, embedded, opened, prepare
from tests.server.galleries.generated import gallery_settings
from tests.server.galleries.traces import marked, places


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    prepare(tmp_path)
    with closing(opened(tmp_path)) as catalog:
        catalog.migrations.begin("front", "", gallery_settings(name="lobby-2", keep_images=True, model=NEW_MODEL))
        yield catalog


def finish(catalog: Catalog) -> None:
    while (wanted := catalog.migrations.next("lobby-2")) is not None:
        catalog.migrations.store("lobby-2", wanted, [embedded(each) for each in wanted])


def test_who_is_erased_meanwhile_is_in_neither_gallery(catalog: Catalog, tmp_path: Path) -> None:
    migrations = catalog.migrations
    first = migrations.next("lobby-2")
    assert first is not None
    migrations.store("lobby-2", first, [embedded(each) for each in first])
    second = migrations.next("lobby-2")
    assert second is not None
    early, late = first[-1].item_id, second[-1].item_id
    report = catalog.custody.erase(Order("lobby", item_ids=(early, late)))
    assert report.erased == {"lobby": 2, "lobby-2": 1}
    migrations.store("lobby-2", second, [embedded(each) for each in second])
    assert places(tmp_path, {early: early.encode()}) == {}
    finish(catalog)
    assert catalog.get("front").settings.name == "lobby-2"
    assert catalog.get("front").snapshot.row_of(late) is None
    assert len(catalog.get("lobby-2")) == len(catalog.get("lobby"))


def test_what_is_written_meanwhile_comes_along_and_keeps_its_age(catalog: Catalog) -> None:
    lobby = catalog.get("lobby")
    wanted = catalog.migrations.next("lobby-2")
    assert wanted is not None
    lobby.upsert([marked("a-newcomer", np.random.default_rng(1), person="anna")])
    lobby.update(wanted[0].item_id, camera_id="moved")
    lobby.delete(item_ids=[wanted[1].item_id])
    catalog.migrations.store("lobby-2", wanted, [embedded(each) for each in wanted])
    finish(catalog)
    new = catalog.get("front")
    assert new.settings.name == "lobby-2"
    assert new.get("a-newcomer").person_id == "anna"
    assert new.get(wanted[0].item_id).camera_id == "moved"
    assert new.snapshot.row_of(wanted[1].item_id) is None
    row, old = new.snapshot.row_of("a-newcomer"), lobby.snapshot.row_of("a-newcomer")
    assert row is not None
    assert old is not None
    ages = [each.snapshot.gathered("stored_at", np.array([at])) for each, at in ((new, row), (lobby, old))]
    assert ages[0] == ages[1]
    assert catalog.migrations.get("lobby-2").state == DONE
