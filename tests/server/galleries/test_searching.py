"""Queries that are asked together."""

# The fixtures are imported by their names, and tests take them by those names.
# ruff: noqa: F401, F811

from __future__ import annotations

import numpy as np
import pytest

from server.errors import InvalidArgument, ServerError
from server.galleries.columns import Snapshot
from server.galleries.engines.base import Ranked, Request
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.searching import FAST_TOGETHER
from tests.server.galleries.generated import SCHEMA, make_items, random_features
from tests.server.galleries.test_gallery import catalog, gallery, rng


def test_queries_asked_together_are_answered_as_alone_and_a_wrong_one_fails_alone(
    gallery: Gallery, rng: np.random.Generator
) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 60), camera_id="c1"))
    gallery.upsert(make_items(random_features(rng, SCHEMA, 20), [f"late-{n}" for n in range(20)], camera_id="c2"))
    gallery.delete(item_ids=["item-00003"])
    options = [
        SearchOptions(),
        SearchOptions(top_k=3, filter=Filter(exclude=(Filter(camera_ids=("c2",)),))),
        SearchOptions(top_k=None, include_incomparable=True),
        SearchOptions(part_weights={"no such part": 1.0}),
        SearchOptions(mode="fast"),
        SearchOptions(min_joint_visibility=0.4, leave_out="late-7"),
    ]
    asked = [(random_features(rng, SCHEMA, 1), each) for each in options]
    answers = gallery.search_together(asked)
    assert isinstance(answers[3], InvalidArgument)
    assert "no such part" in str(answers[3])
    for (query, each), answer in zip(asked, answers, strict=True):
        if not isinstance(answer, InvalidArgument):
            assert not isinstance(answer, ServerError)
            alone = gallery.search(query, each)
            assert answer.item_ids() == alone.item_ids()
            np.testing.assert_array_equal(answer.distance, alone.distance)
            np.testing.assert_array_equal(answer.joint, alone.joint)
            assert answer.sequence == alone.sequence == 3
    assert gallery.search_together([]) == []


def test_many_fast_searches_at_once_are_answered_exactly(
    gallery: Gallery, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.upsert(make_items(random_features(rng, SCHEMA, 60)))
    asked_fast: list[Request] = []
    fast = gallery._searcher._fast

    class Counting:
        def search(self, snapshot: Snapshot, request: Request) -> Ranked:
            asked_fast.append(request)
            return fast.search(snapshot, request)

    monkeypatch.setattr(gallery._searcher, "_fast", Counting())
    queries = random_features(rng, SCHEMA, FAST_TOGETHER)
    asked = [(queries[row : row + 1], SearchOptions(mode="fast")) for row in range(len(queries))]
    few = gallery.search_together(asked[1:])
    assert len(asked_fast) == len(few)
    many = gallery.search_together(asked)
    assert len(asked_fast) == len(few)
    assert all(isinstance(answer, Ranking) and answer.exact for answer in many)
