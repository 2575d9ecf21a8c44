"""Searches beside a writer: each sees whole batches, and the same ones from beginning to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.engines import fast as fast_engine
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.searching import SearchTuning
from tests.server.galleries.generated import SCHEMA, clustered_features, gallery_settings, make_items

BATCH = 40
BATCHES = 60
FEATURES = clustered_features(np.random.default_rng(0), SCHEMA, 20, BATCH)
QUERY = clustered_features(np.random.default_rng(1), SCHEMA, 20, 1)


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.setattr(columns, "SEGMENT_ROWS", 100)
    monkeypatch.setattr(fast_engine, "KEPT", 50)
    with closing(Catalog.open(tmp_path, SearchTuning(recall_every=5))) as catalog:
        yield catalog.create(gallery_settings(latency_target_us=1_000_000_000))


def search_while(write: Callable[[int], Any], check: Callable[[], None]) -> int:
    """Runs ``check`` in two threads for as long as a third writes all batches; returns how often it ran."""
    done = threading.Event()

    def write_all() -> None:
        try:
            for batch in range(1, BATCHES + 1):
                write(batch)
        finally:
            done.set()

    def check_all() -> int:
        checks = 0
        while not done.is_set():
            check()
            checks += 1
        check()
        return checks

    with ThreadPoolExecutor(3) as pool:
        checkers = [pool.submit(check_all) for _ in range(2)]
        pool.submit(write_all).result()
        return sum(checker.result() for checker in checkers)


def batch_numbers(ranking: Ranking) -> list[int]:
    return [int(ranking.item(i).attributes["batch"]) for i in range(len(ranking))]


@pytest.mark.parametrize(("mode", "top_k"), [("exact", None), ("fast", 20 * BATCH)])
def test_a_search_sees_whole_replacing_batches(gallery: Gallery, mode: Any, top_k: int | None) -> None:
    def write(batch: int) -> None:
        gallery.upsert(make_items(FEATURES, attributes={"batch": batch}))

    def check() -> None:
        ranking = gallery.search(QUERY, SearchOptions(top_k=top_k, mode=mode, include_incomparable=True))
        numbers = batch_numbers(ranking)
        assert len(numbers) == (BATCH if ranking.sequence else 0)
        assert set(numbers) == ({ranking.sequence} if ranking.sequence else set())

    assert search_while(write, check) > 5
    assert gallery.sequence == BATCHES


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_search_sees_whole_added_batches(gallery: Gallery, mode: Any) -> None:
    def write(batch: int) -> None:
        ids = [f"{batch:03}-{n}" for n in range(BATCH)]
        gallery.upsert(make_items(FEATURES, ids, camera_id=f"c{batch % 2}", attributes={"batch": batch}))

    def check() -> None:
        options = SearchOptions(top_k=None, mode=mode, filter=Filter(camera_ids=("c1",)), include_incomparable=True)
        ranking = gallery.search(QUERY, options)
        numbers = batch_numbers(ranking)
        assert sorted(numbers) == sorted(BATCH * list(range(1, ranking.sequence + 1, 2)))
        found = gallery.search(QUERY, SearchOptions(top_k=1, mode=mode))
        assert len(found) == (found.sequence > 0)

    assert search_while(write, check) > 5


def test_a_search_sees_whole_deletions(gallery: Gallery) -> None:
    ids = [f"{batch:03}-{n}" for batch in range(1, BATCHES + 1) for n in range(BATCH)]
    features = FEATURES[np.tile(np.arange(BATCH), BATCHES)]
    gallery.upsert(make_items(features, ids, attributes={"batch": 1}))

    def write(batch: int) -> None:
        gallery.delete(item_ids=[f"{batch:03}-{n}" for n in range(BATCH)])

    def check() -> None:
        ranking = gallery.search(QUERY, SearchOptions(top_k=None, include_incomparable=True))
        gone = ranking.sequence - 1
        assert min(ranking.item_ids(), default="end") >= f"{gone + 1:03}"[: 3 if gone < BATCHES else 0]
        assert len(ranking) == (BATCHES - gone) * BATCH

    assert search_while(write, check) > 5


def test_writers_of_one_gallery_do_not_lose_each_others_batches(gallery: Gallery) -> None:
    def write(writer: int) -> list[int]:
        return [
            gallery.upsert(make_items(FEATURES[:5], [f"{writer}-{batch}-{n}" for n in range(5)])) for batch in range(10)
        ]

    with ThreadPoolExecutor(4) as pool:
        sequences = [sequence for one in pool.map(write, range(4)) for sequence in one]
    assert sorted(sequences) == list(range(1, 41))
    assert len(gallery) == 200


def test_galleries_can_be_written_at_once(gallery: Gallery, tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path / "other")) as catalog:
        galleries = [catalog.create(gallery_settings(name=f"g{n}")) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: [one.upsert(make_items(FEATURES)) for _ in range(10)], galleries))
        assert [(len(one), one.sequence) for one in galleries] == [(BATCH, 10)] * 4
