"""A gallery through its own methods: writes, reads, searches, and what it learns of its pace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from server.errors import AlreadyExists, InvalidArgument, NotFound
from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.engines import fast as fast_engine
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.pace import Pace
from server.galleries.ranking import SearchOptions
from server.galleries.searching import SearchTuning
from tests.server.galleries.generated import (
    SCHEMA,
    clustered_features,
    gallery_settings,
    make_items,
    oracle_ranking,
    random_features,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "data", SearchTuning(recall_every=1))
    yield catalog
    catalog.close()


@pytest.fixture
def gallery(catalog: Catalog) -> Gallery:
    return catalog.create(gallery_settings())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def features_of(gallery: Gallery, item_ids: list[str]) -> PartFeatures:
    return PartFeatures.concatenate([gallery.features(item_id) for item_id in item_ids])


def test_each_committed_write_adds_one_to_the_sequence(gallery: Gallery, rng: np.random.Generator) -> None:
    items = make_items(random_features(rng, SCHEMA, 30))
    assert gallery.sequence == 0
    assert gallery.upsert(items[:10]) == 1
    assert gallery.upsert(items[10:]) == 2
    assert gallery.upsert([]) == 2
    assert gallery.update("item-00000", person_id="anna").sequence == 3
    assert gallery.delete(item_ids=["item-00001", "no such item"]) == (1, 4)
    assert gallery.delete(item_ids=["item-00001"]) == (0, 4)
    assert gallery.sequence == 4
    assert gallery.report().items == len(gallery) == 29


def test_an_item_comes_back_as_it_was_stored(gallery: Gallery, rng: np.random.Generator) -> None:
    features = random_features(rng, SCHEMA, 1)
    known: dict[str, Any] = {"person_id": "anna", "camera_id": "c1", "captured_at": -5, "attributes": {"a": [1, None]}}
    gallery.upsert(make_items(features, ["x"], **known))
    item = gallery.get("x")
    assert {name: getattr(item, name) for name in known} == known
    np.testing.assert_array_equal(item.vectors, features.vectors[0].astype(np.float16))
    np.testing.assert_array_equal(item.visibility, features.visibility[0])
    np.testing.assert_array_equal(gallery.features("x").vectors, features.stored().vectors)
    with pytest.raises(NotFound, match=r"'lobby' has no item 'y'"):
        gallery.get("y")


def test_the_last_of_equal_ids_in_a_batch_wins(gallery: Gallery, rng: np.random.Generator) -> None:
    features = random_features(rng, SCHEMA, 3)
    gallery.upsert(make_items(features, ["x", "y", "x"]))
    assert len(gallery) == 2
    np.testing.assert_array_equal(gallery.features("x").vectors, features[[2]].stored().vectors)


def test_a_batch_with_one_wrong_item_stores_nothing(gallery: Gallery, rng: np.random.Generator) -> None:
    items = make_items(random_features(rng, SCHEMA, 3))
    with pytest.raises(InvalidArgument, match="item 'bad'"):
        gallery.upsert([*items, NewItem("bad", np.zeros(3, np.float16), items[0].visibility)])
    assert (len(gallery), gallery.sequence) == (0, 0)


def test_images_are_kept_only_where_the_gallery_says_so(catalog: Catalog, rng: np.random.Generator) -> None:
    items = make_items(random_features(rng, SCHEMA, 2), image=b"jpeg")
    keeping = catalog.create(gallery_settings(name="keeping", keep_images=True))
    forgetting = catalog.create(gallery_settings(name="forgetting"))
    for gallery in (keeping, forgetting):
        gallery.upsert(items)
    assert keeping.get("item-00000", image=True).image == b"jpeg"
    assert keeping.get("item-00000").image is None
    assert forgetting.get("item-00000", image=True).image is None
    keeping.update("item-00000", person_id="anna")
    assert keeping.get("item-00000", image=True).image == b"jpeg"
    keeping.upsert(make_items(random_features(rng, SCHEMA, 1)))
    assert keeping.get("item-00000", image=True).image is None


def test_an_update_changes_what_is_given_and_nothing_else(gallery: Gallery, rng: np.random.Generator) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 5), person_id="anna", camera_id="c1", captured_at=7))
    before = gallery.get("item-00002")
    updated = gallery.update("item-00002", camera_id="", attributes={"seen": True})
    assert (updated.person_id, updated.camera_id, updated.captured_at) == ("anna", "", 7)
    assert updated.attributes == {"seen": True}
    np.testing.assert_array_equal(gallery.get("item-00002").vectors, before.vectors)
    assert [item.item_id for item in gallery.list(Filter(camera_ids=("",)), "", 10)] == ["item-00002"]
    assert gallery.update("item-00002", captured_at=9, attributes={}).attributes == {}
    with pytest.raises(NotFound):
        gallery.update("unknown", person_id="x")
    with pytest.raises(InvalidArgument):
        gallery.update("item-00002", person_id="x" * 300)


def test_lists_are_pages_in_the_order_of_ids(gallery: Gallery, rng: np.random.Generator) -> None:
    ids = [f"i{n}" for n in rng.permutation(50)]
    gallery.upsert(make_items(random_features(rng, SCHEMA, 50), ids, camera_id="c1"))
    gallery.delete(item_ids=["i7", "i8"])
    gallery.update("i9", camera_id="c2")
    pages, after = [], ""
    while page := gallery.list(Filter(camera_ids=("c1",)), after, 7):
        assert all(item.vectors is None and len(item.visibility) == 3 for item in page)
        pages += [item.item_id for item in page]
        after = pages[-1]
    assert pages == sorted(set(ids) - {"i7", "i8", "i9"})


def test_deleting_by_filter_removes_what_matches(gallery: Gallery, rng: np.random.Generator) -> None:
    features = random_features(rng, SCHEMA, 20)
    gallery.upsert(make_items(features[:10], camera_id="c1"))
    gallery.upsert(make_items(features[10:], [f"x{n}" for n in range(10)], camera_id="c2"))
    assert gallery.delete(filter=Filter(camera_ids=("c1",))) == (10, 3)
    found = gallery.search(features[[0]], SearchOptions(top_k=None, include_incomparable=True)).item_ids()
    assert sorted(found) == [f"x{n}" for n in range(10)]


@pytest.mark.parametrize("chosen", [{}, {"item_ids": ["a"], "filter": Filter(camera_ids=("c",))}, {"filter": Filter()}])
def test_a_delete_that_does_not_say_what_is_refused(gallery: Gallery, chosen: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        gallery.delete(**chosen)


def test_items_expire_by_the_time_their_features_were_stored(catalog: Catalog, rng: np.random.Generator) -> None:
    gallery = catalog.create(gallery_settings(name="short", retention_us=1_000_000))
    catalog.create(gallery_settings(name="forever")).upsert(make_items(random_features(rng, SCHEMA, 3)))
    gallery.upsert(make_items(random_features(rng, SCHEMA, 3)))
    (stored,) = gallery._snapshot.gathered("stored_at", np.array([0]))
    gallery.update("item-00001", person_id="anna")  # metadata does not make an item younger
    assert catalog.expire(stored + 1_000_000) == 0
    gallery.upsert(make_items(random_features(rng, SCHEMA, 1), ["item-00002"]))
    (fresh,) = gallery._snapshot.gathered("stored_at", gallery._snapshot.rows_of(["item-00002"]))
    assert catalog.expire(stored + 1_000_000 + max(1, fresh - stored)) == 2
    assert [item.item_id for item in gallery.list(Filter(), "", 9)] == ["item-00002"]


SOME_TARGET = 1_000_000_000
"""Microseconds; a gallery with a target holds what fast searches choose by."""


def seal_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand rows are sealed, and enough of them for a fast search to choose from."""
    monkeypatch.setattr(columns, "SEGMENT_ROWS", 100)
    monkeypatch.setattr(fast_engine, "KEPT", 100)


@pytest.mark.parametrize("mode", ["exact", "fast", "auto"])
def test_a_search_with_everything_asked_is_the_oracles(
    catalog: Catalog, gallery: Gallery, rng: np.random.Generator, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "SEGMENT_ROWS", 20)
    ids = [f"i{n:02}" for n in range(60)]
    gallery.upsert(make_items(random_features(rng, SCHEMA, 60), ids, camera_id="c1"))
    for start in range(0, 20, 4):  # replaced and deleted rows, in and out of the lists, and a compaction
        gallery.search(random_features(rng, SCHEMA, 1), SearchOptions(mode=mode))
        catalog.drain()
        gallery.upsert(make_items(random_features(rng, SCHEMA, 4), ids[start : start + 4], camera_id="c2"))
        gallery.delete(item_ids=[ids[40 + start // 4]])
    query = random_features(rng, SCHEMA, 1)
    options = SearchOptions(
        top_k=9,
        filter=Filter(exclude=(Filter(camera_ids=("c1",), item_ids=tuple(ids[20:30])),)),
        part_weights={"upper": 2.0, "global": 0.1},
        min_joint_visibility=0.01,
        mode=mode,
        leave_out=ids[3],
        include_incomparable=True,
    )
    ranking = gallery.search(query, options)
    live = [item.item_id for item in gallery.list(Filter(), "", 100)]
    allowed = [item_id for item_id in live if item_id not in ids[20:30] and item_id != ids[3]]
    expected = oracle_ranking(
        query,
        allowed,
        features_of(gallery, allowed),
        top_k=9,
        include_incomparable=True,
        part_weights=options.part_weights,
        min_joint_visibility=0.01,
    )
    assert len(live) == 55
    assert ranking.item_ids() == [row[0] for row in expected]
    np.testing.assert_allclose(ranking.distance, [row[1] for row in expected], atol=1e-5)
    assert ranking.sequence == gallery.sequence
    assert ranking.item(0).camera_id == gallery.get(ranking.item_ids()[0]).camera_id
    np.testing.assert_array_equal(ranking.features(1).vectors, gallery.features(ranking.item_ids()[1]).vectors)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_items_are_gone_from_results_when_delete_returns(
    catalog: Catalog, rng: np.random.Generator, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_early(monkeypatch)
    gallery = catalog.create(gallery_settings(latency_target_us=SOME_TARGET))
    features = clustered_features(rng, SCHEMA, 20, 1000)
    gallery.upsert(make_items(features))
    query = features[[7]].stored()
    options = SearchOptions(top_k=5, mode=mode)
    gallery.search(query, options)
    catalog.drain()
    best, second = gallery.search(query, options).item_ids()[:2]
    assert best == "item-00007"
    gallery.delete(item_ids=[best])
    assert gallery.search(query, options).item_ids()[0] == second
    gallery.upsert(make_items(features[[500]], [second]))  # replaced by somebody else
    assert second not in gallery.search(query, options).item_ids()
    assert gallery.report().tombstones == 2


def test_leaving_an_item_out_lasts_for_one_search(gallery: Gallery, rng: np.random.Generator) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 20)))
    gallery.delete(item_ids=["item-00003"])
    query = gallery.features("item-00007")
    everything = SearchOptions(top_k=None, include_incomparable=True)
    for _ in range(2):
        left_out = gallery.search(query, replace(everything, leave_out="item-00007")).item_ids()
        assert set(gallery.search(query, everything).item_ids()) - set(left_out) == {"item-00007"}
    assert len(gallery.search(query, replace(everything, leave_out="item-00003"))) == 19


def test_a_ranking_stays_as_it_is_while_the_gallery_changes(gallery: Gallery, rng: np.random.Generator) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 40), camera_id="before"))
    ranking = gallery.search(random_features(rng, SCHEMA, 1), SearchOptions(top_k=None, include_incomparable=True))
    ids = ranking.item_ids()
    gallery.upsert(make_items(random_features(rng, SCHEMA, 40), camera_id="after"))
    gallery.delete(item_ids=ids[:30])
    assert [ranking.item(i).item_id for i in range(len(ranking))] == ids
    assert {ranking.item(i).camera_id for i in range(len(ranking))} == {"before"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "at least 1"),
        ({"top_k": -3}, "at least 1"),
        ({"mode": "quick"}, "auto"),
        ({"part_weights": {"nose": 1.0}}, "nose"),
        ({"part_weights": {"global": 0.0}}, "more than 0"),
        ({"min_joint_visibility": 2.0}, "min_joint_visibility"),
    ],
)
def test_a_wrong_question_is_refused(
    gallery: Gallery, rng: np.random.Generator, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        gallery.search(random_features(rng, SCHEMA, 1), SearchOptions(**options))


def test_a_query_of_another_schema_is_refused(gallery: Gallery, rng: np.random.Generator) -> None:
    other = PartSchema((Part("global", 3),))
    with pytest.raises(InvalidArgument, match=r"global:3.*global:16"):
        gallery.search(random_features(rng, other, 1), SearchOptions())


def test_auto_is_exact_until_the_exact_search_misses_the_latency_target(
    catalog: Catalog, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_early(monkeypatch)
    features = clustered_features(rng, SCHEMA, 50, 1000)
    query = clustered_features(rng, SCHEMA, 50, 1)
    patient = catalog.create(gallery_settings(name="patient"))
    hasty = catalog.create(gallery_settings(name="hasty", latency_target_us=1000))
    for gallery in (patient, hasty):
        gallery.upsert(make_items(features))
        gallery.search(query, SearchOptions(mode="fast"))
    catalog.drain()
    hasty._searcher.pace = Pace(1)
    hasty._searcher.pace.exact_took(1000, 0.0006)
    assert hasty.search(query, SearchOptions()).exact
    hasty._searcher.pace = Pace(1)
    hasty._searcher.pace.exact_took(1000, 0.5)
    assert not hasty.search(query, SearchOptions()).exact
    assert hasty.search(query, SearchOptions(mode="exact")).exact
    assert hasty.search(query, SearchOptions(top_k=None)).exact
    patient._searcher.pace.exact_took(1000, 0.5)
    assert patient.search(query, SearchOptions()).exact


def test_auto_is_fast_in_a_compact_gallery_and_exact_still_is_exact(
    catalog: Catalog, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_early(monkeypatch)
    gallery = catalog.create(gallery_settings(compact=True))
    gallery.upsert(make_items(clustered_features(rng, SCHEMA, 50, 1000)))
    catalog.drain()
    query = clustered_features(rng, SCHEMA, 50, 1)
    fast, exact = (gallery.search(query, SearchOptions(mode=mode)) for mode in ("auto", "exact"))
    assert (fast.exact, exact.exact) == (False, True)
    assert len(set(fast.item_ids()) & set(exact.item_ids())) >= 9


def test_the_recall_of_fast_searches_is_sampled_and_reported(
    catalog: Catalog, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal_early(monkeypatch)
    gallery = catalog.create(gallery_settings(latency_target_us=SOME_TARGET))
    gallery.upsert(make_items(clustered_features(rng, SCHEMA, 50, 1000)))
    queries = clustered_features(rng, SCHEMA, 50, 20)
    catalog.drain()
    assert gallery.report().fast_recall is None
    for i in range(20):
        gallery.search(queries[[i]], SearchOptions(mode="fast"))
    catalog.drain()
    recall = gallery.report().fast_recall
    assert recall is not None
    assert 0.95 <= recall <= 1


def test_pace_samples_the_first_and_then_every_nth() -> None:
    pace = Pace(3)
    assert [pace.sample_is_due() for _ in range(7)] == [True, False, False, True, False, False, True]
    assert not Pace(0).sample_is_due()
    assert pace.recall is None
    pace.recalled(9, 10)
    assert pace.recall == pytest.approx(0.9)
    assert pace.exact_seconds(1000) == 0
    pace.exact_took(10, 0.0003)  # a handful of rows says nothing about thousands
    assert pace.exact_seconds(100_000) < 0.001
    for _ in range(100):
        pace.exact_took(1000, 0.0105)
    assert pace.exact_seconds(10_000) == pytest.approx(0.1, rel=0.02)


def test_the_report_counts_live_items_and_what_the_dead_cost(gallery: Gallery, rng: np.random.Generator) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 100), person_id="ä"))
    full = gallery.report()
    assert full.bytes == 100 * (32 * 2 + 3 * 4 + len("item-00000") + 2)
    assert 1 <= full.patterns <= 4  # global is always visible
    gallery.delete(item_ids=[f"item-{n:05}" for n in range(10)])
    report = gallery.report()
    assert (report.items, report.tombstones, report.sequence) == (90, 10, 2)
    assert report.bytes == full.bytes * 0.9
    assert report.memory_bytes == full.memory_bytes
    gallery.delete(item_ids=[f"item-{n:05}" for n in range(10, 40)])
    assert gallery.report().tombstones == 0
    assert gallery.report().memory_bytes < full.memory_bytes


def test_a_deleted_gallery_takes_no_more_writes(catalog: Catalog, gallery: Gallery, rng: np.random.Generator) -> None:
    items = make_items(random_features(rng, SCHEMA, 5))
    gallery.upsert(items)
    assert catalog.delete("lobby") == 5
    for write in (
        lambda: gallery.upsert(items),
        lambda: gallery.delete(item_ids=["item-00000"]),
        lambda: gallery.update("item-00000", person_id="x"),
    ):
        with pytest.raises(NotFound, match="deleted"):
            write()
    again = catalog.create(gallery_settings())
    assert (len(again), again.sequence) == (0, 0)


def test_a_name_is_taken_once_and_missing_ones_are_told(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match="none yet"):
        catalog.get("lobby")
    for n in range(7):
        catalog.create(gallery_settings(name=f"g{n}"))
    with pytest.raises(AlreadyExists, match="'g3'"):
        catalog.create(gallery_settings(name="g3"))
    with pytest.raises(NotFound, match="'g0', 'g1', 'g2', 'g3', 'g4' and 2 more"):
        catalog.get("lobby")
    assert [gallery.settings.name for gallery in catalog.list()] == [f"g{n}" for n in range(7)]


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "x" * 65, "a/b", "ä"])
def test_a_bad_gallery_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="letters, digits"):
        gallery_settings(name=name)
