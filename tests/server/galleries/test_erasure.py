"""Erasure with proof: every byte of the data folder is searched for whom it has forgotten."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from server.errors import FailedPrecondition, InvalidArgument, NotFound, ServerError
from server.galleries import backups, columns, erasure
from server.galleries.catalog import Catalog
from server.galleries.choosing import MAX_IDS, Order
from server.galleries.database import FILE
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.ranking import SearchOptions
from server.galleries.recovery import recover
from tests.server.galleries.generated import SCHEMA, gallery_settings, random_features
from tests.server.galleries.traces import marked, places, traces

ERASED = ("victim-000", "victim-007", "victim-063")


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    monkeypatch.setattr(columns, "SEGMENT_ROWS", 40)
    with closing(Catalog.open(tmp_path)) as catalog:
        yield catalog


def lived_in(catalog: Catalog, name: str = "lobby") -> tuple[Gallery, dict[str, NewItem]]:
    """A gallery of 120 items with a past: replaced, updated and deleted rows, sealed segments, two backups."""
    chance = np.random.default_rng(len(name))
    gallery = catalog.create(gallery_settings(name=name, keep_images=True))
    items = {
        item_id: marked(item_id, chance, person=f"person-of-{item_id}")
        for item_id in (f"victim-{n:03}" for n in range(120))
    }
    old = {item_id: marked(item_id, chance, person=f"former-{item_id}") for item_id in ERASED}
    gallery.upsert(list(old.values()))
    for start in range(0, 120, 15):
        gallery.upsert(list(items.values())[start : start + 15])
    catalog.custody.back_up(name, f"{name}-1")
    for n in range(100, 110):
        gallery.update(f"victim-{n}", camera_id=f"camera-{n}")
    gallery.delete(item_ids=[f"victim-{n}" for n in range(110, 120)])
    catalog.drain()
    catalog.custody.back_up(name, f"{name}-2")
    return gallery, {**items, **{f"old {item_id}": item for item_id, item in old.items()}}


def of(items: dict[str, NewItem], *names: str) -> dict[str, bytes]:
    return {f"{name}: {kind}": trace for name in names for kind, trace in traces(items[name]).items()}


def unreadable(names: dict[str, bytes]) -> dict[str, bytes]:
    """Without the ids, which the living may share."""
    return {name: trace for name, trace in names.items() if " id" not in name}


def test_nothing_of_the_erased_is_left_in_any_file(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    wanted = of(items, *ERASED)
    before = places(tmp_path, wanted)
    assert set(before) == set(wanted)
    kinds = {path.split("/")[0] for paths in before.values() for path in paths}
    assert {"segments", "snapshots"} <= kinds
    assert kinds & {"glimpse.db", "glimpse.db-wal"}
    for kind in ("vectors", "int8 codes", "two-bit codes"):
        assert any(kind in name and any("segments/" in path for path in paths) for name, paths in before.items()), kind

    report = catalog.custody.erase(Order("lobby", item_ids=ERASED))
    assert places(tmp_path, {**wanted, **of(items, *(f"old {item_id}" for item_id in ERASED))}) == {}
    assert report.erased == {"lobby": 3}
    assert report.sequences == {"lobby": gallery.sequence}
    assert report.from_backups == 6
    touched = {file.path for file in report.files}
    assert {"glimpse.db", "glimpse.db-wal", "snapshots/lobby-1.snapshot", "snapshots/lobby-2.snapshot"} <= touched
    assert any(path.startswith("segments/") for path in touched)
    assert len(report.digests) == 3
    assert (tmp_path / "glimpse.db-wal").stat().st_size < 100_000

    assert len(gallery) == 107
    for item_id in ERASED:
        with pytest.raises(NotFound):
            gallery.get(item_id)
    query = random_features(np.random.default_rng(1), SCHEMA, 1)
    for mode in ("exact", "fast"):
        found = gallery.search(query, SearchOptions(top_k=None, include_incomparable=True, mode=mode)).item_ids()
        assert not set(ERASED) & set(found)
    for item_id in ("victim-001", "victim-105"):
        assert gallery.get(item_id, image=True).image == items[item_id].image
    living = of(items, "victim-001", "victim-062")
    assert set(places(tmp_path, living)) == set(living)


def test_the_erased_are_gone_after_a_restart_too(catalog: Catalog, tmp_path: Path) -> None:
    _, items = lived_in(catalog)
    catalog.custody.erase(Order("lobby", item_ids=ERASED))
    catalog.close()
    with closing(Catalog.open(tmp_path)) as again:
        assert len(again.get("lobby")) == 107
    assert places(tmp_path, of(items, *ERASED)) == {}


def test_a_person_is_erased_with_everything_that_was_ever_theirs(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    chance = np.random.default_rng(99)
    more = [marked(f"anna-{n}", chance, person="anna-the-wanted") for n in range(30)]
    gallery.upsert(more)
    gallery.update("anna-3", person_id="somebody-else")
    catalog.custody.back_up("lobby", "with-anna")
    report = catalog.custody.erase(Order("lobby", person_ids=("anna-the-wanted",)))
    assert report.erased == {"lobby": 29}
    wanted = {f"{item.item_id} {kind}": trace for item in more[4:] for kind, trace in traces(item).items()}
    wanted["person"] = b"anna-the-wanted"
    assert places(tmp_path, unreadable(wanted) | {"person": b"anna-the-wanted"}) == {}
    assert gallery.get("anna-3").person_id == "somebody-else"
    assert len(items) + len(more) > len(gallery)


def test_a_filter_reaches_items_that_only_backups_have(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    note = items["victim-115"].attributes["note"]  # type: ignore[index]
    assert catalog.custody.erase(Order("lobby", filter=Filter(attributes={"note": note}))).from_backups == 1
    assert places(tmp_path, of(items, "victim-115")) == {}
    assert len(gallery) == 110


def test_all_galleries_are_reached_by_one_erasure(catalog: Catalog, tmp_path: Path) -> None:
    _, items = lived_in(catalog)
    _, others = lived_in(catalog, "garage")
    catalog.delete("garage")  # its backups stay
    wanted = {**of(items, *ERASED), **{f"garage {name}": trace for name, trace in of(others, *ERASED).items()}}
    people = tuple(f"person-of-{item_id}" for item_id in ERASED)
    report = catalog.custody.erase(Order(person_ids=people))
    assert report.erased == {"lobby": 3}
    assert report.from_backups == 12
    assert places(tmp_path, wanted) == {}


def test_the_erased_do_not_come_back_with_an_older_backup(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    outside = (tmp_path / "snapshots" / "lobby-1.snapshot").read_bytes()
    catalog.custody.erase(Order("lobby", item_ids=ERASED))
    (tmp_path / "snapshots" / "found.snapshot").write_bytes(outside)
    restored = catalog.custody.restore("found", "again", replace=False, served=None)
    assert (restored.items, restored.left_out) == (117, 3)
    over = catalog.custody.restore("found", "lobby", replace=True, served=None)
    assert (over.items, over.left_out, over.replaced) == (117, 3, 107)
    assert over.gallery.sequence > gallery.sequence
    (tmp_path / "snapshots" / "found.snapshot").unlink()
    catalog.drain()
    assert places(tmp_path, of(items, *ERASED)) == {}


def test_what_is_added_again_after_its_erasure_stays(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    catalog.custody.erase(Order("lobby", item_ids=ERASED))
    gallery.upsert([items["victim-007"]])
    catalog.custody.back_up("lobby", "later")
    catalog.custody.erase(Order("lobby", item_ids=("victim-008",)))
    assert gallery.get("victim-007").item_id == "victim-007"
    restored = catalog.custody.restore("later", "again", replace=False, served=None)
    assert restored.gallery.get("victim-007").item_id == "victim-007"
    assert restored.left_out == 0  # victim-8 had been taken out of the file
    assert set(of(items, "victim-007")) == set(places(tmp_path, of(items, "victim-007")))


def test_searches_and_writes_go_on_while_people_are_erased(catalog: Catalog, tmp_path: Path) -> None:
    gallery, items = lived_in(catalog)
    chance = np.random.default_rng(8)
    query = random_features(chance, SCHEMA, 1)
    done = threading.Event()

    def search() -> int:
        count = 0
        while not done.is_set():
            gallery.search(query, SearchOptions(top_k=5))
            count += 1
        return count

    def write() -> int:
        count = 0
        while not done.is_set() and count < 2000:
            gallery.upsert([marked(f"new-{count:04}", chance)])
            gallery.get(f"new-{count:04}", image=True)
            count += 1
        return count

    with ThreadPoolExecutor(2) as threads:
        searched, written = threads.submit(search), threads.submit(write)
        gone = [f"victim-{n:03}" for n in range(20)]
        for item_id in gone:
            catalog.custody.erase(Order("lobby", item_ids=(item_id,)))
        done.set()
    assert searched.result() > 0
    assert len(gallery) == 90 + written.result()
    catalog.drain()
    assert places(tmp_path, of(items, *gone)) == {}


def test_retention_erases_as_an_order_does(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(5)
    gallery = catalog.create(gallery_settings(keep_images=True, retention_us=1_000_000))
    items = [marked(f"guest-{n}", chance, person=f"person-{n}") for n in range(30)]
    gallery.upsert(items)
    catalog.custody.back_up("lobby", "guests")
    stored = int(gallery._snapshot.gathered("stored_at", np.array([0]))[0])
    assert catalog.expire(stored + 1_000_000) == 0
    assert catalog.expire(stored + 1_000_001) == 30
    wanted = {f"{n} {kind}": trace for n, item in enumerate(items) for kind, trace in traces(item).items()}
    assert places(tmp_path, wanted) == {}
    with catalog.database.read() as connection:
        rows = [row for (row,) in connection.execute("SELECT row FROM audit")]
    assert any('"method":"Retention"' in row and '"items":30' in row for row in rows)


def test_files_follow_retention_within_ten_minutes(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(erasure.time, "monotonic", lambda: clock[0])
    gallery = catalog.create(gallery_settings(keep_images=True, retention_us=1))
    chance = np.random.default_rng(6)
    for name in ("first-guest", "second-guest"):
        gallery.upsert([marked(name, chance)])
        catalog.expire(2**62 - 1)
        assert len(gallery) == 0
    assert places(tmp_path, {"first": b"first-guest"}) == {}
    assert places(tmp_path, {"second": b"second-guest"}) != {}
    clock[0] += erasure.PASS_SECONDS
    assert catalog.expire(2**62 - 1) == 0
    assert places(tmp_path, {"second": b"second-guest"}) == {}


def test_an_erasure_without_room_for_files_is_finished_later(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, items = lived_in(catalog)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backups, "write_backup", full)
        with pytest.raises(ServerError, match="erased from the store and from searches, but not yet from every file"):
            catalog.custody.erase(Order("lobby", item_ids=ERASED))
    assert len(gallery) == 107
    assert places(tmp_path, of(items, *ERASED)) != {}
    catalog.expire(0)
    assert places(tmp_path, of(items, *ERASED)) == {}
    assert catalog.custody.erase(Order("lobby", item_ids=ERASED)).erased == {}


def test_a_damaged_backup_keeps_the_erasure_from_beginning(catalog: Catalog, tmp_path: Path) -> None:
    gallery, _ = lived_in(catalog)
    path = tmp_path / "snapshots" / "lobby-1.snapshot"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FailedPrecondition, match=r"snapshot 'lobby-1' cannot be searched .* delete it and erase again"):
        catalog.custody.erase(Order("lobby", item_ids=ERASED))
    assert len(gallery) == 110
    catalog.custody.delete_backup("lobby-1")
    assert catalog.custody.erase(Order("lobby", item_ids=ERASED)).erased == {"lobby": 3}


def test_a_damaged_store_that_was_put_aside_keeps_the_erasure_from_beginning(
    catalog: Catalog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, items = lived_in(catalog)
    catalog.close()
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-5000])
    aside = recover(tmp_path, ["lobby-2"]).aside
    assert places(tmp_path / aside, of(items, *ERASED)) != {}
    with closing(Catalog.open(tmp_path)) as again:
        assert f"{aside} keeps people as they were" in caplog.text
        with pytest.raises(FailedPrecondition, match=f"'{aside}' .* delete it and erase again"):
            again.custody.erase(Order("lobby", item_ids=ERASED))
        assert len(again.get("lobby")) == 110
        shutil.rmtree(tmp_path / aside)
        assert again.custody.erase(Order("lobby", item_ids=ERASED)).erased == {"lobby": 3}
        assert places(tmp_path, of(items, *ERASED)) == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "say whom to erase"),
        ({"filter": Filter()}, "empty filter would erase every item"),
        ({"item_ids": ("",)}, "item_ids must have 1 to 256"),
        ({"person_ids": ("x" * 257,)}, "person_ids must have 1 to 256"),
        ({"item_ids": ("x",) * (MAX_IDS + 1)}, "item_ids has 10,001 entries"),
    ],
)
def test_an_order_without_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Order("lobby", **fields)  # type: ignore[arg-type]


def test_unknown_people_are_no_error_and_unknown_galleries_are(catalog: Catalog) -> None:
    catalog.create(gallery_settings())
    report = catalog.custody.erase(Order("lobby", person_ids=("nobody",)))
    assert (report.erased, len(report.digests)) == ({}, 1)
    with pytest.raises(NotFound, match="no gallery 'attic'"):
        catalog.custody.erase(Order("attic", person_ids=("nobody",)))


def test_a_filter_means_the_same_for_backups_and_galleries(catalog: Catalog) -> None:
    gallery = catalog.create(gallery_settings())
    chance = np.random.default_rng(3)
    for n in range(40):
        gallery.upsert(
            [marked(f"i{n}", chance, person=f"p{n % 4}", camera_id=f"c{n % 3}", captured_at=n if n % 5 else None)]
        )
    catalog.custody.back_up("lobby", "all")
    note = gallery.get("i7").attributes["note"]
    for chosen in (
        Filter(camera_ids=("c1", "c2")),
        Filter(person_ids=("p1",), captured_after=8, captured_before=30),
        Filter(captured_before=12),
        Filter(captured_after=39),
        Filter(item_ids=("i3", "i4", "none")),
        Filter(attributes={"note": note}),
        Filter(attributes={"note": None}),
        Filter(exclude=(Filter(person_ids=("p0",), camera_ids=("c0",)), Filter(item_ids=("i1",)))),
    ):
        order = Order("lobby", filter=chosen)
        kept = catalog.custody._backups.matching("lobby", order.fits)
        expected = [item.item_id for item in gallery.list(chosen, "", 100)]
        assert sorted(item.item_id for item in kept["lobby"]) == sorted(expected)
