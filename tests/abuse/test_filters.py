"""Filters that contradict themselves, nest, or ask for too much: in searches, lists and deletions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.abuse.serving import PEOPLE, Case, Serving, names

Filter = search_pb2.Filter
INVALID = "INVALID_ARGUMENT"


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


def attributes(**values: Any) -> Filter:
    return Filter(attributes=Struct(fields={key: Value(**value) for key, value in values.items()}))


def nested(depth: int) -> Value:
    """Lists within lists."""
    value = Value(number_value=1)
    for _ in range(depth):
        value = Value(list_value=ListValue(values=[value]))
    return value


def excluded(depth: int) -> Filter:
    """Excludes within excludes."""
    entry = Filter(camera_ids=["c0"])
    for _ in range(depth):
        entry = Filter(camera_ids=["c0"], exclude=[entry])
    return entry


NOTHING = ["the filter can match nothing: captured_after must be earlier than captured_before"]
YEARS = ["must lie in the years 1 to 9999"]
NANOS = ["with 0 to 999999999 nanos"]
DEEP = ["filter.attributes may nest 16 levels deep at most"]
NUMBERS = ["filter.attributes must hold finite numbers, got "]
EMPTY = ["an empty entry of filter.exclude would remove every item"]

REFUSED: list[Case] = [
    ("after is before", Filter(captured_after=at(200), captured_before=at(100)), INVALID, NOTHING),
    ("no time between", Filter(captured_after=at(100), captured_before=at(100)), INVALID, NOTHING),
    (
        "less than a microsecond between",
        Filter(captured_after=at(100, 1), captured_before=at(100, 999)),
        INVALID,
        NOTHING,
    ),
    ("year 0", Filter(captured_after=at(-62_135_596_801)), INVALID, ["filter.captured_after", *YEARS]),
    ("year 10000", Filter(captured_before=at(253_402_300_800)), INVALID, ["filter.captured_before", *YEARS]),
    ("the end of time", Filter(captured_before=at(2**63 - 1)), INVALID, [*YEARS, "got 9223372036854775807 s"]),
    ("the beginning of time", Filter(captured_after=at(-(2**63))), INVALID, YEARS),
    ("negative nanos", Filter(captured_after=at(5, -1)), INVALID, [*NANOS, "-1 ns"]),
    ("too many nanos", Filter(captured_after=at(5, 1_000_000_000)), INVALID, NANOS),
    ("the most nanos", Filter(captured_after=at(5, 2**31 - 1)), INVALID, NANOS),
    ("an empty exclude", Filter(exclude=[Filter()]), INVALID, EMPTY),
    ("an exclude of empty attributes", Filter(exclude=[Filter(attributes={})]), INVALID, EMPTY),
    ("an empty exclude after a good one", Filter(exclude=[Filter(camera_ids=["x"]), Filter()]), INVALID, EMPTY),
    ("an exclude in an exclude", excluded(2), INVALID, ["entries of filter.exclude may not exclude further"]),
    ("excludes 50 deep", excluded(50), INVALID, ["entries of filter.exclude may not exclude further"]),
    (
        "a contradiction in an exclude",
        Filter(exclude=[Filter(captured_after=at(2), captured_before=at(1))]),
        INVALID,
        NOTHING,
    ),
    (
        "a time in an exclude",
        Filter(exclude=[Filter(captured_after=at(0, -5))]),
        INVALID,
        ["filter.exclude[0]", *NANOS],
    ),
    (
        "1,001 excludes",
        Filter(exclude=[Filter(camera_ids=["x"])] * 1001),
        INVALID,
        ["filter.exclude has 1,001 entries, at most 1,000 are allowed"],
    ),
    ("100,000 excludes", Filter(exclude=[Filter()] * 100_000), INVALID, ["filter.exclude has 100,000 entries"]),
    ("an attribute NaN", attributes(a={"number_value": math.nan}), INVALID, [*NUMBERS, "nan"]),
    ("an attribute infinite", attributes(a={"number_value": -math.inf}), INVALID, [*NUMBERS, "-inf"]),
    (
        "NaN deep in an attribute",
        attributes(a={"list_value": ListValue(values=[Value(number_value=math.nan)])}),
        INVALID,
        NUMBERS,
    ),
    ("attributes 17 deep", attributes(a={"list_value": nested(16).list_value}), INVALID, DEEP),
    ("attributes 40 deep", attributes(a={"list_value": nested(40).list_value}), INVALID, DEEP),
    (
        "an attribute of 1 MB",
        attributes(a={"string_value": "x" * 1_000_000}),
        INVALID,
        ["attributes take 1,000,008 bytes as JSON, at most 16,384 are allowed"],
    ),
    (
        "an attribute with a key of 1 MB",
        attributes(**{"x" * 1_000_000: {"bool_value": True}}),
        INVALID,
        ["attributes take 1,000,009 bytes as JSON"],
    ),
    (
        "65 attributes",
        attributes(**{f"a{n}": {"bool_value": True} for n in range(65)}),
        INVALID,
        ["the filter names 65 attributes, at most 64 are allowed"],
    ),
    (
        "65 attributes in all excludes",
        Filter(exclude=[Filter(attributes={f"a{n}": n}) for n in range(65)]),
        INVALID,
        ["the filter names 65 attributes"],
    ),
    (
        "50,000 attributes",
        attributes(**{f"a{n}": {"bool_value": True} for n in range(50_000)}),
        INVALID,
        ["at most 16,384 are allowed"],
    ),
]


@pytest.mark.parametrize(("name", "filter_", "code", "words"), REFUSED, ids=names(REFUSED))
def test_wrong_filter_is_refused_by_every_method_that_takes_one(
    server: Serving, name: str, filter_: Filter, code: str, words: list[str]
) -> None:
    search = search_pb2.SearchRequest(gallery="crowd", item_id="3-0", filter=filter_)
    for method, request in (
        ("Search", search),
        ("SearchAll", search),
        ("ListItems", gallery_pb2.ListItemsRequest(gallery="crowd", filter=filter_)),
        ("DeleteItems", gallery_pb2.DeleteItemsRequest(gallery="crowd", filter=filter_)),
    ):
        server.check_refused(server.ask(method, request), code, words)
    report = server.ask("GetGallery", gallery_pb2.GetGalleryRequest(gallery="crowd")).response
    assert report.items == 2 * PEOPLE


ACCEPTED: list[tuple[str, Filter, int]] = [
    ("nothing", Filter(), 24),
    ("100,000 item ids", Filter(item_ids=[*(f"unknown-{n}" for n in range(99_999)), "3-0"]), 1),
    ("one item id 100,000 times", Filter(item_ids=["3-0"] * 100_000), 1),
    ("100,000 people", Filter(person_ids=["3", *(f"unknown-{n}" for n in range(99_999))]), 2),
    ("an item id of 100,000 characters", Filter(item_ids=["x" * 100_000]), 0),
    ("a camera of control characters", Filter(camera_ids=["\0\n\x1b"]), 0),
    ("a camera that is SQL", Filter(camera_ids=["' OR 1=1 --"]), 0),
    ("no camera", Filter(camera_ids=[""]), 0),
    ("an attribute that no item has", attributes(hat={"null_value": 0}), 0),
    ("an attribute of another type", attributes(coat={"number_value": 1}), 0),
    ("an attribute with a value of no kind", attributes(coat={}), 0),
    ("an attribute of no name", attributes(**{"": {"string_value": "red"}}), 0),
    ("attributes 16 deep", attributes(a={"list_value": nested(15).list_value}), 0),
    ("64 attributes", attributes(**{f"a{n}": {"bool_value": True} for n in range(64)}), 0),
    ("what the items have", attributes(coat={"string_value": "red"}, bags={"number_value": 3}), 2),
    ("1,000 excludes", Filter(exclude=[Filter(camera_ids=[f"c{n}"]) for n in range(1, 1001)]), 12),
    ("an exclude of what is wanted", Filter(camera_ids=["c0"], exclude=[Filter(camera_ids=["c0"])]), 0),
    ("all times", Filter(captured_after=at(-62_135_596_800), captured_before=at(253_402_300_799, 999_999_999)), 0),
]


@pytest.mark.parametrize(("name", "filter_", "count"), ACCEPTED, ids=[case[0] for case in ACCEPTED])
def test_odd_filter_is_obeyed_to_the_letter(server: Serving, name: str, filter_: Filter, count: int) -> None:
    listed = server.ask("ListItems", gallery_pb2.ListItemsRequest(gallery="crowd", filter=filter_))
    assert len(listed.response.items) == count
    search = search_pb2.SearchRequest(gallery="crowd", item_id="7-0", filter=filter_, top_k=100)
    found = server.ask("Search", search).response.matches
    assert {match.item_id for match in found} == {item.item_id for item in listed.response.items} - {"7-0"}


def test_many_attribute_names_asked_for_one_by_one_do_not_stay_in_memory(server: Serving) -> None:
    for number in range(100):
        filter_ = Filter(attributes={f"{number}{'x' * 16_000}": True})
        answer = server.ask("Search", search_pb2.SearchRequest(gallery="crowd", item_id="3-0", filter=filter_))
        assert answer.code == "OK"
    server.check_memory()
