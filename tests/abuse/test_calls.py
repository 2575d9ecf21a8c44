"""Calls that are broken off: streams with bad requests in them, cancelled and late calls, callers that vanish."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2, search_pb2_grpc
from tests.abuse.inputs import malformed_images
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, Serving, code_of
from tests.bundles import encoded, person

STREAM = "/glimpse.v1.SearchService/SearchStream"


def search(identity: int) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(identity, shot=5)), top_k=1)


BAD: list[tuple[bytes, str, str]] = [
    *(
        (search_pb2.SearchRequest(gallery="crowd", query_image=image).SerializeToString(), "INVALID_ARGUMENT", "query")
        for image in list(malformed_images().values())[::10]
    ),
    (b"\xff\xff\xff\xff", "INVALID_ARGUMENT", "not a well-formed"),
    (search(1).SerializeToString()[:-5], "INVALID_ARGUMENT", "not a well-formed"),
    (b"", "NOT_FOUND", "no gallery ''"),
    (b"\x0a\x05crowd", "INVALID_ARGUMENT", "set one of query_image"),
    (b"\x0a\x05crowd\x12\x80\x80\x80\x02" + bytes(4 << 20), "RESOURCE_EXHAUSTED", "at most 4,194,304 bytes"),
    (b"\x0a\x05crowd" + b"\x42\0" * 600_000, "RESOURCE_EXHAUSTED", "more than 400,000 fields"),
    (search_pb2.SearchRequest(gallery="foreign", query_image=b"x").SerializeToString(), "FAILED_PRECONDITION", "other"),
    (search_pb2.SearchRequest(gallery="strict", item_id="x").SerializeToString(), "INVALID_ARGUMENT", "purpose"),
    (search_pb2.SearchRequest(gallery="crowd", item_id="x", top_k=-1).SerializeToString(), "INVALID_ARGUMENT", "top_k"),
]


def test_stream_lives_on_when_every_second_request_is_bad(server: Serving) -> None:
    requests = [data for n, (bad, _, _) in enumerate(BAD * 2) for data in (search(n % 12).SerializeToString(), bad)]
    answers = [search_pb2.SearchResponse.FromString(data) for data in server.raw(STREAM, *requests).response]
    assert len(answers) == len(requests)
    for n, (good, bad, (_, code, words)) in enumerate(zip(answers[::2], answers[1::2], BAD * 2, strict=True)):
        assert not good.HasField("error")
        assert [match.person_id for match in good.matches] == [str(n % 12)]
        assert code_of(bad.error) == code
        assert words in bad.error.message
        server.check_sentence(bad.error.message)
        assert not bad.matches


def test_stream_of_bad_requests_only_ends_well(server: Serving) -> None:
    answer = server.raw(STREAM, *[bad for bad, _, _ in BAD] * 5)
    assert answer.code == "OK"
    assert len(answer.response) == 5 * len(BAD)


@pytest.mark.parametrize("method", ["Upsert", "SearchStream"])
def test_stream_that_says_nothing_ends_well(server: Serving, method: str) -> None:
    answer = server.ask(method, iter([]))
    assert (answer.code, answer.response) == ("OK", [])


def test_batch_sent_before_the_client_closed_its_half_is_answered(server: Serving, scratch: str) -> None:
    items = [gallery_pb2.Item(item_id=str(n), image=GOOD_IMAGE) for n in range(100)]
    requests = [gallery_pb2.UpsertRequest(gallery=scratch, items=items)] * 3
    answer = server.ask("Upsert", iter(requests))
    assert [response.sequence for response in answer.response] == [1, 2, 3]


def test_later_requests_of_a_stream_need_not_name_the_gallery_and_may_name_another(
    server: Serving, scratch: str
) -> None:
    item = gallery_pb2.Item(item_id="x", features=GOOD_FEATURES)
    names = [scratch, "", "strict", ""]
    requests = [gallery_pb2.UpsertRequest(gallery=name, items=[item]) for name in names]
    before = server.ask("GetGallery", gallery_pb2.GetGalleryRequest(gallery="strict")).response.sequence
    answer = server.ask("Upsert", iter(requests))
    assert [response.sequence for response in answer.response] == [1, 2, before + 1, before + 2]
    assert server.ask("DeleteItems", gallery_pb2.DeleteItemsRequest(gallery="strict", item_ids=["x"])).code == "OK"


def held_open(*requests: Any) -> tuple[Iterator[Any], threading.Event]:
    """Requests, then silence until the event is set."""
    done = threading.Event()

    def send() -> Iterator[Any]:
        yield from requests
        done.wait(60)

    return send(), done


def settle(server: Serving) -> None:
    """Nothing waits for the model any more."""
    patience = time.monotonic() + 20
    while (depth := server.admin.GetStats(admin_pb2.GetStatsRequest()).queue_depth) and time.monotonic() < patience:
        time.sleep(0.01)
    assert depth == 0


def test_hundreds_of_silent_streams_keep_nobody_else_waiting(server: Serving) -> None:
    held = [held_open() for _ in range(60)]
    calls = [server.galleries.Upsert(requests) for requests, _ in held[::2]]
    calls += [server.searches.SearchStream(requests) for requests, _ in held[1::2]]
    server.check_unharmed()
    for _, done in held[:20]:
        done.set()
    for call in calls:
        call.cancel()
    for _, done in held:
        done.set()
    settle(server)


def test_client_that_cancels_in_the_middle_of_a_stream_leaves_whole_batches_only(server: Serving, scratch: str) -> None:
    chance = random.Random(0)
    for stream in range(25):
        items = [gallery_pb2.Item(item_id=f"{stream}-{n}", image=GOOD_IMAGE) for n in range(20)]
        requests, done = held_open(*[gallery_pb2.UpsertRequest(gallery=scratch, items=items)] * 5)
        call = server.galleries.Upsert(requests)
        time.sleep(chance.uniform(0, 0.03))
        call.cancel()
        done.set()
    settle(server)
    search_call = server.searches.SearchStream(iter([search(1)] * 200))
    next(search_call)
    search_call.cancel()
    settle(server)
    request = gallery_pb2.ListItemsRequest(gallery=scratch, page_size=1000)
    stored = [item.item_id for item in server.ask("ListItems", request).response.items]
    streams = {item_id.split("-")[0] for item_id in stored}
    assert len(stored) == 20 * len(streams)


def test_reader_that_leaves_a_whole_ranking_after_its_first_page_harms_nobody(server: Serving) -> None:
    for _ in range(50):
        call = server.searches.SearchAll(search(1))
        next(call)
        call.cancel()
    settle(server)


def test_calls_past_their_deadline_end_so_and_nothing_is_left_waiting(server: Serving) -> None:
    chance = random.Random(0)
    calls = [server.searches.Search.future(search(n % 12), timeout=chance.uniform(0, 0.004)) for n in range(500)]
    codes = {call.code().name for call in calls}
    assert "DEADLINE_EXCEEDED" in codes
    assert codes <= {"OK", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED"}
    settle(server)


def test_deadline_of_a_millisecond_is_no_error_of_the_server(server: Serving) -> None:
    images = search_pb2.ExtractRequest(images=[GOOD_IMAGE] * 64)
    for _ in range(20):
        # RESOURCE_EXHAUSTED: images that wait for the calls before are refused when they would come too late.
        extracted = server.ask("Extract", images, timeout=0.001).code
        assert extracted in ("OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
        items = [gallery_pb2.Item(item_id="x", image=b"x")] * 100
        requests = iter([gallery_pb2.UpsertRequest(gallery="crowd", items=items)])
        assert server.ask("Upsert", requests, timeout=0.001).code in ("OK", "DEADLINE_EXCEEDED")
    settle(server)


def test_callers_that_vanish_harm_nobody(server: Serving) -> None:
    for _ in range(10):
        channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        stub = search_pb2_grpc.SearchServiceStub(channel)
        calls = [stub.Search.future(search(n)) for n in range(20)]
        calls[0].code()
        channel.close()
    settle(server)


def test_overload_is_refused_with_a_hint_and_passes(server: Serving) -> None:
    request = search_pb2.ExtractRequest(images=[GOOD_IMAGE] * 64)
    calls = [server.searches.Extract.future(request) for _ in range(60)]
    codes = [call.code().name for call in calls]
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert "OK" in codes
    for call in calls:
        if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert "images wait for the model" in call.details()
    settle(server)
