"""A server and callers who ask too much of it: silent streams, unread answers, no room, a model that hangs."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from protos.glimpse.v1 import gallery_pb2, search_pb2, search_pb2_grpc
from server.fairness import Clients
from server.interceptors import together
from tests.bundles import SCHEMA, encoded, person
from tests.server.held import HeldSession
from tests.server.running import Running, detail, random_features, until, wire_features

BY_ITEM = search_pb2.SearchRequest(gallery="crowd", item_id="0-0", top_k=1)


class Silent:
    """A stream of requests that goes on until it is closed."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._requests.get, None)

    def send(self, request: Any) -> None:
        self._requests.put(request)

    def close(self) -> None:
        self._requests.put(None)


def test_silent_streams_of_one_client_leave_room_and_make_room_again(server: Running) -> None:
    methods: Any = server.application._methods
    before, methods._clients = methods._clients, Clients(calls=64, streams=8)
    try:
        silent = [Silent() for _ in range(4)]
        streams = [server.search.SearchStream(iter(requests)) for requests in silent]
        until(lambda: methods._clients._totals["streams"] == 4)
        with pytest.raises(grpc.RpcError, match="this client has 4 of the server's 8 streams") as error:
            list(server.search.SearchStream(iter([BY_ITEM])))
        assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        assert detail(error.value, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
        assert server.search.Search(BY_ITEM).matches
        for requests in silent:
            requests.close()
        assert [list(stream) for stream in streams] == [[]] * 4
        until(lambda: methods._clients.active == 0)
        assert len(list(server.search.SearchStream(iter([BY_ITEM])))) == 1
    finally:
        methods._clients = before


def test_stream_that_says_nothing_is_ended(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model, stream_idle_seconds=1) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        silent = Silent()
        stream = running.search.SearchStream(iter(silent))
        silent.send(BY_ITEM)
        assert next(stream).matches
        with pytest.raises(grpc.RpcError, match="no request came on this stream for 1 s") as error:
            next(stream)
        assert error.value.code() == StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
        silent.close()


def test_caller_who_does_not_read_is_ended_and_others_are_answered(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model, send_seconds=0.2) as running:
        running.gallery("crowd")
        rows = random_features(SCHEMA, 1000)
        for part in range(5):
            items = [
                gallery_pb2.Item(item_id=f"{part}-{row}", features=wire_features(rows[row : row + 1]))
                for row in range(len(rows))
            ]
            running.upsert("crowd", items)
        everything = search_pb2.SearchRequest(gallery="crowd", item_id="0-0", explain=True)
        # A caller with room for 64 KiB: gRPC would let it grow to more than the whole answer.
        narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
        with grpc.insecure_channel(running.address, options=narrow) as channel:
            unread = search_pb2_grpc.SearchServiceStub(channel).SearchAll(everything)
            ended = {"method": "SearchService/SearchAll", "code": "CANCELLED"}
            until(lambda: running.metric("glimpse_requests_total", **ended))
            assert running.metric("glimpse_inflight") == 0
            assert running.search.Search(BY_ITEM).matches
            unread.cancel()


def test_full_quota_refuses_writes_while_searches_go_on_and_deletes_make_room(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        quotas: Any = running.application._methods._quotas  # type: ignore[union-attr]
        quotas.disk_bytes = 1
        item = gallery_pb2.Item(item_id="new", image=encoded(person(1)))
        for write in (
            lambda: running.upsert("crowd", [item]),
            lambda: running.gallery("another"),
            lambda: running.galleries.UpdateItem(
                gallery_pb2.UpdateItemRequest(gallery="crowd", item_id="0-0", person_id="x")
            ),
        ):
            with pytest.raises(grpc.RpcError, match="writes are refused, searches go on") as error:
                write()
            assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
            assert detail(error.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0
        assert running.search.Search(BY_ITEM).matches
        assert running.status() == "SERVING"
        delete = gallery_pb2.DeleteItemsRequest(gallery="crowd", item_ids=["1-1"])
        assert running.galleries.DeleteItems(delete).deleted == 1
        quotas.disk_bytes = quotas.used() + (1 << 30)
        assert running.upsert("crowd", [item]).results[0].status.code == 0


def test_model_that_hangs_turns_health_off_until_it_comes_back(tmp_path: Path, model: Path) -> None:
    held = HeldSession()
    with Running(tmp_path / "data", model, open_model=held.open, model_patience=1) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        query = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1)))
        held.gate.clear()
        with pytest.raises(grpc.RpcError, match="the model has not answered for 1 s") as error:
            running.search.Search(query)
        assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        until(lambda: running.status() == "NOT_SERVING")
        with pytest.raises(grpc.RpcError, match="it is being waited for"):
            running.search.Search(query)
        assert running.search.Search(BY_ITEM).matches  # what needs no model still works
        held.gate.set()
        until(lambda: running.status() == "SERVING")
        assert running.search.Search(query).matches


def test_refusals_of_a_moment_are_one_line_that_counts_them() -> None:
    def line(code: str, port: int, method: str = "SearchService/Search") -> tuple[float, dict[str, Any]]:
        return float(port), {"method": method, "code": code, "peer": f"ipv4:10.0.0.7:{port}"}

    full = "RESOURCE_EXHAUSTED"
    lines = [line(full, 1), line("OK", 2), line(full, 3), line(full, 4), line(full, 5, "SearchService/Extract")]
    told = [(moment, fields["code"], fields.get("calls")) for moment, fields in together(lines)]
    assert told == [(1, full, 3), (2, "OK", None), (5, full, None)]
