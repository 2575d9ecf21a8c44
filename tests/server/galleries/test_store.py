"""The store on disk: what was acknowledged is there again, and what cannot be trusted is refused."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.bundle import ModelIdentity
from server.errors import ResourceExhausted, Unavailable
from server.galleries import database
from server.galleries.catalog import Catalog
from server.galleries.database import FILE, Database, StoreError
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import SearchOptions
from server.galleries.tables import FORMAT
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features, random_schema


def contents(gallery: Gallery) -> list[Any]:
    """Everything the gallery holds, comparable with ``==``."""
    found = [gallery.get(item.item_id, image=True) for item in gallery.list(Filter(), "", 10_000)]
    return [
        (
            item.item_id,
            item.person_id,
            item.camera_id,
            item.captured_at,
            item.attributes,
            item.visibility.tobytes(),
            item.vectors.tobytes(),
            item.sequence,
            item.image,
        )
        for item in found
        if item.vectors is not None
    ]


def limit_pages(catalog: Catalog, pages: int) -> None:
    """Lets the database file grow to so many pages: SQLite then fails as it does on a full disk."""
    catalog._store._database._writer.execute(f"PRAGMA max_page_count = {pages}")


def fill(gallery: Gallery) -> None:
    """Writes until something stops it."""
    for seed in range(1, 1000):
        gallery.upsert(some_items(seed, 20))


def some_items(seed: int, count: int, **fields: Any) -> list[Any]:
    features = random_features(np.random.default_rng(seed), SCHEMA, count)
    return make_items(features, [f"{seed}-{n}" for n in range(count)], **fields)


def test_reopened_galleries_equal_those_that_were_closed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    schema = random_schema(rng)
    settings = [
        gallery_settings(name="a", keep_images=True, retention_us=5_000_000, require_purpose=True),
        gallery_settings(
            schema,
            name="b",
            model=ModelIdentity("lite", "1.0.0", "ab" * 32),
            model_info={"method": "parts", "height": 256},
            latency_target_us=9000,
        ),
        gallery_settings(name="empty"),
    ]
    with closing(Catalog.open(tmp_path)) as catalog:
        a, b, _ = (catalog.create(one) for one in settings)
        for seed in range(4):  # the two galleries' rows lie interleaved in the file
            a.upsert(some_items(seed, 30, person_id="ä", attributes={"n": seed}, captured_at=seed, image=b"i%d" % seed))
            b.upsert(make_items(random_features(rng, schema, 20), [f"{seed}/{n % 15}" for n in range(20)]))
        a.upsert(some_items(1, 30, camera_id="new"))
        a.update("2-3", person_id="anna")
        a.delete(item_ids=["0-1", "3-3"])
        query = random_features(rng, SCHEMA, 1)
        ranking = a.search(query, SearchOptions(top_k=None, include_incomparable=True))
        before = [(gallery.sequence, contents(gallery)) for gallery in catalog.list()]
    with closing(Catalog.open(tmp_path)) as catalog:
        assert [gallery.settings for gallery in catalog.list()] == settings
        assert [(gallery.sequence, contents(gallery)) for gallery in catalog.list()] == before
        again = catalog.get("a").search(query, SearchOptions(top_k=None, include_incomparable=True))
        assert again.item_ids() == ranking.item_ids()
        np.testing.assert_array_equal(again.distance, ranking.distance)


def test_a_deleted_gallery_leaves_nothing_in_the_tables(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)) as catalog:
        catalog.create(gallery_settings(name="a", keep_images=True)).upsert(some_items(0, 10, image=b"jpeg"))
        catalog.create(gallery_settings(name="b")).upsert(some_items(0, 10))
        assert catalog.delete("a") == 10
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("items", "images")]
    assert counts == [10, 0]
    with closing(Catalog.open(tmp_path)) as catalog:
        assert [gallery.settings.name for gallery in catalog.list()] == ["b"]


def test_a_deleted_item_leaves_no_bytes_in_the_closed_file(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)) as catalog:
        gallery = catalog.create(gallery_settings())
        gallery.upsert(some_items(0, 50))
        gallery.upsert(some_items(1, 1, person_id="a very particular person"))
        gallery.delete(item_ids=["1-0"])
    assert b"a very particular person" not in (tmp_path / FILE).read_bytes()
    assert not (tmp_path / f"{FILE}-wal").exists()


def test_a_full_disk_refuses_writes_and_lets_searches_go_on(tmp_path: Path) -> None:
    query = random_features(np.random.default_rng(9), SCHEMA, 1)
    with closing(Catalog.open(tmp_path)) as catalog:
        gallery = catalog.create(gallery_settings())
        gallery.upsert(some_items(0, 20))
        limit_pages(catalog, 16)
        with pytest.raises(ResourceExhausted, match="disk is full: writes are refused, searches go on") as refusal:
            fill(gallery)
        assert refusal.value.retry_after
        before, sequence = contents(gallery), gallery.sequence
        with pytest.raises(ResourceExhausted):
            gallery.upsert(some_items(2000, 50))
        assert len(gallery.search(query, SearchOptions(top_k=None, include_incomparable=True))) == len(before)
        catalog.check()
        limit_pages(catalog, 1_000_000)
        assert gallery.upsert(some_items(3000, 5)) == sequence + 1
        assert len(gallery) == len(before) + 5
        after = contents(gallery)
    with closing(Catalog.open(tmp_path)) as catalog:
        assert contents(catalog.get("lobby")) == after


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from server.galleries.catalog import Catalog; "
        "catalog = Catalog.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=rf"in use by another Glimpse server \(process {holder.pid}\)"):
            Catalog.open(tmp_path)
        holder.kill()
    Catalog.open(tmp_path).close()  # a killed server leaves no lock behind


def test_a_folder_is_opened_once_in_one_process_too(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)), pytest.raises(StoreError, match="in use"):
        Catalog.open(tmp_path)
    Catalog.open(tmp_path).close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Catalog.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}, newer than this Glimpse reads .*upgrade"):
        Catalog.open(tmp_path)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreError, match="not a Glimpse store"):
        Catalog.open(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("junk", [b"this is no database at all " * 500, b"SQLite format 3\0" + bytes(8000)])
def test_a_file_that_is_no_database_is_refused_saying_how_to_restore(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / FILE).write_bytes(junk)
    with pytest.raises(StoreError, match=r"is damaged .*backup.*\.recover"):
        Catalog.open(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)) as catalog:
        catalog.create(gallery_settings()).upsert(some_items(0, 200))
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StoreError, match="is damaged"):
        Catalog.open(tmp_path)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    with closing(Catalog.open(sound)) as catalog:
        gallery = catalog.create(gallery_settings())
        gallery.upsert(some_items(0, 400, person_id="anna", attributes={"site": "north"}))
        gallery.delete(item_ids=[f"0-{n}" for n in range(20)])
        gallery.upsert(some_items(1, 300, camera_id="c1", captured_at=5))
        expected = contents(gallery)
    content = (sound / FILE).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(120):
        folder = tmp_path / str(trial)
        folder.mkdir()
        flipped = bytearray(content)
        flipped[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        (folder / FILE).write_bytes(flipped)
        try:
            with closing(Catalog.open(folder)) as catalog:
                assert contents(catalog.get("lobby")) == expected
        except StoreError:
            refused += 1
        shutil.rmtree(folder)
    assert refused > 20


def test_a_damaged_log_of_a_killed_server_shows_whole_writes_up_to_the_damage_or_is_refused(tmp_path: Path) -> None:
    live, sound = tmp_path / "live", tmp_path / "sound"
    with closing(Catalog.open(live)) as catalog:
        gallery = catalog.create(gallery_settings())
        states = [contents(gallery)]
        for seed in range(12):
            gallery.upsert(some_items(seed, 15, person_id=f"p{seed}"))
            states.append(contents(gallery))
        catalog.drain()  # a segment file that takes its name meanwhile would fail the copy
        shutil.copytree(live, sound)  # with the log, as a killed process leaves it
    name = f"{FILE}-wal"
    log = (sound / name).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for trial in range(40):
        damaged = bytearray(log)
        place = int(rng.integers(len(log)))
        damaged[place] ^= 1 << int(rng.integers(8))
        folder = Path(shutil.copytree(sound, tmp_path / str(trial)))
        (folder / name).write_bytes(damaged if trial % 2 else log[:place])
        try:
            with closing(Catalog.open(folder)) as catalog:
                found = contents(catalog.get("lobby")) if catalog.list() else None
            outcomes.add(states.index(found) if found is not None else -1)
        except StoreError:
            outcomes.add(-2)
        shutil.rmtree(folder)
    assert len(outcomes) > 5  # a write that is there by half would be in no state


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Catalog.open(tmp_path / "file")


def test_check_notices_that_the_file_is_gone(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)) as catalog:
        catalog.check()
        (tmp_path / FILE).rename(tmp_path / "elsewhere")
        with pytest.raises(Unavailable, match="removed or replaced"):
            catalog.check()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    catalog = Catalog.open(tmp_path)
    gallery = catalog.create(gallery_settings())
    catalog.close()
    catalog.close()
    for use in (catalog.check, lambda: gallery.upsert(some_items(0, 1))):
        with pytest.raises(Unavailable, match="server is stopping"):
            use()
    assert len(gallery) == 0


@pytest.mark.parametrize(("limit", "killed", "examined"), [(1 << 20, False, 1), (0, False, 0), (0, True, 1)])
def test_a_large_file_is_examined_only_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, killed: bool, examined: int
) -> None:
    folder = tmp_path / "one"
    with closing(Catalog.open(folder)) as catalog:
        catalog.create(gallery_settings()).upsert(some_items(0, 20))
        if killed:
            folder = tmp_path / "another"
            shutil.copytree(tmp_path / "one", folder)  # with the log, as a killed process leaves it
    asked: list[str] = []
    pragma = database._pragma
    monkeypatch.setattr(database, "_pragma", lambda connection, text: (asked.append(text), pragma(connection, text))[1])
    monkeypatch.setattr(database, "EXAMINED_BYTES", limit)
    with closing(Catalog.open(folder)) as catalog:
        assert len(catalog.get("lobby")) == 20
    assert asked.count("quick_check(1)") == examined


def test_the_store_is_set_up_for_durability_and_erasure(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.write() as connection:
        values = {
            pragma: connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("journal_mode", "synchronous", "secure_delete", "foreign_keys")
        }
    database.close()
    assert values == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "foreign_keys": 1}
