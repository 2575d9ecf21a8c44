"""The fast engine: what it finds of the exact ranking, and that what it finds is true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from server.galleries.background import Background
from server.galleries.columns import Columns
from server.galleries.compact import compress
from server.galleries.engines import fast as fast_engine
from server.galleries.engines import scanning
from server.galleries.engines.base import Request
from server.galleries.engines.exact import ExactEngine
from server.galleries.engines.fast import FastEngine
from server.galleries.engines.kernels import pieces
from server.galleries.engines.kernels import sketch as sketch_kernel
from server.galleries.engines.scoring import weighted_query
from server.galleries.items import make_batch
from tests.server.galleries.generated import clustered_features, make_items

PEOPLE = PartSchema(
    (Part("global", 64, always_visible=True), Part("upper", 48), Part("legs", 32), Part("feet", 20)), prior=0.3
)


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    background = Background()
    yield background
    background.close()


@dataclass
class Sealed:
    """A block with compact codes."""

    block: Any
    compact: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)


class Gallery:
    """A snapshot whose first blocks are sealed."""

    def __init__(self, features: PartFeatures, sealed: int) -> None:
        columns = Columns(features.schema)
        for start in range(0, len(features), 1000):
            rows = features[start : start + 1000]
            ids = [f"i{n:05}" for n in range(start, start + len(rows))]
            columns.extend(make_batch(make_items(rows, ids), features.schema, 1, 0))
        self.snapshot = columns.snapshot(1)
        self.blocks: list[Any] = []
        for block, size in self.snapshot.pieces():
            if block.start < sealed:
                compact = compress(block.read(np.arange(size)), block.visibility[:, :size].T.copy(), features.schema)
                spare = block.capacity - size
                compact["codes"] = np.pad(compact["codes"], ((0, 0), (0, spare), (0, 0)))
                compact["factors"] = np.pad(compact["factors"], ((0, 0), (0, spare)))
                self.blocks.append((Sealed(block, compact), size))
            else:
                self.blocks.append((block, size))

    def pieces(self) -> Any:
        return iter(self.blocks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.snapshot, name)


def asked(count: int, threshold: float = 0.0, **fields: Any) -> list[Request]:
    queries = clustered_features(np.random.default_rng(9), PEOPLE, 400, count)
    known = {"allowed": None, "top_k": 10, "include_incomparable": False, **fields}
    return [Request(weighted_query(queries[[q]], PEOPLE, {}, threshold), **known) for q in range(count)]


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return Gallery(clustered_features(np.random.default_rng(1), PEOPLE, 400, 4000), 2500)


@pytest.mark.parametrize("fields", [{}, {"threshold": 0.1}, {"top_k": 30}])
def test_nearly_all_of_the_exact_ranking_is_found_and_nothing_false(
    background: Background, gallery: Any, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(fast_engine, "KEPT", 120)
    monkeypatch.setattr(fast_engine, "KEPT_FOR_EACH", 4)
    allowed = np.random.default_rng(2).random(4000) < 0.5
    found = expected = 0
    for request in (*asked(12, **fields), *asked(12, allowed=allowed, **fields)):
        fast = FastEngine(background).search(gallery, request)
        exact = ExactEngine(background).search(gallery, request)
        assert not fast.exact
        assert len(fast.rows) == len(exact.rows) == request.top_k
        if request.allowed is not None:
            assert allowed[fast.rows].all()
        found += len(np.intersect1d(fast.rows, exact.rows))
        expected += len(exact.rows)
        true, in_both = np.isin(exact.rows, fast.rows), np.isin(fast.rows, exact.rows)
        np.testing.assert_array_equal(fast.distance[in_both], exact.distance[true])
    assert found / expected >= 0.98


def test_rows_that_are_not_sealed_are_found_like_others(
    background: Background, gallery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_engine, "KEPT", 200)
    answers = [FastEngine(background).search(gallery, request) for request in asked(30)]
    assert not any(ranked.exact for ranked in answers)
    assert any((ranked.rows >= gallery.blocks[-1][0].start).any() for ranked in answers)


def test_without_sealed_rows_or_with_few_allowed_a_fast_search_is_exact(background: Background, gallery: Any) -> None:
    engine = FastEngine(background)
    few = np.zeros(4000, np.bool_)
    few[::100] = True
    assert all(engine.search(gallery, request).exact for request in asked(3, allowed=few))
    assert engine.search(gallery, asked(1, top_k=None)[0]).exact
    assert all(engine.search(gallery.snapshot, request).exact for request in asked(3))


def test_equal_rows_in_crowds_are_no_trouble(background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_engine, "KEPT", 50)
    monkeypatch.setattr(fast_engine, "KEPT_FOR_EACH", 1)
    one = clustered_features(np.random.default_rng(3), PEOPLE, 400, 1)
    crowd = PartFeatures.trusted(one.vectors.repeat(2000, axis=0), one.visibility.repeat(2000, axis=0), PEOPLE)
    gallery: Any = Gallery(crowd, 2000)
    ranked = FastEngine(background).search(gallery, Request(weighted_query(one, PEOPLE, {}, 0.0), None, 5, False))
    assert len(ranked.rows) == 5
    assert (ranked.distance == ranked.distance[0]).all()


@pytest.mark.parametrize("kind", ["avx2", "loops"])
def test_processors_that_know_less_choose_the_same(
    background: Background, gallery: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if not pieces.PIECES or (kind == "avx2" and not pieces.VNNI):
        pytest.skip("this processor knows no more: the other tests ran so")
    requests = asked(2)
    by_vectors = [np.sort(fast_engine._sketched(gallery, request, 10)) for request in requests]
    if kind == "avx2":
        monkeypatch.setattr(pieces, "VNNI", False)
        monkeypatch.setattr(pieces, "_BYTES", 32)
    else:
        monkeypatch.setattr(sketch_kernel, "PIECES", False)
    plain: Any = sketch_kernel.scan_compact.py_func  # type: ignore[attr-defined]
    monkeypatch.setattr(sketch_kernel, "scan_compact", numba.njit(plain))
    for request, rows in zip(requests, by_vectors, strict=True):
        others = fast_engine._sketched(gallery, request, 10)
        assert len(np.intersect1d(others, rows)) >= len(rows) - 2  # float32 sums in another order


def test_threads_that_share_a_search_find_what_one_finds(
    background: Background, gallery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "PIECE_ROWS", 700)
    for request in asked(4):
        alone, shared = (FastEngine(background, threads).search(gallery, request) for threads in (1, 3))
        np.testing.assert_array_equal(shared.rows, alone.rows)
        assert not shared.exact
