"""The same answers whatever the number of cores: on one, the model's thread decodes and searches by itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.bundles import encoded, person
from tests.server.running import Running


@pytest.fixture(params=[1, 3])
def cores(
    request: pytest.FixtureRequest, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    monkeypatch.setattr("server.settings.available_cores", lambda: request.param)
    with Running(tmp_path / "data", model) as running:
        assert running.settings.cores == request.param
        running.gallery("crowd")
        running.crowd("crowd", 8)
        yield running


def test_many_callers_are_answered(cores: Running) -> None:
    def ask(k: int) -> str:
        request = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(k % 8, shot=5)))
        return str(cores.search.Search(request).matches[0].person_id)

    with ThreadPoolExecutor(16) as callers:
        assert list(callers.map(ask, range(64))) == [str(k % 8) for k in range(64)]


def test_stages_are_timed(cores: Running) -> None:
    request = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1)))
    timings = cores.search.Search(request).timings
    stages = [timings.decode, timings.preprocess, timings.queue, timings.inference, timings.search]
    assert all(stage.ToNanoseconds() > 0 for stage in stages)
    assert sum(stage.ToNanoseconds() for stage in stages) <= timings.total.ToNanoseconds()


def test_bad_images_fail_alone(cores: Running) -> None:
    answer = cores.search.Extract(search_pb2.ExtractRequest(images=[b"no", encoded(person(1)), b""]))
    assert [error.index for error in answer.errors] == [0, 2]
    items = [gallery_pb2.Item(item_id=str(k), image=b"no" if k % 2 else encoded(person(k))) for k in range(40)]
    results = cores.upsert("crowd", items).results
    assert [result.status.code != 0 for result in results] == [bool(k % 2) for k in range(40)]


def test_error_of_the_search_itself_reaches_the_caller(cores: Running) -> None:
    request = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1)), part_weights={"tail": 1})
    with pytest.raises(grpc.RpcError, match="unknown parts"):
        cores.search.Search(request)
    tracklet = search_pb2.Tracklet(images=[encoded(person(2)), b"no"])
    with pytest.raises(grpc.RpcError, match=r"tracklet.images\[1\]"):
        cores.search.Search(search_pb2.SearchRequest(gallery="crowd", tracklet=tracklet))
