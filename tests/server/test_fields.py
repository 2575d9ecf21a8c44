"""Fields of a request are counted as protobuf would read them, without reading them."""

from __future__ import annotations

import pytest

from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from server.fields import MAX_FIELDS, has_too_many_fields

UPSERT = gallery_pb2.UpsertRequest.DESCRIPTOR
SEARCH = search_pb2.SearchRequest.DESCRIPTOR
EMPTY_ITEM, EMPTY_EXCLUDE = b"\x12\0", b"\x3a\0"


def batch(items: int) -> gallery_pb2.UpsertRequest:
    """Items with everything an item may have, about thirty fields each."""
    schema = features_pb2.PartSchema(parts=[features_pb2.Part(name="global", dim=8, weight=1)])
    features = features_pb2.PartFeatures(
        schema=schema, vectors=bytes(32), dtype=1, visibility=[1], model_sha256="a" * 64
    )
    item = gallery_pb2.Item(
        item_id="x", person_id="p", camera_id="c", features=features, attributes={"a": 1, "b": [True]}
    )
    item.captured_at.FromMilliseconds(1_500)
    return gallery_pb2.UpsertRequest(gallery="g", items=[item] * items)


def test_request_is_refused_from_one_field_too_many() -> None:
    fields = EMPTY_ITEM * (MAX_FIELDS - 1)
    assert not has_too_many_fields(fields, UPSERT)
    assert has_too_many_fields(fields + 2 * EMPTY_ITEM, UPSERT)


def test_inner_messages_are_counted_and_blobs_are_not() -> None:
    one = batch(1)
    assert not has_too_many_fields(batch(10_000).SerializeToString(), UPSERT)
    assert has_too_many_fields(batch(20_000).SerializeToString(), UPSERT)
    one.items[0].ClearField("features")
    one.items[0].image = EMPTY_ITEM * MAX_FIELDS
    assert not has_too_many_fields(one.SerializeToString(), UPSERT)


def test_fields_inside_groups_are_counted() -> None:
    hidden = b"\x0b" + EMPTY_EXCLUDE * MAX_FIELDS + b"\x0c"
    assert has_too_many_fields(hidden, SEARCH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 5_000_000,
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x12\x85" + EMPTY_ITEM,
        b"\x0f" + EMPTY_ITEM * MAX_FIELDS,
        b"\x08" + b"\x80" * 11 + EMPTY_ITEM * MAX_FIELDS,
        b"\x3a\x7f" * 50,
        b"\x0d\1\2\3\4\x09\1\2\3\4\5\6\7\x08",
    ],
)
def test_malformed_bytes_are_left_to_protobuf(data: bytes) -> None:
    assert not has_too_many_fields(data, UPSERT)
    assert not has_too_many_fields(data, SEARCH)
