"""Erasing, snapshots, aliases and migrations through a server and the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from glimpse.client import (
    AlreadyExists,
    Client,
    FailedPrecondition,
    Filter,
    GlimpseError,
    InvalidArgument,
    Item,
    MigrationInfo,
    NotFound,
)
from tests.bundles import encoded, person, tiny_bundle
from tests.server.galleries.traces import places
from tests.server.running import Running, until


@pytest.fixture
def server(tmp_path: Path, model: Path) -> Iterator[Running]:
    with Running(tmp_path / "data", model) as running:
        running.gallery("lobby", keep_images=True)
        running.crowd("lobby", 6)
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture(scope="session")
def newer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("newer") / "tiny", version="2.0.0", seed=5).source


def test_a_person_is_erased_and_the_trail_names_them_by_digest(client: Client, server: Running, tmp_path: Path) -> None:
    made = client.create_snapshot("lobby", "before")
    assert (made.items, made.gallery, made.damage) == (12, "lobby", "")
    image = encoded(person(3, shot=0))
    assert places(tmp_path / "data", {"image": image}) != {}
    report = client.erase("lobby", person_ids=["3"], item_ids=["4-0"])
    assert report.erased == {"lobby": 3}
    assert report.from_snapshots == 3
    assert ("snapshots/before.snapshot", "rewritten") in report.files
    assert places(tmp_path / "data", {"image": image, "id": b"3-0", "other": b"4-0"}) == {}
    assert "3" not in {match.person_id for match in client.search("lobby", image, top_k=100)}
    rows = list(client.audit(gallery="lobby", person_id="3"))
    assert "GalleryService/Erase" in {row.method for row in rows}
    (entry,) = [row for row in rows if row.method == "GalleryService/Erase"]
    assert entry.items == 3


def test_orders_that_make_no_sense_are_refused(client: Client) -> None:
    for arguments, message in (
        ({}, "say whom to erase"),
        ({"filter": Filter()}, "empty filter would erase every item"),
        ({"item_ids": [""]}, "1 to 256 characters"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            client.erase("lobby", **arguments)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no gallery 'attic'"):
        client.erase("attic", item_ids=["a"])
    assert client.gallery("lobby").items == 12


def test_snapshots_are_made_listed_restored_and_deleted(client: Client) -> None:
    client.create_snapshot("lobby", "one")
    client.delete_items("lobby", ["0-0", "0-1"])
    with pytest.raises(AlreadyExists, match="restore under another name"):
        client.restore_snapshot("one")
    done = client.restore_snapshot("one", replace=True)
    assert (done.gallery.name, done.gallery.items, done.left_out, done.replaced) == ("lobby", 12, 0, 10)
    assert client.search("lobby", encoded(person(0)))[0].person_id == "0"
    assert client.restore_snapshot("one", "again").gallery.items == 12
    (listed,) = client.snapshots()
    assert (listed.name, listed.gallery, listed.items) == ("one", "lobby", 12)
    assert listed.created_at is not None
    client.delete_snapshot("one")
    assert client.snapshots() == []
    for name in ("../../etc/passwd", "one/../../two", ""):
        with pytest.raises(InvalidArgument, match="snapshot name"):
            client.restore_snapshot(name)


def test_a_snapshot_of_another_model_is_refused_unless_allowed(tmp_path: Path, model: Path, newer_model: Path) -> None:
    with Running(tmp_path / "data", model) as server, Client(server.address) as client:
        server.gallery("lobby")
        server.crowd("lobby", 2)
        client.create_snapshot("lobby", "old")
    with Running(tmp_path / "data", newer_model) as server, Client(server.address) as client:
        with pytest.raises(FailedPrecondition, match=r"tiny 1\.0\.0.*this server runs tiny 2\.0\.0"):
            client.restore_snapshot("old", "again")
        assert client.restore_snapshot("old", "again", any_model=True).gallery.items == 4


def test_an_alias_is_used_wherever_a_gallery_is(client: Client, server: Running) -> None:
    assert client.set_alias("front", "lobby") == ""
    assert client.aliases() == {"front": "lobby"}
    assert client.gallery("front").name == "lobby"
    image = encoded(person(2))
    assert client.search("front", image)[0].person_id == "2"
    assert all(result.ok for result in client.upsert("front", [Item(item_id="new", image=image)]))
    assert client.get_item("front", "new").item_id == client.get_item("lobby", "new").item_id
    with pytest.raises(FailedPrecondition, match="'lobby' is what 'front' stands for"):
        client.delete_gallery("lobby")
    client.delete_alias("front")
    with pytest.raises(NotFound):
        client.search("front", image)


def test_searches_never_fail_while_an_alias_moves(client: Client, server: Running) -> None:
    server.gallery("other")
    server.crowd("other", 6)
    client.set_alias("front", "lobby")
    failures: list[GlimpseError] = []
    counts = [0]
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            try:
                assert client.search("front", item_id="2-0")[0].person_id == "2"
                counts[0] += 1
            except GlimpseError as error:
                failures.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    for n in range(60):
        client.set_alias("front", ("other", "lobby")[n % 2])
    until(lambda: counts[0] > 20 or failures)
    done.set()
    thread.join()
    assert failures == []


def migrated(client: Client, into: str) -> MigrationInfo:
    """Waits until a migration has ended."""

    def state() -> MigrationInfo:
        return next(each for each in client.migrations() if each.into == into)

    until(lambda: state().state != "running")
    return state()


def test_a_gallery_is_migrated_to_another_model_under_its_alias(tmp_path: Path, model: Path, newer_model: Path) -> None:
    with Running(tmp_path / "data", model) as server, Client(server.address) as client:
        server.gallery("lobby-1", keep_images=True)
        server.crowd("lobby-1", 40, cameras=2)
        server.gallery("plain")
        client.set_alias("lobby", "lobby-1")
        client.update_item("lobby", "7-0", attributes={"bag": "red"})
        features = client.extract([encoded(person(50))]).features
        list(client.upsert("lobby", [Item(item_id="no image", features=features)]))
    with Running(tmp_path / "data", newer_model) as server, Client(server.address) as client:
        image = encoded(person(7))
        with pytest.raises(FailedPrecondition):
            client.search("lobby", image)
        for arguments, error, message in (
            (("lobby-1", "lobby-2"), InvalidArgument, "say which alias"),
            (("lobby", "lobby-1"), AlreadyExists, "'lobby-1' exists already"),
            (("lobby", "lobby"), FailedPrecondition, "'lobby' is an alias"),
            (("plain", "plain-2", "p"), FailedPrecondition, "keeps no images"),
            (("nowhere", "x", "p"), NotFound, "no gallery 'nowhere'"),
            (("lobby-1", "../x", "p"), InvalidArgument, "gallery name"),
            (("lobby-1", "lobby-2", "plain"), AlreadyExists, "'plain' is a gallery"),
        ):
            with pytest.raises(error, match=message):
                client.migrate_gallery(*arguments)
        before = client.search("lobby", item_id="3-0")
        started = client.migrate_gallery("lobby", "lobby-2")
        assert (started.gallery, started.into, started.alias) == ("lobby-1", "lobby-2", "lobby")
        client.search("lobby", item_id="3-0")
        done = migrated(client, "lobby-2")
        assert (done.state, done.error, done.done) == ("done", "", 80)
        assert (done.left_behind, done.left_behind_ids) == (1, ("no image",))
        assert client.aliases() == {"lobby": "lobby-2"}
        assert client.search("lobby", image)[0].person_id == "7"
        moved = client.get_item("lobby", "7-0")
        assert (moved.attributes, moved.camera_id) == ({"bag": "red"}, "cam0")
        assert moved.image == encoded(person(7, shot=0))
        assert {match.person_id for match in before[:1]} == {"3"}
        assert client.migrate_gallery("lobby-1", "lobby-2", "lobby").state == "done"
        with pytest.raises(FailedPrecondition, match="of the served model"):
            client.migrate_gallery("lobby", "lobby-3")
        # The old gallery is there until somebody deletes it, and its erasures stay its own.
        assert client.gallery("lobby-1").items == 81
        client.delete_gallery("lobby-1")
