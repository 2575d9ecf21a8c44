"""The Faiss engine: what it finds, and what it does while lists are missing or old."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.background import Background
from server.galleries.columns import Columns
from server.galleries.engines import faiss as faiss_engine
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.exact import ExactEngine
from server.galleries.engines.faiss import FaissEngine
from server.galleries.engines.scoring import weighted_query
from server.galleries.items import make_batch
from tests.server.galleries.generated import clustered_features, make_items

SCHEMA = PartSchema(
    (Part("global", 32, always_visible=True), *(Part(name, 24) for name in ("head", "upper", "arms", "legs"))),
    prior=0.2,
)
ITEMS = 4000


@pytest.fixture(scope="module")
def background():
    background = Background()
    yield background
    background.close()


def columns_of(count: int, start: int = 0) -> Columns:
    columns = Columns(SCHEMA)
    add(columns, count, start)
    return columns


def add(columns: Columns, count: int, start: int) -> None:
    features = clustered_features(np.random.default_rng(start), SCHEMA, 200, count)
    ids = [f"i{n}" for n in range(start, start + count)]
    columns.extend(make_batch(make_items(features, ids), SCHEMA, 1, 0))


def requests(count: int, top_k: int = 10, allowed: np.ndarray | None = None, threshold: float = 0.0) -> list[Request]:
    queries = clustered_features(np.random.default_rng(99), SCHEMA, 200, count)
    return [Request(weighted_query(queries[[i]], SCHEMA, {}, threshold), allowed, top_k, False) for i in range(count)]


def recall(fast: list[Ranked], exact: list[Ranked]) -> float:
    found = sum(len(np.intersect1d(f.rows, e.rows)) for f, e in zip(fast, exact, strict=True))
    return found / sum(len(e.rows) for e in exact)


@pytest.mark.parametrize(("top_k", "threshold"), [(10, 0.0), (10, 0.2), (100, 0.0)])
def test_lists_find_nearly_all_that_the_exact_engine_finds(
    background: Background, top_k: int, threshold: float
) -> None:
    snapshot = columns_of(ITEMS).snapshot(1)
    engine = FaissEngine(background)
    engine.seal(snapshot)
    asked = requests(40, top_k, threshold=threshold)
    fast = [engine.search(snapshot, request) for request in asked]
    assert sum(not ranked.exact for ranked in fast) > 20
    assert recall(fast, [ExactEngine(background).search(snapshot, request) for request in asked]) >= 0.99


def test_distances_of_a_fast_ranking_are_exact_ones(background: Background) -> None:
    snapshot = columns_of(ITEMS).snapshot(1)
    engine = FaissEngine(background)
    engine.seal(snapshot)
    (request,) = requests(1)
    fast, exact = engine.search(snapshot, request), ExactEngine(background).search(snapshot, request)
    known = dict(zip(exact.rows.tolist(), exact.distance.tolist(), strict=True))
    shared = [row for row in fast.rows.tolist() if row in known]
    assert shared
    assert all(
        known[row] == distance for row, distance in zip(fast.rows.tolist(), fast.distance, strict=True) if row in known
    )


def test_rows_that_a_filter_forbids_are_not_found(background: Background) -> None:
    columns = columns_of(ITEMS)
    snapshot = columns.snapshot(1)
    engine = FaissEngine(background)
    engine.seal(snapshot)
    for share in (0.5, 0.02):
        allowed = np.random.default_rng(1).random(ITEMS) < share
        asked = requests(10, allowed=allowed)
        fast = [engine.search(snapshot, request) for request in asked]
        assert all(allowed[ranked.rows].all() for ranked in fast)
        assert recall(fast, [ExactEngine(background).search(snapshot, request) for request in asked]) >= 0.99


def test_rows_below_the_threshold_do_not_crowd_out_those_above(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_engine, "RARE", 10)
    schema = PartSchema((Part("upper", 8), Part("legs", 8)))

    def rows(count: int, cosine: float, visibility: tuple[float, float]) -> PartFeatures:
        part = np.zeros((count, 8), np.float32)
        part[:, 0], part[:, 1] = cosine, np.sqrt(1 - cosine**2)
        return PartFeatures(np.hstack([part, part]), np.tile(np.float32(visibility), (count, 1)), schema)

    # Of the first pattern, the rows with the largest numerators share too little with the query.
    crowd, good = rows(60, 1.0, (0.5, 0.5)), rows(10, 0.5, (0.9, 0.8))
    features = PartFeatures.concatenate([crowd, good, rows(130, 0.1, (1.0, 0.49))])
    columns = Columns(schema)
    columns.extend(make_batch(make_items(features), schema, 1, 0))
    snapshot = columns.snapshot(1)
    engine = FaissEngine(background)
    engine.seal(snapshot)
    query = weighted_query(rows(1, 1.0, (1.0, 1.0)), schema, {}, 0.7)
    ranked = engine.search(snapshot, Request(query, None, 5, False))
    assert not ranked.exact
    assert ranked.rows.tolist() == [60, 61, 62, 63, 64]


def test_without_lists_a_fast_search_is_exact(background: Background) -> None:
    snapshot = columns_of(500).snapshot(1)
    (request,) = requests(1)
    assert FaissEngine(background).search(snapshot, request).exact


def test_rows_written_after_sealing_are_found(background: Background) -> None:
    columns = columns_of(1000)
    engine = FaissEngine(background)
    engine.seal(columns.snapshot(1))
    add(columns, 500, start=1000)
    snapshot = columns.snapshot(2)
    asked = requests(30)
    fast = [engine.search(snapshot, request) for request in asked]
    assert any((ranked.rows >= 1000).any() for ranked in fast)
    assert recall(fast, [ExactEngine(background).search(snapshot, request) for request in asked]) >= 0.99


def test_an_older_snapshot_never_shows_newer_rows(background: Background) -> None:
    columns = columns_of(1000)
    older = columns.snapshot(1)
    add(columns, 1000, start=1000)
    engine = FaissEngine(background)
    engine.seal(columns.snapshot(2))
    for request in requests(10):
        ranked = engine.search(older, request)
        assert ranked.exact
        assert (ranked.rows < 1000).all()


def test_lists_of_columns_that_were_compacted_away_are_not_used(background: Background) -> None:
    columns = columns_of(1000)
    engine = FaissEngine(background)
    engine.seal(columns.snapshot(1))
    columns.kill(np.arange(0, 1000, 2))
    columns.compact()
    snapshot = columns.snapshot(2)
    for request in requests(5):
        ranked = engine.search(snapshot, request)
        assert ranked.exact
        np.testing.assert_array_equal(ranked.rows, ExactEngine(background).search(snapshot, request).rows)


def test_lists_are_built_in_the_background_once_enough_rows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_engine, "TAIL_ROWS", 300)
    own = Background()
    columns = columns_of(1000)
    engine = FaissEngine(own)
    (request,) = requests(1)
    assert engine.search(columns.snapshot(1), request).exact
    own.drain()
    assert not engine.search(columns.snapshot(1), request).exact
    add(columns, 301, start=1000)
    engine.search(columns.snapshot(2), request)
    own.drain()
    assert engine._sealed is not None
    assert engine._sealed.rows == 1301
    own.close()
    assert len(engine.search(columns.snapshot(2), request).rows) == 10  # nothing is built any more, all is found
