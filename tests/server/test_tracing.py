"""Traces: one span a stage below the span of its call, which goes on with its caller's trace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from protos.glimpse.v1 import gallery_pb2, search_pb2
from server.application import Application
from server.settings import ConfigurationError, ServerSettings
from server.telemetry import STAGES
from server.tracing import Tracing, current
from tests.bundles import encoded, person
from tests.server.running import Running, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced(Running):
    """A server whose spans stay in memory."""

    spans = InMemorySpanExporter()

    def application_of(self, settings: ServerSettings) -> Application:
        return Application(settings, span_exporter=self.spans)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Traced]:
    with Traced(tmp_path_factory.mktemp("traced") / "data", model) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        yield running


def spans(server: Traced, name: str, count: int = 1) -> list[ReadableSpan]:
    """The spans of that name, once there are so many."""
    found: list[ReadableSpan] = []

    def there() -> bool:
        found[:] = [span for span in server.spans.get_finished_spans() if span.name == name]
        return len(found) >= count

    until(there)
    return found


@pytest.fixture
def server(traced: Traced) -> Traced:
    until(lambda: traced.metric("glimpse_inflight") == 0)
    traced.spans.clear()
    return traced


def test_search_has_a_span_a_stage_in_its_callers_trace(server: Traced) -> None:
    query = search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1)), purpose="secret")
    server.search.Search(query, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    (call,) = spans(server, "SearchService/Search")
    assert call.parent is not None
    assert f"{call.context.trace_id:032x}" == TRACE
    assert f"{call.parent.span_id:016x}" == PARENT
    assert call.attributes is not None
    assert call.attributes["rpc.method"] == "Search"
    assert call.attributes["rpc.response.status_code"] == "OK"
    for stage in STAGES:
        (span,) = spans(server, stage)
        assert span.parent is not None
        assert span.parent.span_id == call.context.span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 <= span.end_time - span.start_time < 60 * 10**9
    assert "secret" not in "".join(span.to_json() for span in server.spans.get_finished_spans())


def test_search_without_an_image_has_the_stage_that_it_took(server: Traced) -> None:
    server.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0"))
    spans(server, "SearchService/Search")
    assert {span.name for span in server.spans.get_finished_spans()} == {"SearchService/Search", "search"}


def test_each_image_of_a_batch_has_its_stages(server: Traced) -> None:
    items = [gallery_pb2.Item(item_id=f"new-{n}", image=encoded(person(n))) for n in range(3)]
    server.upsert("crowd", items)
    (call,) = spans(server, "GalleryService/Upsert")
    assert {span.parent.span_id for span in spans(server, "inference", 3) if span.parent} == {call.context.span_id}


def test_refusal_has_its_code_and_a_caller_who_is_not_sampled_no_span(server: Traced) -> None:
    query = search_pb2.SearchRequest(gallery="crowd", item_id="0-0")
    server.search.Search(query, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-00")])
    with pytest.raises(grpc.RpcError):
        server.search.Search(search_pb2.SearchRequest(gallery="nowhere", item_id="0-0"))
    (call,) = spans(server, "SearchService/Search")
    assert call.attributes is not None
    assert call.attributes["rpc.response.status_code"] == "NOT_FOUND"


def test_server_without_a_collector_has_no_traces(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model) as running:
        running.gallery("crowd")
        assert running.application._methods is not None
        assert running.application._methods._tracing is None

    async def outside() -> None:
        assert current() is None

    asyncio.run(outside())


def test_missing_opentelemetry_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[otel\]'"):
        Tracing("localhost:4317", 1.0, "0")
