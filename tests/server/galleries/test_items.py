"""What may become an item, and the decoding of halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.errors import InvalidArgument
from server.galleries.items import NewItem, attributes_from_json, decode, make_batch
from tests.server.galleries.generated import SCHEMA, make_items, random_features

VECTORS = np.zeros(32, np.float16)
VISIBILITY = np.array([1, 0, 0], np.float32)


def test_decoding_equals_numpy_for_every_finite_half() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(-1, 64)
    np.testing.assert_array_equal(decode(finite), finite.astype(np.float32))
    scale = np.random.default_rng(0).random(finite.shape).astype(np.float32)
    np.testing.assert_array_equal(decode(finite, scale), finite.astype(np.float32) * scale)
    np.testing.assert_array_equal(decode(finite[::2, ::3]), finite[::2, ::3].astype(np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item_id": ""}, "1 to 256"),
        ({"item_id": "x" * 257}, "257 characters"),
        ({"item_id": "a\nb"}, "control characters"),
        ({"item_id": "a\x85b"}, "control characters"),
        ({"item_id": "a\ud800b"}, "not valid Unicode"),
        ({"person_id": "x" * 257}, "person_id"),
        ({"camera_id": "\0"}, "camera_id"),
        ({"captured_at": 2**62}, "years 1 to 9999"),
        ({"attributes": {"a": float("nan")}}, "JSON object"),
        ({"attributes": {"a": object()}}, "JSON object"),
        ({"attributes": {"a": "x" * 17_000}}, r"17,\d+ bytes"),
    ],
)
def test_an_item_with_a_bad_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        NewItem(**({"item_id": "a", "vectors": VECTORS, "visibility": VISIBILITY} | fields))


@pytest.mark.parametrize("item_id", ["a", "x" * 256, "Zoë/1:α-😀", "a b", "a\u200bb", "\u3000"])
def test_any_printable_text_is_an_item_id(item_id: str) -> None:
    assert NewItem(item_id, VECTORS, VISIBILITY).item_id == item_id


def test_attributes_come_back_as_they_were() -> None:
    attributes = {"site": "north", "floor": 2.0, "tags": ["a", None, True], "nested": {"ü": 1}}
    assert attributes_from_json(NewItem("a", VECTORS, VISIBILITY, attributes=attributes).attributes_json) == attributes
    assert attributes_from_json(NewItem("a", VECTORS, VISIBILITY, attributes={}).attributes_json) == {}


@pytest.mark.parametrize(
    ("vectors", "visibility"),
    [
        (np.zeros(31, np.float16), VISIBILITY),
        (np.zeros(32, np.float32), VISIBILITY),
        (np.zeros((1, 32), np.float16), VISIBILITY),
        (VECTORS, np.ones(2, np.float32)),
        (VECTORS, np.ones(3, np.float64)),
        (VECTORS, np.array([1, 1.5, 0], np.float32)),
        (VECTORS, np.array([1, -0.5, 0], np.float32)),
        (VECTORS, np.array([1, np.nan, 0], np.float32)),
        (np.full(32, np.nan, np.float16), VISIBILITY),
        (np.full(32, np.inf, np.float16), VISIBILITY),
        (np.full(32, 1, np.float16), VISIBILITY),
    ],
)
def test_features_that_do_not_fit_are_refused_by_the_items_name(vectors: Any, visibility: Any) -> None:
    good = make_items(random_features(np.random.default_rng(0), SCHEMA, 2))
    with pytest.raises(InvalidArgument, match="item 'bad'"):
        make_batch([*good, NewItem("bad", vectors, visibility)], SCHEMA, 1, 0)
