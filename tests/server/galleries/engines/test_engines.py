"""Both engines against the oracle: same items, same order, same distances, whatever is asked."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.parts import PartFeatures, PartSchema
from server.errors import FailedPrecondition
from server.galleries.background import Background
from server.galleries.columns import Columns, Snapshot
from server.galleries.engines import ENGINES, EngineSpec, open_engine
from server.galleries.engines import exact as exact_engine
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.exact import ExactEngine
from server.galleries.engines.kernels import products, tile
from server.galleries.engines.kernels import scan as scan_kernel
from server.galleries.engines.kernels.products import ByShorts
from server.galleries.engines.scoring import weighted_query
from server.galleries.items import make_batch
from tests.server.galleries.generated import make_items, oracle_ranking, random_features, random_schema


class Case:
    """A random gallery with replaced and deleted items, and a random question."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.schema: PartSchema = random_schema(rng)
        self.columns = Columns(self.schema)
        self.live: dict[str, tuple[PartFeatures, int]] = {}
        count = int(rng.integers(1, 48))
        self.write([f"i{n}" for n in rng.permutation(count)])
        self.sealable = self.columns.snapshot(1)
        self.write([f"i{n}" for n in rng.choice(2 * count, count // 3, replace=False)])
        self.delete(list(rng.permutation(list(self.live))[: count // 5]))
        self.snapshot: Snapshot = self.columns.snapshot(2)
        self.query = random_features(rng, self.schema, 1)
        if rng.random() < 0.3:  # an item asks for itself: distances of 0 that the clipping makes equal
            self.query = next(iter(self.live.values()))[0].stored()

    def write(self, ids: list[str]) -> None:
        features = random_features(self.rng, self.schema, len(ids))
        if ids:
            self.columns.extend(make_batch(make_items(features, ids), self.schema, 1, 0))
        self.live.update({item_id: (features[[i]], i) for i, item_id in enumerate(ids)})

    def delete(self, ids: list[str]) -> None:
        snapshot = self.columns.snapshot(0)
        self.columns.kill([snapshot.row_of(str(item_id)) for item_id in ids])
        for item_id in ids:
            del self.live[str(item_id)]

    def check(self, engine: ExactEngine) -> None:
        """Asks one random question and compares the ranking with the oracle's."""
        if self.live:
            request, expected = self.ask()
            self.compare(engine.search(self.snapshot, request), expected)

    def check_together(self, engine: ExactEngine, count: int) -> None:
        """Asks so many random questions at once and compares each ranking with the oracle's."""
        if self.live:
            asked = []
            for _ in range(count):
                self.query = random_features(self.rng, self.schema, 1)
                asked.append(self.ask())
            rankings = engine.search_together(self.snapshot, [request for request, _ in asked])
            assert len(rankings) == count
            for ranked, (_, expected) in zip(rankings, asked, strict=True):
                self.compare(ranked, expected)

    def ask(self) -> tuple[Request, list[tuple[str, float, float]]]:
        """A random question by the query, and its ranking by the oracle."""
        rng, snapshot = self.rng, self.snapshot
        weights = {}
        if rng.random() < 0.4:
            weights = {name: float(rng.choice([0.0, 0.2, 7.0])) for name in self.schema.names}
            weights[self.schema.names[int(rng.integers(len(self.schema)))]] = 1.0
        threshold = float(rng.choice([0.0, 0.0, 0.25, 0.5, 1.0]))
        top_k = [1, 3, 10, 200, None][int(rng.integers(5))]
        incomparable = bool(rng.random() < 0.5)
        allowed = snapshot.alive
        ids = list(self.live)
        if rng.random() < 0.6:
            allowed = allowed & (rng.random(snapshot.rows) < rng.random())
            ids = [item_id for item_id in ids if allowed[snapshot.row_of(item_id)]]
        query = weighted_query(self.query, self.schema, weights, threshold)
        features = PartFeatures.concatenate([self.query[:0], *(self.live[item_id][0] for item_id in ids)])
        expected = oracle_ranking(
            self.query,
            ids,
            features,
            top_k=top_k,
            include_incomparable=incomparable,
            part_weights=weights,
            min_joint_visibility=threshold,
        )
        return Request(query, allowed, top_k, incomparable), expected

    def compare(self, ranked: Ranked, expected: list[tuple[str, float, float]]) -> None:
        assert [self.snapshot.item_id(row) for row in ranked.rows] == [row[0] for row in expected]
        np.testing.assert_allclose(ranked.distance, [row[1] for row in expected], atol=1e-5)
        np.testing.assert_allclose(ranked.joint, [row[2] for row in expected], atol=1e-5)


@pytest.fixture(scope="module")
def background():
    background = Background()
    yield background
    background.close()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_exact_engine_ranks_as_the_oracle_does(background: Background, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_engine, "FEW_ROWS", 0)  # even a few rows are scanned
        Case(seed).check(ExactEngine(background))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 9), few=st.sampled_from([0, 64]), read=st.integers(0, 90))
def test_questions_asked_together_get_the_rankings_of_the_oracle_too(
    background: Background, seed: int, count: int, few: int, read: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_engine, "FEW_ROWS", few)  # 0: even a few rows are scanned
        patch.setattr(exact_engine, "READ_TOGETHER", read)
        Case(seed).check_together(ExactEngine(background), count)


@pytest.mark.parametrize("kind", ["avx2", "loops"])
def test_processors_that_know_less_get_the_rankings_of_the_oracle_too(background: Background, kind: str) -> None:
    if not scan_kernel.IN_TILES or (kind == "avx2" and not scan_kernel.COARSE):
        pytest.skip("this processor knows no more: the tests above ran so")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_kernel, "SHIFT", 0)
        patch.setattr(scan_kernel, "COARSE", False)
        patch.setattr(products, "COARSE", False)
        if kind == "avx2":
            patch.setattr(tile, "TOGETHER", ByShorts())
            patch.setattr(scan_kernel, "_multiply_in_tiles", numba.njit(scan_kernel._multiply_in_tiles.py_func))
        else:
            patch.setattr(tile, "TOGETHER", None)
            patch.setattr(tile, "ALONE", None)
            patch.setattr(scan_kernel, "IN_TILES", False)
            patch.setattr(scan_kernel, "IN_FOURS", False)
        plain: Any = scan_kernel.scan_block.py_func  # type: ignore[attr-defined]
        patch.setattr(scan_kernel, "scan_block", numba.njit(plain))
        patch.setattr(exact_engine, "FEW_ROWS", 0)
        for seed in range(40):
            Case(seed).check_together(ExactEngine(background), 3)
            Case(seed).check(ExactEngine(background))


def test_query_that_shares_no_part_finds_nothing_but_incomparable_items(background: Background) -> None:
    case = Case(5)
    hidden = case.query.visibility * 0
    query = PartFeatures.trusted(case.query.vectors * 0, hidden, case.schema)
    weighted = weighted_query(query, case.schema, {}, 0.0)
    engine = ExactEngine(background)
    assert len(engine.search(case.snapshot, Request(weighted, case.snapshot.alive, 10, False)).rows) == 0
    ranked = engine.search(case.snapshot, Request(weighted, case.snapshot.alive, None, True))
    assert [case.snapshot.item_id(row) for row in ranked.rows] == sorted(case.live)
    assert np.isnan(ranked.distance).all()


def test_unknown_engine_is_an_error_that_lists_the_choices(background: Background) -> None:
    with pytest.raises(ValueError, match=r"'hnsw'.*\['exact', 'fast'\]"):
        open_engine("hnsw", background)


def test_an_engine_whose_library_is_missing_says_which(background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "other", EngineSpec("a_library_nobody_has:Engine", "a test's"))
    with pytest.raises(FailedPrecondition, match="'other' needs the Python package 'a_library_nobody_has'"):
        open_engine("other", background)


@pytest.mark.parametrize("name", ENGINES)
def test_every_registered_engine_opens_and_ranks_an_empty_gallery(background: Background, name: str) -> None:
    case = Case(0)
    empty = Columns(case.schema).snapshot(0)
    query = weighted_query(case.query, case.schema, {}, 0.0)
    ranked = open_engine(name, background).search(empty, Request(query, None, 10, True))
    assert len(ranked.rows) == 0
    assert ranked.exact
