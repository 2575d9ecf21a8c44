"""`PartSchema` and `PartFeatures`: what they hold and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from tests.glimpse.features import LOOSE, PEOPLE, random_features


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "Upper"}, "part name 'Upper': expected a lower-case word of at most 32 characters"),
        ({"name": ""}, "part name ''"),
        ({"name": "a" * 33}, "at most 32 characters"),
        ({"dim": 0}, "part 'upper': dim must be between 1 and 16384, got 0"),
        ({"dim": 20_000}, "got 20000"),
        ({"weight": -1.0}, "part 'upper': weight must be finite and at least 0, got -1.0"),
        ({"weight": math.nan}, "got nan"),
        ({"weight": math.inf}, "got inf"),
    ],
)
def test_wrong_part_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Part(**{"name": "upper", "dim": 8, **fields})


@pytest.mark.parametrize(
    ("parts", "prior", "message"),
    [
        ((), 0.0, "a schema has 1 to 64 parts, got 0"),
        (tuple(Part(f"p{i}", 1) for i in range(65)), 0.0, "got 65"),
        ((Part("a", 1), Part("a", 2)), 0.0, r"part names must differ, got \['a', 'a'\]"),
        ((Part("a", 1),), -0.1, "prior must be finite and at least 0, got -0.1"),
        ((Part("a", 1),), math.nan, "got nan"),
        ((Part("a", 1, weight=0.0),), 0.0, "at least one part must weigh more than 0"),
    ],
)
def test_wrong_schema_is_refused(parts, prior, message):
    with pytest.raises(ValueError, match=message):
        PartSchema(parts, prior)


def test_schema_gives_columns_in_the_order_of_its_parts():
    schema = PartSchema([Part("global", 3, always_visible=True), Part("head", 2, weight=0.5)])
    assert schema.width == 5
    assert schema.slices == (slice(0, 3), slice(3, 5))
    assert schema.weights.tolist() == [1.0, 0.5]
    assert schema.always_visible.tolist() == [True, False]
    assert schema.describe() == "global:3, head:2"


def test_layout_is_names_and_widths_in_order_but_not_weights():
    schema = PartSchema((Part("a", 2), Part("b", 3)))
    assert schema.same_layout(PartSchema((Part("a", 2, weight=5), Part("b", 3, always_visible=True)), prior=1))
    assert not schema.same_layout(PartSchema((Part("b", 3), Part("a", 2))))
    assert not schema.same_layout(PartSchema((Part("a", 2), Part("b", 4))))


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    features = random_features(4, hidden=0.0)
    return features.vectors.copy(), features.visibility.copy()


def _set(array: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, v: (x.astype(np.float64), v), "must be float32, got float64 and float32"),
        (lambda x, v: (x, v.astype(np.float16)), "must be float32, got float32 and float16"),
        (lambda x, v: (x[:, :-1], v), r"shape \(N, 25\) for parts global:12, upper:8, legs:5, got \(4, 24\)"),
        (lambda x, v: (x[0], v), r"got \(25,\)"),
        (lambda x, v: (x, v[:, :2]), r"visibility must have shape \(4, 3\), one column a part \(global, upper, legs\)"),
        (lambda x, v: (x, v[:3]), r"got \(3, 3\)"),
        (lambda x, v: (_set(x, (2, 0), np.nan), v), "vectors must be finite: row 2 holds NaN or infinity"),
        (lambda x, v: (_set(x, (1, 0), np.inf), v), "row 1 holds NaN or infinity"),
        (lambda x, v: (x, _set(v, (3, 1), 1.5)), r"visibility must be within \[0, 1\]: row 3 is"),
        (lambda x, v: (x, _set(v, (3, 1), -0.1)), "row 3 is"),
        (lambda x, v: (x, _set(v, (0, 2), np.nan)), "row 0 is"),
        (
            lambda x, v: (x, _set(v, (0, 0), 0.9)),
            r"parts \['global'\] are always visible in this schema, got visibility 0.9",
        ),
        (lambda x, v: (x * np.float32(1.01), v), "part 'global' of row 0 has norm 1.01: expected 1 within 0.001"),
        (lambda x, v: (_set(x, (2, slice(12, 20)), 0.0), v), "part 'upper' of row 2 has norm 0: expected 1"),
    ],
)
def test_wrong_features_are_refused_by_what_came_and_what_was_expected(change, message):
    with pytest.raises(ValueError, match=message):
        PartFeatures(*change(*_arrays()), PEOPLE)


def test_norm_within_a_thousandth_and_hidden_zeros_are_accepted():
    vectors, visibility = _arrays()
    vectors *= np.float32(1.0009)
    vectors[0, 12:20], visibility[0, 1] = 0, 0
    assert len(PartFeatures(vectors, visibility, PEOPLE)) == 4


def test_no_rows_are_features_too():
    empty = PartFeatures(np.zeros((0, 25), np.float32), np.zeros((0, 3), np.float32), PEOPLE)
    assert len(empty) == 0


def test_rows_are_taken_by_slice_list_and_mask():
    features = random_features(5)
    for rows in (slice(1, 3), [1, 2], np.array([False, True, True, False, False])):
        np.testing.assert_array_equal(features[rows].vectors, features.vectors[1:3])
        np.testing.assert_array_equal(features[rows].visibility, features.visibility[1:3])


def test_stored_rounds_vectors_to_float16_and_keeps_visibility():
    features = random_features(50)
    stored = features.stored()
    np.testing.assert_array_equal(stored.vectors, features.vectors.astype(np.float16))
    assert stored.vectors.dtype == np.float32
    np.testing.assert_array_equal(stored.visibility, features.visibility)
    PartFeatures(stored.vectors, stored.visibility, PEOPLE)  # rounding stays within the tolerance of the norm


def test_concatenate_joins_rows_and_refuses_another_schema_or_nothing():
    left, right = random_features(2, seed=1), random_features(3, seed=2)
    joined = PartFeatures.concatenate([left, right])
    np.testing.assert_array_equal(joined[2:].vectors, right.vectors)
    with pytest.raises(ValueError, match="schemas differ: global:12, upper:8, legs:5 and upper:8, legs:5"):
        PartFeatures.concatenate([left, random_features(1, LOOSE)])
    with pytest.raises(ValueError, match="nothing to concatenate"):
        PartFeatures.concatenate([])
