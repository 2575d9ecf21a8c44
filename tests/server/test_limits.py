"""What keeps a busy or ill-treated server answering: queue, deadlines, sizes, metadata, malformed calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from protos.glimpse.v1 import search_pb2
from tests.bundles import encoded, person
from tests.server.held import HeldSession
from tests.server.running import Running, detail, until

SEARCH = "/glimpse.v1.SearchService/Search"


@pytest.fixture
def held() -> HeldSession:
    return HeldSession()


@pytest.fixture
def busy(tmp_path: Path, model: Path, held: HeldSession) -> Iterator[Running]:
    """A server with a short queue whose model the test can hold."""
    with Running(tmp_path / "data", model, open_model=held.open, queue_limit=2, max_batch=4) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        while held.entered.acquire(blocking=False):
            pass
        held.gate.clear()
        held.sizes.clear()
        yield running
        held.gate.set()


def request(identity: int = 1) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(identity)))


def test_full_queue_answers_at_once_and_says_when_to_come_back(busy: Running, held: HeldSession) -> None:
    running = busy.search.Search.future(request())
    assert held.entered.acquire(timeout=20)
    waiting = [busy.search.Search.future(request()) for _ in range(2)]
    until(lambda: busy.application.floor.batcher.depth == 2)
    with pytest.raises(grpc.RpcError, match="2 images wait for the model") as error:
        busy.search.Search(request())
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    assert detail(error.value, error_details_pb2.RetryInfo).retry_delay.ToNanoseconds() > 0
    assert busy.metric("glimpse_queue_rejected_total", reason="full") == 1
    # a search without an image needs no model, and health answers whatever the model does
    by_item = search_pb2.SearchRequest(gallery="crowd", item_id="0-0", top_k=1)
    assert busy.search.Search(by_item).matches[0].item_id == "0-1"
    assert busy.status() == "SERVING"
    held.gate.set()
    assert all(future.result(60).matches for future in (running, *waiting))


def test_waiting_images_go_through_together(busy: Running, held: HeldSession) -> None:
    first = busy.search.Search.future(request())
    assert held.entered.acquire(timeout=20)
    rest = [busy.search.Search.future(request(identity)) for identity in (0, 1)]
    line = busy.application.floor.batcher._line
    until(lambda: len(line._urgent) == 2)  # both are decoded, where a pool does that
    held.gate.set()
    assert [future.result(60).matches[0].person_id for future in (first, *rest)] == ["1", "0", "1"]
    assert held.sizes == [1, 2]
    assert busy.metric("glimpse_batch_size_count") == busy.application.telemetry.batches


def test_call_past_its_deadline_is_dropped_before_the_model(busy: Running, held: HeldSession) -> None:
    running = busy.search.Search.future(request())
    assert held.entered.acquire(timeout=20)
    with pytest.raises(grpc.RpcError) as error:
        busy.search.Search(request(), timeout=0.2)
    assert error.value.code() == StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    held.gate.set()
    assert running.result(60).matches
    assert held.sizes == [1]
    reasons = ("deadline", "cancelled")  # whichever is noticed first
    until(lambda: sum(busy.metric("glimpse_queue_rejected_total", reason=each) or 0 for each in reasons) == 1)
    assert busy.application.floor.batcher.depth == 0


def test_call_that_was_cancelled_is_dropped_before_the_model(busy: Running, held: HeldSession) -> None:
    running = busy.search.Search.future(request())
    assert held.entered.acquire(timeout=20)
    gone = busy.search.Search.future(request())
    until(lambda: busy.application.floor.batcher.depth == 1)
    gone.cancel()
    until(lambda: busy.metric("glimpse_requests_total", method="SearchService/Search", code="CANCELLED"))
    held.gate.set()
    assert running.result(60).matches
    assert busy.search.Search(request()).matches
    assert held.sizes == [1, 1]
    assert busy.metric("glimpse_queue_rejected_total", reason="cancelled") == 1


def test_dead_worker_turns_health_off_and_is_told_to_callers(busy: Running, held: HeldSession) -> None:
    assert busy.status("glimpse.v1.SearchService") == "SERVING"
    assert busy.metric("glimpse_worker_alive") == 1
    held.broken = True
    held.gate.set()
    with pytest.raises(grpc.RpcError, match="worker of this server died") as error:
        busy.search.Search(request())
    assert error.value.code() == StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    watch = busy.health.Watch(health_pb2.HealthCheckRequest())
    assert any(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING for answer in watch)
    watch.cancel()
    assert busy.status("glimpse.v1.SearchService") == "NOT_SERVING"
    assert busy.metric("glimpse_worker_alive") == 0
    # what needs no model still works
    assert busy.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0")).matches


def test_request_over_4_mib_is_refused(server: Running) -> None:
    big = search_pb2.SearchRequest(gallery="crowd", query_image=bytes(4 << 20))
    with pytest.raises(grpc.RpcError, match="4,194,304 bytes are accepted") as error:
        server.search.Search(big)
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]


def test_many_metadata_keys_are_refused(server: Running) -> None:
    metadata = [(f"key-{index}", "value") for index in range(200)]
    with pytest.raises(grpc.RpcError) as error:
        server.search.Search(request(), metadata=metadata)
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as error:
        server.search.Search(request(), metadata=[(f"key-{index}", "value") for index in range(10_000)])
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    assert server.search.Search(request(), metadata=metadata[:20]).matches


def test_bytes_that_are_no_message_are_refused_without_a_word_of_python(server: Running) -> None:
    raw = server.channel.unary_unary(SEARCH)
    with pytest.raises(grpc.RpcError) as error:
        raw(b"\xff\xff\xff\xff")
    assert error.value.code() == StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert error.value.details() == (  # type: ignore[attr-defined]
        "the request is not a well-formed glimpse.v1.SearchRequest message"
    )


def test_unknown_method_is_unimplemented(server: Running) -> None:
    for method in ("/glimpse.v1.SearchService/Guess", "/other.Service/Method"):
        with pytest.raises(grpc.RpcError, match="there is no method") as error:
            server.channel.unary_unary(method)(b"")
        assert error.value.code() == StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_bug_is_internal_with_a_fixed_sentence_and_a_logged_trace(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("secret path /srv/faces")

    monkeypatch.setattr(server.application.floor.catalog, "get", broken)
    with pytest.raises(grpc.RpcError) as error:
        server.search.Search(request())
    assert error.value.code() == StatusCode.INTERNAL  # type: ignore[attr-defined]
    assert error.value.details() == "the server failed on this request; its log says why"  # type: ignore[attr-defined]
    (answer,) = server.search.SearchStream(iter([request()]))
    assert answer.error.message == error.value.details()  # type: ignore[attr-defined]
    traces = [record for record in caplog.records if record.exc_info]
    assert any("secret path" in str(record.exc_info[1]) for record in traces if record.exc_info)


def test_long_refusal_still_fits_the_trailers(server: Running) -> None:
    weights = {f"part-{index}-ü": 1.0 for index in range(2000)}
    with pytest.raises(grpc.RpcError, match="unknown parts") as error:
        server.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0", part_weights=weights))
    assert error.value.code() == StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_sixteen_callers_are_all_answered(server: Running) -> None:
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda k: server.search.Search(request(k % 12)), range(160)))
    assert [answer.matches[0].person_id for answer in answers] == [str(k % 12) for k in range(160)]


def test_calls_beyond_the_limit_are_refused_but_health_answers(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.application._methods._clients._limits, "calls", 0)  # type: ignore[union-attr]
    with pytest.raises(grpc.RpcError, match="0 calls are being answered, which is the limit") as error:
        server.search.Search(request())
    assert error.value.code() == StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
    assert server.status() == "SERVING"


@pytest.mark.parametrize("cores", [1, 3])
def test_searches_of_one_batch_get_what_they_would_get_alone(
    tmp_path: Path, model: Path, held: HeldSession, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr("server.settings.available_cores", lambda: cores)
    with Running(tmp_path / "data", model, open_model=held.open, max_batch=16) as running:
        for name, people in (("crowd", 6), ("few", 2)):
            running.gallery(name)
            running.crowd(name, people)
        asked = [
            search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(4, shot=8))),
            search_pb2.SearchRequest(gallery="few", query_image=encoded(person(1, shot=8)), explain=True),
            search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(2, shot=8)), top_k=1),
            search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(3)), filter={"camera_ids": ["cam1"]}),
            search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(5)), mode="FAST"),
            search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(0)), part_weights={"legs": 1}),
        ]
        alone = [running.search.Search(each) for each in asked]
        while held.entered.acquire(blocking=False):
            pass
        held.gate.clear()
        first = running.search.Search.future(request())
        assert held.entered.acquire(timeout=20)
        together = [running.search.Search.future(each) for each in asked]
        line = running.application.floor.batcher._line
        until(lambda: len(line._urgent) == len(asked))  # all are decoded, where a pool does that
        held.gate.set()
        assert first.result(60).matches
        answers = [future.result(60) for future in together]
        assert held.sizes[-1] == len(asked)
        for one, other in zip(alone, answers, strict=True):
            assert one.matches
            assert [match.item_id for match in other.matches] == [match.item_id for match in one.matches]
            distances = [match.distance for match in one.matches]
            assert [match.distance for match in other.matches] == pytest.approx(distances, abs=1e-5)
            assert [len(match.parts) for match in other.matches] == [len(match.parts) for match in one.matches]
            assert (other.model, other.gallery_sequence) == (one.model, one.gallery_sequence)
