"""Wrong items, batches, pages and deletions: what is wrong is refused by itself, what is right beside it is kept."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_FEATURES, GOOD_IMAGE, PEOPLE, Case, Serving, code_of, names

INVALID = "INVALID_ARGUMENT"
FACE = "\N{GRINNING FACE}"
Item = gallery_pb2.Item
ALL = ["page_size must be 1 to 1000 (0 means 100), got "]
TOKEN = ["is not one that ListItems gave out"]


def item(**fields: Any) -> gallery_pb2.Item:
    """An item that is right but for the given fields."""
    return Item(**{"item_id": "bad", "features": GOOD_FEATURES, **fields})


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


def nested(depth: int) -> Struct:
    """Objects within objects."""
    struct = Struct()
    for _ in range(depth):
        struct = Struct(fields={"a": Value(struct_value=struct)})
    return struct


def lists(depth: int) -> Struct:
    value = Value(number_value=1)
    for _ in range(depth):
        value = Value(list_value=ListValue(values=[value]))
    return Struct(fields={"a": value})


CONTROL = "holds control characters"
LONG = ["characters, at most 256 are allowed"]
DEEP = ["attributes may nest 16 levels deep at most"]
JSON = ["bytes as JSON, at most 16,384 are allowed"]

ITEMS: list[Case] = [
    ("nothing at all", Item(), INVALID, ["set image or features"]),
    ("no content", Item(item_id="bad"), INVALID, ["set image or features"]),
    ("an image of no bytes", Item(item_id="bad", image=b""), INVALID, ["image: ", "empty"]),
    ("features of nothing", Item(item_id="bad", features={}), INVALID, ["features.vectors has 0 bytes"]),
    ("no id", item(item_id=""), INVALID, ["item_id is empty: expected 1 to 256 characters"]),
    ("an id of 257 characters", item(item_id="x" * 257), INVALID, ["item_id has 257", *LONG]),
    ("an id of a million characters", item(item_id="x" * 1_000_000), INVALID, ["item_id has 1,000,000", *LONG]),
    ("an id of 257 faces", item(item_id=FACE * 257), INVALID, ["item_id has 257", *LONG]),
    ("an id with NUL", item(item_id="a\0b"), INVALID, [r"item_id 'a\x00b'", CONTROL]),
    ("an id with a line break", item(item_id="a\nb"), INVALID, [r"item_id 'a\nb'", CONTROL]),
    ("an id with an escape", item(item_id="\x1b[31mred"), INVALID, [r"'\x1b[31mred'", CONTROL]),
    ("an id with DEL", item(item_id="a\x7f"), INVALID, [r"'a\x7f'", CONTROL]),
    ("an id with a C1 control", item(item_id="a\x85b"), INVALID, [r"'a\x85b'", CONTROL]),
    ("a person of 257 characters", item(person_id="p" * 257), INVALID, ["person_id has 257", *LONG]),
    ("a person with NUL", item(person_id="\0"), INVALID, [r"person_id '\x00'", CONTROL]),
    ("a camera of 257 characters", item(camera_id="c" * 257), INVALID, ["camera_id has 257", *LONG]),
    ("a camera with a tab", item(camera_id="c\t1"), INVALID, [r"camera_id 'c\t1'", CONTROL]),
    ("a time in year 0", item(captured_at=at(-62_135_596_801)), INVALID, ["captured_at must lie in the years 1 to"]),
    ("a time in year 10000", item(captured_at=at(253_402_300_800)), INVALID, ["captured_at must lie in the years 1"]),
    ("the end of time", item(captured_at=at(2**63 - 1, 2**31 - 1)), INVALID, ["captured_at must lie in the years"]),
    ("negative nanos", item(captured_at=at(1, -1)), INVALID, ["captured_at", "-1 ns"]),
    ("an attribute NaN", item(attributes={"a": math.nan}), INVALID, ["attributes must hold finite numbers, got nan"]),
    ("an attribute infinite", item(attributes={"a": [1, math.inf]}), INVALID, ["must hold finite numbers, got inf"]),
    ("attributes 17 deep", item(attributes=nested(17)), INVALID, DEEP),
    ("attributes 30 deep", item(attributes=nested(30)), INVALID, DEEP),
    ("lists 40 deep", item(attributes=lists(40)), INVALID, DEEP),
    ("an attribute of 1 MB", item(attributes={"a": "x" * 1_000_000}), INVALID, ["take 1,000,008", *JSON]),
    ("an attribute name of 1 MB", item(attributes={"a" * 1_000_000: 1}), INVALID, JSON),
    ("20,000 attributes", item(attributes={f"a{n}": n for n in range(20_000)}), INVALID, JSON),
    ("a list of 20,000", item(attributes={"a": [None] * 20_000}), INVALID, JSON),
    ("16 KiB of faces", item(attributes={"a": FACE * 4095}), INVALID, JSON),
]


@pytest.mark.parametrize(("name", "bad", "code", "words"), ITEMS, ids=names(ITEMS))
def test_wrong_item_fails_alone(
    server: Serving, scratch: str, name: str, bad: gallery_pb2.Item, code: str, words: list[str]
) -> None:
    results = server.upsert([item(item_id="first"), bad, item(item_id="last")], scratch)
    assert [code_of(result.status) for result in results] == ["OK", code, "OK"]
    assert all(word in results[1].status.message for word in words), results[1].status.message
    server.check_sentence(results[1].status.message)
    assert results[1].item_id == bad.item_id[:256]
    assert [stored.item_id for stored in listed(server, scratch)] == ["first", "last"]


def listed(server: Serving, gallery: str) -> list[gallery_pb2.StoredItem]:
    return list(server.ask("ListItems", gallery_pb2.ListItemsRequest(gallery=gallery)).response.items)


def test_batch_of_wrong_items_only_stores_nothing_and_advances_nothing(server: Serving, scratch: str) -> None:
    request = gallery_pb2.UpsertRequest(gallery=scratch, items=[bad for _, bad, _, _ in ITEMS])
    (response,) = server.ask("Upsert", iter([request])).response
    assert {code_of(result.status) for result in response.results} == {INVALID}
    assert response.sequence == 0
    assert listed(server, scratch) == []


@pytest.mark.parametrize(
    "item_id",
    [
        " ",
        "../../etc/passwd",
        "a/b",
        "' OR 1=1 --",
        "%s%n",
        FACE * 256,
        "a\u202eb",
        "é",
        "e\u0301",
        "x" * 256,
    ],
)
def test_odd_item_id_is_kept_to_the_letter(server: Serving, scratch: str, item_id: str) -> None:
    (result,) = server.upsert([item(item_id=item_id, person_id=item_id, camera_id=item_id)], scratch)
    assert code_of(result.status) == "OK"
    found = server.ask("GetItem", gallery_pb2.GetItemRequest(gallery=scratch, item_id=item_id)).response
    assert found.item_id == found.person_id == found.camera_id == item_id
    search = search_pb2.SearchRequest(gallery=scratch, features=GOOD_FEATURES)
    assert [match.item_id for match in server.ask("Search", search).response.matches] == [item_id]


def test_full_batch_with_ninety_attributes_an_item_is_no_abuse(server: Serving, scratch: str) -> None:
    attributes = {f"attribute {n}": "x" * 30 for n in range(90)}
    items = [item(item_id=str(n), attributes=attributes, captured_at=at(n, 5)) for n in range(1000)]
    assert sum(each.ByteSize() for each in items) > 4 << 20
    assert {code_of(result.status) for result in server.upsert(items, scratch)} == {"OK"}


def test_last_of_equal_ids_in_a_batch_wins(server: Serving, scratch: str) -> None:
    twice = [item(item_id="same", person_id=str(n)) for n in range(1000)]
    assert {code_of(result.status) for result in server.upsert(twice, scratch)} == {"OK"}
    (stored,) = listed(server, scratch)
    assert (stored.person_id, stored.sequence) == ("999", 1)


def test_wrong_one_of_equal_ids_leaves_the_right_one(server: Serving, scratch: str) -> None:
    right, wrong = server.upsert([item(item_id="same"), item(item_id="same", person_id="\0")], scratch)
    assert (code_of(right.status), code_of(wrong.status)) == ("OK", INVALID)
    assert [stored.item_id for stored in listed(server, scratch)] == ["same"]


def empty_upsert(count: int, gallery: str = "crowd") -> gallery_pb2.UpsertRequest:
    return gallery_pb2.UpsertRequest(gallery=gallery, items=[Item()] * count)


BATCHES: list[Case] = [
    ("no items", empty_upsert(0), INVALID, ["a batch must hold 1 to 1000 items, got 0"]),
    ("1,001 items", empty_upsert(1001), INVALID, ["a batch must hold 1 to 1000 items, got 1001"]),
    ("100,000 items", empty_upsert(100_000), INVALID, ["a batch must hold 1 to 1000 items, got 100000"]),
    ("no gallery", empty_upsert(1, ""), "NOT_FOUND", ["no gallery ''; this server has"]),
    ("an unknown gallery", empty_upsert(1, "nowhere"), "NOT_FOUND", ["no gallery 'nowhere'"]),
    ("a gallery that climbs", empty_upsert(1, "../crowd"), "NOT_FOUND", ["no gallery '../crowd'"]),
    (
        "33 MiB",
        gallery_pb2.UpsertRequest(gallery="crowd", items=[Item(item_id="x", image=bytes(33 << 20))]),
        "RESOURCE_EXHAUSTED",
        ["larger than max"],
    ),
    (
        "a byte more than 32 MiB",
        gallery_pb2.UpsertRequest(gallery="crowd", items=[Item(item_id="x", image=bytes((32 << 20) - 19))]),
        "RESOURCE_EXHAUSTED",
        ["the message has 33,554,433 bytes; at most 33,554,432 bytes are accepted here"],
    ),
]


@pytest.mark.parametrize(("name", "request_", "code", "words"), BATCHES, ids=names(BATCHES))
def test_wrong_batch_ends_the_stream_and_leaves_what_was_acknowledged(
    server: Serving, scratch: str, name: str, request_: gallery_pb2.UpsertRequest, code: str, words: list[str]
) -> None:
    server.check_refused(server.ask("Upsert", iter([request_])), code, words)
    good = gallery_pb2.UpsertRequest(gallery=scratch, items=[item(item_id="kept")])
    after = gallery_pb2.UpsertRequest(gallery=scratch, items=[item(item_id="never read")])
    if request_.gallery:  # without a name it would go to the stream's gallery
        call = server.galleries.Upsert(iter([good, request_, after]))
        assert next(call).sequence == 1
        with pytest.raises(type(call)):
            next(call)
        assert call.code().name == code
        assert [stored.item_id for stored in listed(server, scratch)] == ["kept"]


def get(gallery: str = "crowd", item_id: str = "3-0") -> gallery_pb2.GetItemRequest:
    return gallery_pb2.GetItemRequest(gallery=gallery, item_id=item_id)


def update(**fields: Any) -> gallery_pb2.UpdateItemRequest:
    return gallery_pb2.UpdateItemRequest(**{"gallery": "crowd", "item_id": "3-0", **fields})


def page(size: int = 0, token: str = "", gallery: str = "crowd") -> gallery_pb2.ListItemsRequest:
    return gallery_pb2.ListItemsRequest(gallery=gallery, page_size=size, page_token=token)


def delete(**fields: Any) -> gallery_pb2.DeleteItemsRequest:
    return gallery_pb2.DeleteItemsRequest(**{"gallery": "crowd", **fields})


BOTH = delete(item_ids=["3-0"], filter=search_pb2.Filter(camera_ids=["c0"]))
NEITHER = ["give item_ids or a filter that is not empty; use DeleteGallery to remove everything"]

CALLS: list[tuple[str, str, Any, str, list[str]]] = [
    ("an unknown item", "GetItem", get(item_id="99-9"), "NOT_FOUND", ["gallery 'crowd' has no item '99-9'"]),
    ("an item without id", "GetItem", get(item_id=""), "NOT_FOUND", ["gallery 'crowd' has no item ''"]),
    ("an item with NUL", "GetItem", get(item_id="3-0\0"), "NOT_FOUND", [r"has no item '3-0\x00'"]),
    ("an item of 1 MB", "GetItem", get(item_id="x" * 1_000_000), "NOT_FOUND", ["has no item 'xxx"]),
    ("an item of an unknown gallery", "GetItem", get(gallery="nowhere"), "NOT_FOUND", ["no gallery 'nowhere'"]),
    ("an item of no gallery", "GetItem", get(gallery=""), "NOT_FOUND", ["no gallery ''"]),
    ("update an unknown item", "UpdateItem", update(item_id="99", person_id="p"), "NOT_FOUND", ["no item '99'"]),
    ("update in no gallery", "UpdateItem", update(gallery="", person_id="p"), "NOT_FOUND", ["no gallery ''"]),
    ("update nothing", "UpdateItem", update(), INVALID, ["set at least one of person_id, camera_id, captured_at"]),
    ("update to a long person", "UpdateItem", update(person_id="p" * 257), INVALID, ["person_id has 257", *LONG]),
    ("update to a NUL", "UpdateItem", update(camera_id="\0"), INVALID, [r"camera_id '\x00'", CONTROL]),
    ("update to the end of time", "UpdateItem", update(captured_at=at(2**62)), INVALID, ["years 1 to 9999"]),
    ("update to negative nanos", "UpdateItem", update(captured_at=at(0, -1)), INVALID, ["captured_at", "-1 ns"]),
    ("update to NaN", "UpdateItem", update(attributes={"a": math.nan}), INVALID, ["finite numbers, got nan"]),
    ("update to deep attributes", "UpdateItem", update(attributes=nested(17)), INVALID, DEEP),
    ("update to 1 MB", "UpdateItem", update(attributes={"a": "x" * 1_000_000}), INVALID, JSON),
    ("page_size -1", "ListItems", page(-1), INVALID, [*ALL, "got -1"]),
    ("page_size 1,001", "ListItems", page(1001), INVALID, [*ALL, "got 1001"]),
    ("page_size a thousand million", "ListItems", page(10**9), INVALID, [*ALL, "got 1000000000"]),
    ("page_size the smallest number", "ListItems", page(-(2**31)), INVALID, ALL),
    ("a token that is no base64", "ListItems", page(token="!!!"), INVALID, ["page_token '!!!'", *TOKEN]),
    ("a token cut short", "ListItems", page(token="My0"), INVALID, TOKEN),
    ("a token that is no text", "ListItems", page(token=base64.b64encode(b"\xff\xfe").decode()), INVALID, TOKEN),
    ("a token in Arabic", "ListItems", page(token="بوابة"), INVALID, TOKEN),
    ("a token of control characters", "ListItems", page(token="\0\x1b"), INVALID, [r"'\x00\x1b'", *TOKEN]),
    ("a token of 1 MB", "ListItems", page(token="!" * 1_000_000), INVALID, TOKEN),
    ("a page of no gallery", "ListItems", page(gallery=""), "NOT_FOUND", ["no gallery ''"]),
    ("delete nothing", "DeleteItems", delete(), INVALID, NEITHER),
    ("delete by an empty filter", "DeleteItems", delete(filter={}), INVALID, NEITHER),
    ("delete by both", "DeleteItems", BOTH, INVALID, ["give item_ids or a filter, not both"]),
    ("delete in no gallery", "DeleteItems", delete(gallery="", item_ids=["x"]), "NOT_FOUND", ["no gallery ''"]),
]


@pytest.mark.parametrize(("name", "method", "request_", "code", "words"), CALLS, ids=[case[0] for case in CALLS])
def test_wrong_call_about_items_is_refused_and_changes_nothing(
    server: Serving, name: str, method: str, request_: Any, code: str, words: list[str]
) -> None:
    before = server.ask("GetItem", get()).response
    server.check_refused(server.ask(method, request_), code, words)
    assert server.ask("GetItem", get()).response == before
    assert len(listed(server, "crowd")) == 2 * PEOPLE


def test_deleting_unknown_ids_is_no_error(server: Serving) -> None:
    unknown = ["", "\0", "x" * 100_000, "nobody", *(f"unknown-{n}" for n in range(50_000))]
    before = server.ask("GetGallery", gallery_pb2.GetGalleryRequest(gallery="crowd")).response
    answer = server.ask("DeleteItems", delete(item_ids=unknown)).response
    assert (answer.deleted, answer.sequence) == (0, before.sequence)


def test_page_token_of_an_item_that_never_was_goes_on_after_it(server: Serving) -> None:
    token = base64.urlsafe_b64encode(b"3-0zzz").decode()
    assert server.ask("ListItems", page(1, token)).response.items[0].item_id == "3-1"
    last = base64.urlsafe_b64encode("\U0010ffff".encode()).decode()
    answer = server.ask("ListItems", page(1, last)).response
    assert (len(answer.items), answer.next_page_token) == (0, "")


@pytest.mark.parametrize(
    "make",
    [
        lambda n: item(item_id="x" * 300_000),
        lambda n: Item(item_id=str(n), image=b"x" * 40_000),
        lambda n: item(item_id=str(n), attributes={"a" * 40_000: 1}),
        lambda n: item(item_id=str(n), person_id="p" * 40_000),
    ],
    ids=["ids", "images", "attributes", "people"],
)
def test_large_batches_refused_over_and_over_leave_nothing_behind(
    server: Serving, make: Callable[[int], gallery_pb2.Item]
) -> None:
    count = (30 << 20) // make(0).ByteSize()
    items = [make(n) for n in range(count)]
    for _ in range(4):
        assert {code_of(result.status) for result in server.upsert(items)} == {INVALID}
    server.check_memory()


def test_streams_that_end_with_a_large_refused_batch_leave_nothing_behind(server: Serving) -> None:
    request = gallery_pb2.UpsertRequest(gallery="nowhere", items=[Item(item_id="x", image=bytes(30 << 20))])
    for _ in range(12):
        assert server.ask("Upsert", iter([request])).code == "NOT_FOUND"
    server.check_memory()


def test_image_items_in_many_streams_at_once_are_all_answered(server: Serving, scratch: str) -> None:
    """Every stream has more images than the server takes at once, and good ones beside bad ones."""
    calls = []
    for stream in range(8):
        batch = [Item(item_id=f"{stream}-{n}", image=GOOD_IMAGE if n % 2 else GOOD_IMAGE[: 30 + n]) for n in range(60)]
        calls.append(server.galleries.Upsert(iter([gallery_pb2.UpsertRequest(gallery=scratch, items=batch)])))
    for call in calls:
        (response,) = call
        assert [code_of(result.status) for result in response.results] == [INVALID, "OK"] * 30
    report = server.ask("GetGallery", gallery_pb2.GetGalleryRequest(gallery=scratch)).response
    assert (report.items, report.sequence) == (240, 8)
