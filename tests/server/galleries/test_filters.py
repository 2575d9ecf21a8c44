"""Filters against a plain reading of what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.errors import InvalidArgument
from server.galleries import attributes as attributes_module
from server.galleries.attributes import AttributeIndex, canonical
from server.galleries.columns import Columns, Snapshot
from server.galleries.filters import Filter
from server.galleries.items import NewItem, make_batch
from tests.server.galleries.generated import CAMERAS, PEOPLE, SCHEMA, random_features

VALUES = ("a", "b", 1, 1.0, 2, True, None, ["a", 1], {"x": 1, "y": "z"})


def random_items(rng: np.random.Generator, count: int) -> list[NewItem]:
    features = random_features(rng, SCHEMA, count)
    return [
        NewItem(
            item_id=f"i{n}",
            vectors=features.vectors[n].astype(np.float16),
            visibility=features.visibility[n],
            person_id=PEOPLE[rng.integers(3)],
            camera_id=CAMERAS[rng.integers(4)],
            captured_at=None if rng.random() < 0.2 else int(rng.integers(0, 50)),
            attributes={key: VALUES[rng.integers(len(VALUES))] for key in ("k", "site", "ü") if rng.random() < 0.6},
        )
        for n in range(count)
    ]


def random_filter(rng: np.random.Generator, *, excluding: bool = True) -> Filter:
    fields: dict[str, Any] = {}
    if rng.random() < 0.4:
        fields["camera_ids"] = tuple(rng.choice([*CAMERAS, "unknown"], int(rng.integers(1, 4))).tolist())
    if rng.random() < 0.4:
        fields["person_ids"] = tuple(rng.choice([*PEOPLE, "unknown"], int(rng.integers(1, 3))).tolist())
    if rng.random() < 0.3:
        fields["captured_after"] = int(rng.integers(0, 25))
    if rng.random() < 0.3:
        fields["captured_before"] = int(rng.integers(25, 50))
    if rng.random() < 0.2:
        fields["item_ids"] = tuple(f"i{n}" for n in rng.integers(0, 80, 30))
    if rng.random() < 0.4:
        fields["attributes"] = {"k": VALUES[rng.integers(len(VALUES))]}
    if excluding and rng.random() < 0.5:
        entries = [random_filter(rng, excluding=False) for _ in range(2)]
        fields["exclude"] = tuple(entry for entry in entries if not entry.empty)
    return Filter(**fields)


def matches(chosen: Filter, item: NewItem) -> bool:
    time, known = item.captured_at, item.attributes or {}
    return (
        (not chosen.camera_ids or item.camera_id in chosen.camera_ids)
        and (not chosen.person_ids or item.person_id in chosen.person_ids)
        and (not chosen.item_ids or item.item_id in chosen.item_ids)
        and (chosen.captured_after is None or (time is not None and time >= chosen.captured_after))
        and (chosen.captured_before is None or (time is not None and time < chosen.captured_before))
        and all(key in known and equal(known[key], value) for key, value in chosen.attributes.items())
        and not any(matches(entry, item) for entry in chosen.exclude)
    )


def equal(left: Any, right: Any) -> bool:
    """JSON equality: Python alone would say that True == 1."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def snapshot_of(items: list[NewItem]) -> Snapshot:
    columns = Columns(SCHEMA)
    for start in range(0, len(items), 25):
        columns.extend(make_batch(items[start : start + 25], SCHEMA, 1, 0))
    return columns.snapshot(1)


@pytest.mark.parametrize("seed", range(60))
def test_a_mask_marks_exactly_the_items_that_match(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = random_items(rng, 60)
    snapshot = snapshot_of(items)
    for _ in range(4):
        chosen = random_filter(rng)
        expected = [item.item_id for item in items if matches(chosen, item)]
        assert [snapshot.item_id(row) for row in np.flatnonzero(chosen.mask(snapshot))] == expected


def test_same_person_and_same_camera_is_one_exclude_entry() -> None:
    items = random_items(np.random.default_rng(0), 60)
    snapshot = snapshot_of(items)
    one_entry = Filter(exclude=(Filter(person_ids=("anna",), camera_ids=("c1",)),)).mask(snapshot)
    two_entries = Filter(exclude=(Filter(person_ids=("anna",)), Filter(camera_ids=("c1",)))).mask(snapshot)
    assert one_entry.sum() == sum(not (i.person_id == "anna" and i.camera_id == "c1") for i in items)
    assert two_entries.sum() == sum(not (i.person_id == "anna" or i.camera_id == "c1") for i in items)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captured_after": 5, "captured_before": 5}, "captured_after must be earlier"),
        ({"captured_after": 6, "captured_before": 5}, "captured_after must be earlier"),
        ({"captured_after": 2**62}, "years 1 to 9999"),
        ({"exclude": (Filter(),)}, "empty entry"),
        ({"exclude": (Filter(camera_ids=("a",), exclude=(Filter(camera_ids=("b",)),)),)}, "may not exclude further"),
    ],
)
def test_a_contradictory_filter_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Filter(**fields)


@pytest.mark.parametrize(
    ("fields", "empty"),
    [
        ({}, True),
        ({"captured_after": 0}, False),
        ({"captured_before": 0}, False),
        ({"camera_ids": ("",)}, False),
        ({"attributes": {"a": None}}, False),
        ({"exclude": (Filter(item_ids=("a",)),)}, False),
    ],
)
def test_only_the_filter_without_fields_is_empty(fields: dict[str, Any], empty: bool) -> None:
    assert Filter(**fields).empty is empty


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (0.0, -0.0, True),
        (True, 1, False),
        (None, False, False),
        ("1", 1, False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ("é", "e\u0301", False),
    ],
)
def test_equality_is_that_of_json_values(left: Any, right: Any, same: bool) -> None:
    assert (canonical(left) == canonical(right)) is same


def test_a_key_is_looked_for_at_the_top_only() -> None:
    index = AttributeIndex(['{"a":{"k":1}}', '{"a":"\\"k\\":1"}', '{"k":1}', ""])
    assert index.matches("k", 1, 4).tolist() == [False, False, True, False]


def test_the_index_follows_new_rows_and_forgets_the_key_unused_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes_module, "MAX_KEYS", 2)
    texts = ['{"a":1,"b":2,"c":3}']
    index = AttributeIndex(texts)
    assert index.matches("a", 1, 1).tolist() == [True]
    texts.append('{"a":5}')
    assert index.matches("a", 5, 2).tolist() == [False, True]
    assert index.matches("a", 5, 1).tolist() == [False]
    for key, value in (("b", 2), ("c", 3), ("a", 1)):
        assert index.matches(key, value, 2).tolist() == [True, False]
    assert len(index._columns) == 2
