"""Searches by features or items that wait for a thread are answered together, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from protos.glimpse.v1 import search_pb2
from server.errors import ServerError
from server.galleries.gallery import Gallery
from server.galleries.ranking import Ranking
from server.galleries.searching import Asked
from tests.server.running import Running, until


def test_searches_that_wait_for_the_only_thread_are_ranked_in_one_pass(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    entered, released = threading.Event(), threading.Event()
    ranked = Gallery.search_together

    def held(self: Gallery, asked: Sequence[Asked]) -> list[Ranking | ServerError]:
        sizes.append(len(asked))
        entered.set()
        assert released.wait(30)
        return ranked(self, asked)

    with Running(tmp_path / "data", model, search_workers=1) as server:
        server.gallery("crowd")
        server.crowd("crowd", 6)
        monkeypatch.setattr(Gallery, "search_together", held)
        asked = [search_pb2.SearchRequest(gallery="crowd", item_id=f"{person}-0", top_k=1) for person in range(5)]
        calls = [server.search.Search.future(asked[0])]
        assert entered.wait(30)
        calls += [server.search.Search.future(request) for request in asked[1:]]
        gone = server.search.Search.future(asked[1])
        until(lambda: server.metric("glimpse_inflight") == len(calls) + 1)
        gone.cancel()
        until(lambda: server.metric("glimpse_inflight") == len(calls))
        released.set()
        for person, call in enumerate(calls):
            (match,) = call.result().matches
            assert match.person_id == str(person)
    assert len(sizes) < len(calls)
    assert sum(sizes) == len(calls)  # not the one that left
