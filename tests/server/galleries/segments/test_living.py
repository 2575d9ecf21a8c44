"""Galleries that outgrow one segment: sealing, wear, restarts, and files that are not what they were."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import SearchOptions
from server.galleries.segments import container
from server.galleries.segments.opened import OpenSegment
from server.galleries.segments.sealed import SealedSegment
from tests.server.galleries.generated import SCHEMA, clustered_features, gallery_settings, make_items, random_features
from tests.server.galleries.segments.galleries import SEGMENT_ROWS, contents, files, opened, small_segments, some_items

pytestmark = pytest.mark.usefixtures(small_segments.__name__)

QUERY = random_features(np.random.default_rng(99), SCHEMA, 1)
EVERYTHING = SearchOptions(top_k=None, include_incomparable=True)


def fill(gallery: Gallery, count: int, **fields: object) -> None:
    for first in range(0, count, 50):
        gallery.upsert(some_items(first + 1, 50, first, **fields))


def kinds(gallery: Gallery) -> list[type]:
    return [type(stretch.segment) for stretch in gallery._snapshot.stretches]


def ranked(gallery: Gallery) -> list[tuple[str, float]]:
    ranking = gallery.search(QUERY, EVERYTHING)
    return list(zip(ranking.item_ids(), np.nan_to_num(ranking.distance, nan=9).tolist(), strict=True))


def test_full_segments_are_sealed_and_nothing_else_changes(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 350, camera_id="c1", person_id="anna", captured_at=3, attributes={"site": "ä"})
        catalog.drain()
        assert kinds(gallery) == [SealedSegment] * 3 + [OpenSegment]
        assert len(files(tmp_path)) == 3
        expected = contents(gallery)
        ranking = ranked(gallery)
        report = gallery.report()
        assert (report.items, report.segments, report.tombstones, report.sequence) == (350, 4, 0, 7)
        assert report.disk_bytes == sum(path.stat().st_size for path in files(tmp_path))
        assert [item.item_id for item in gallery.list(Filter(), "i00120", 4)] == [f"i00{n}" for n in range(121, 125)]
        assert gallery.get("i00007").attributes == {"site": "ä"}
    with opened(tmp_path) as (_, again):
        assert kinds(again) == [SealedSegment] * 3 + [OpenSegment]
        assert contents(again) == expected
        assert ranked(again) == ranking
        assert again.report() == report


def test_texts_of_many_rows_are_those_of_each(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        for n in range(7):
            fields = {"camera_id": f"c{n % 3}", "person_id": f"p{n}", "attributes": {"n": n} if n else None}
            gallery.upsert(some_items(n, 50, 50 * n, **fields))
        catalog.drain()
        assert kinds(gallery) == [SealedSegment] * 3 + [OpenSegment]
        snapshot = gallery.snapshot
        rows = np.random.default_rng(1).permutation(np.append(np.arange(0, 350, 3), [5, 349, 5]))
        items = [snapshot.items(np.array([row]), vectors=False)[0] for row in rows]
        item_ids, people, cameras, attributes = snapshot.texts(rows)
        assert item_ids == [item.item_id for item in items]
        assert people == [item.person_id for item in items]
        assert cameras == [item.camera_id for item in items]
        assert [json.loads(text or "{}") for text in attributes] == [item.attributes for item in items]
        assert snapshot.texts(rows[:0]) == ([], [], [], [])


def test_rows_are_sealed_by_their_visibility_pattern(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, SEGMENT_ROWS)
        catalog.drain()
        patterns = gallery._snapshot.patterns
        changes = np.count_nonzero(np.diff(patterns))
        assert changes == len(np.unique(patterns)) - 1


def test_writes_that_come_while_a_segment_is_sealed_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, go_on = threading.Event(), threading.Event()
    write = container.write

    def slow_write(*arguments: object) -> None:
        writing.set()
        assert go_on.wait(30)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(container, "write", slow_write)
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, SEGMENT_ROWS)
        assert writing.wait(30)
        gallery.delete(item_ids=["i00003", "i00004"])
        gallery.update("i00005", person_id="anna")
        gallery.upsert(some_items(77, 10, 10))
        before = contents(gallery)
        ranking = ranked(gallery)
        go_on.set()
        catalog.drain()
        assert kinds(gallery) == [SealedSegment, OpenSegment]
        assert contents(gallery) == before
        assert ranked(gallery) == ranking
        assert gallery.report().tombstones == 13
    with opened(tmp_path) as (_, again):
        assert contents(again) == before
        assert ranked(again) == ranking


def test_a_search_keeps_its_snapshot_while_segments_come_and_go(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 230, camera_id="before")
        snapshot = gallery._snapshot
        ranking = gallery.search(QUERY, EVERYTHING)
        ids = ranking.item_ids()
        items = snapshot.items(ranking.rows, vectors=True)
        catalog.drain()
        gallery.delete(item_ids=ids[:150])
        gallery.upsert(some_items(5, 60, 40, camera_id="after"))
        catalog.drain()
        gallery.purge(ids)
        assert ranking.item_ids() == ids
        assert {ranking.item(i).camera_id for i in range(len(ids))} == {"before"}
        again = snapshot.items(ranking.rows, vectors=True)
        for one, other in zip(items, again, strict=True):
            np.testing.assert_array_equal(one.vectors, other.vectors)


def test_worn_segments_are_rewritten_and_small_ones_merged(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 300)
        catalog.drain()
        before = files(tmp_path)
        gallery.delete(item_ids=[f"i{n:05}" for n in range(20)])
        catalog.drain()
        assert (files(tmp_path), gallery.report().tombstones) == (before, 20)
        gallery.delete(item_ids=[f"i{n:05}" for n in range(20, 60)])
        catalog.drain()
        assert gallery.report().tombstones == 0
        assert len(files(tmp_path)) == 3
        gallery.delete(item_ids=[f"i{n:05}" for n in range(100, 160)])
        catalog.drain()
        assert len(files(tmp_path)) == 2  # 40 and 40 live rows are one segment now
        assert len(gallery) == 180
        expected = contents(gallery)
        gallery.delete(item_ids=list(expected)[:-3])
        catalog.drain()
        assert sum(stretch.rows for stretch in gallery._snapshot.stretches) == 3
        gallery.delete(item_ids=list(expected)[-3:])
        catalog.drain()
        assert (files(tmp_path), gallery._snapshot.rows) == ([], 0)


def test_writes_after_sealing_are_right_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 300, person_id="anna")
        catalog.drain()
        gallery.delete(item_ids=["i00001", "i00299"])
        gallery.upsert(some_items(42, 5, 100, person_id="bela"))
        gallery.update("i00200", camera_id="c2", attributes={"a": 1})
        gallery.delete(item_ids=["i00010"])
        gallery.upsert(some_items(43, 1, 10))
        expected, ranking = contents(gallery), ranked(gallery)
    with opened(tmp_path) as (_, again):
        assert kinds(again) == [SealedSegment] * 3 + [OpenSegment]
        assert contents(again) == expected
        assert ranked(again) == ranking
        assert again.search(QUERY, SearchOptions(filter=Filter(person_ids=("bela",)), top_k=9)).sequence == 11


def test_a_store_put_back_from_an_older_day_wins_over_newer_files(tmp_path: Path) -> None:
    older = tmp_path / "older"
    with opened(tmp_path / "data") as (catalog, gallery):
        fill(gallery, 150)
        catalog.drain()
    shutil.copytree(tmp_path / "data", older)
    with opened(tmp_path / "data") as (catalog, gallery):
        gallery.upsert(some_items(8, 100, 40))  # both go on from the same write, each in its own way
        catalog.drain()
    with opened(older) as (catalog, gallery):
        gallery.upsert(some_items(9, 100, 40))
        expected, ranking = contents(gallery), ranked(gallery)
    shutil.rmtree(older / "segments")
    shutil.copytree(tmp_path / "data" / "segments", older / "segments")
    with opened(older) as (_, again):
        assert contents(again) == expected
        assert ranked(again) == ranking


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove", "swap", "folder", "copy"])
def test_a_damaged_file_costs_work_and_no_answer(tmp_path: Path, damage: str) -> None:
    data = tmp_path / "data"
    with opened(data) as (catalog, gallery):
        fill(gallery, 320)
        catalog.drain()
        gallery.delete(item_ids=["i00150"])
        expected, ranking = contents(gallery), ranked(gallery)
    first, second, _ = files(data)
    content = first.read_bytes()
    for trial in range(12 if damage == "flip" else 1):
        rng = np.random.default_rng(trial)
        if damage == "flip":
            flipped = bytearray(content)
            flipped[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
            files(data)[0].write_bytes(flipped)
        elif damage == "truncate":
            first.write_bytes(content[: len(content) // 2])
        elif damage == "empty":
            first.write_bytes(b"")
        elif damage == "remove":
            first.unlink()
        elif damage == "swap":
            first.write_bytes(second.read_bytes())
        elif damage == "folder":
            first.unlink()
            first.mkdir()
        else:
            (data / "segments" / "1-99.seg").write_bytes(content)
        with opened(data) as (catalog, again):
            assert contents(again) == expected
            assert ranked(again) == ranking
            catalog.drain()
            assert ranked(again) == ranking
        with opened(data) as (_, again):
            assert contents(again) == expected


def test_files_that_do_not_belong_here_are_removed_and_others_left(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 100)
        catalog.drain()
        other = catalog.create(gallery_settings(name="other"))
        fill(other, 100)
        catalog.drain()
        assert len(files(tmp_path)) == 2
        catalog.delete("other")
        assert len(files(tmp_path)) == 1
        expected = contents(gallery)
    folder = tmp_path / "segments"
    (folder / "1-7.seg.tmp").write_bytes(b"half a segment")
    shutil.copy(files(tmp_path)[0], folder / "99-1.seg")  # a gallery that is not there
    shutil.copy(files(tmp_path)[0], folder / "notes.txt")
    with opened(tmp_path) as (_, again):
        assert contents(again) == expected
        assert sorted(path.name for path in folder.iterdir()) == ["1-1.seg", "notes.txt"]


def test_a_segment_of_another_model_is_not_used(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as (catalog, gallery):
        fill(gallery, 100)
        catalog.drain()
    with opened(tmp_path / "b", latency_target_us=5) as (catalog, gallery):
        gallery.upsert(some_items(1, 3))
        expected = contents(gallery)
    schema_of_another = tmp_path / "b" / "segments" / "1-1.seg"
    facts, names = _facts_and_arrays(files(tmp_path / "a")[0])
    container.write(schema_of_another, {**facts, "model": {"name": "x"}}, names)
    with opened(tmp_path / "b") as (_, again):
        assert contents(again) == expected
        assert files(tmp_path / "b") == []


def _facts_and_arrays(path: Path) -> tuple[dict[str, object], dict[str, np.ndarray]]:  # type: ignore[type-arg]
    file = container.Container(path)
    return file.facts, {name: file.loaded(name) for name in file.names}


def test_a_full_disk_leaves_rows_in_memory_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as (catalog, gallery):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            fill(gallery, 250)
            catalog.drain()
            assert kinds(gallery) == [OpenSegment] * 3
            assert len(contents(gallery)) == 250
        gallery.tend()
        assert kinds(gallery) == [SealedSegment] * 2 + [OpenSegment]
        assert len(contents(gallery)) == 250


def test_purged_rows_are_in_no_file_and_no_array(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        views = clustered_features(np.random.default_rng(0), SCHEMA, 20, 233)  # no two alike
        items = make_items(views, [f"i{n:05}" for n in range(233)])
        gallery.upsert(items[:100])
        gallery.upsert(items[100:])
        catalog.drain()
        gallery.upsert(some_items(5, 3, 500, person_id="a very particular person"))
        victims = ["i00007", "i00500"]
        hidden = {
            item.item_id: item.vectors.tobytes() for item in map(gallery.get, victims) if item.vectors is not None
        }
        gallery.update("i00007", person_id="a very particular person")  # leaves an older row behind
        gallery.delete(item_ids=victims)
        untouched = files(tmp_path)[1]
        rest = contents(gallery)
        assert b"i00007" in files(tmp_path)[0].read_bytes()
        assert gallery.purge(victims, ["a very particular person"]) == (tmp_path / "segments" / "1-1.seg",)
        assert untouched in files(tmp_path)
        for path in files(tmp_path):
            content = path.read_bytes()
            assert b"a very particular person" not in content
            for item_id, vectors in hidden.items():
                assert item_id.encode() not in content
                assert vectors not in content
        assert contents(gallery) == rest
        snapshot = gallery._snapshot
        assert snapshot.dead == 0
        assert not set(victims) & {snapshot.item_id(row) for row in range(snapshot.rows)}
        assert gallery.purge(victims) == ()
    with opened(tmp_path) as (_, again):
        assert contents(again) == rest


def test_purging_leaves_live_items_of_the_same_name(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 100)
        catalog.drain()
        gallery.upsert(some_items(6, 1, 7))
        expected = contents(gallery)
        assert len(gallery.purge(["i00007"])) == 1
        assert contents(gallery) == expected
        assert gallery._snapshot.dead == 0


def test_sealing_and_purging_at_once_with_searches_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 300)
        done = threading.Event()

        def write() -> None:
            for round in range(30):
                gallery.upsert(some_items(1000 + round, 40, (round * 37) % 260))
                gallery.delete(item_ids=[f"i{(round * 11) % 300:05}"])
                gallery.upsert(some_items(2000 + round, 1, (round * 11) % 300))
                if round % 5 == 0:
                    gallery.purge([f"i{(round * 11) % 300:05}"])

        def search() -> int:
            searches = 0
            while not done.is_set():
                ranking = gallery.search(QUERY, EVERYTHING)
                ids = ranking.item_ids()
                assert len(set(ids)) == len(ids) in (299, 300)
                searches += 1
            return searches

        with ThreadPoolExecutor(3) as pool:
            searchers = [pool.submit(search) for _ in range(2)]
            try:
                pool.submit(write).result()
            finally:
                done.set()
            assert sum(searcher.result() for searcher in searchers) > 3
        catalog.drain()
        expected = contents(gallery)
        assert len(expected) == 300
    with opened(tmp_path) as (_, again):
        assert contents(again) == expected


WRITES: list[Callable[[Gallery], object]] = [
    lambda gallery: gallery.delete(item_ids=["i00001"]),
    lambda gallery: gallery.upsert(some_items(3, 1, 1)),
    lambda gallery: gallery.update("i00001", camera_id="x"),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_copies_no_more_than_its_own_segments_bitmap(
    tmp_path: Path, write: Callable[[Gallery], object]
) -> None:
    with opened(tmp_path) as (catalog, gallery):
        fill(gallery, 500)
        catalog.drain()
        before = gallery._snapshot.stretches
        write(gallery)
        after = gallery._snapshot.stretches
        changed = [old is not new for old, new in zip(before[:5], after, strict=False)]
        assert changed == [True, False, False, False, False]
