"""Golden samples: each part and each visibility is judged by itself."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.bundle import GoldenTolerance
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.runtime import compare

SCHEMA = PartSchema((Part("global", 512, always_visible=True), Part("feet", 4)))
TOLERANCE = GoldenTolerance(min_cosine=0.999, max_visibility_difference=0.02)


def features(rows: int = 3, seed: int = 0) -> PartFeatures:
    vectors = np.random.default_rng(seed).normal(size=(rows, SCHEMA.width)).astype(np.float32)
    for columns in SCHEMA.slices:
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
    return PartFeatures(vectors, np.array([[1, 0.5]] * rows, np.float32), SCHEMA)


def test_equal_features_pass() -> None:
    report = compare(features(), features(), TOLERANCE)
    assert report.passed
    assert report.samples == 3
    assert report.min_cosine["feet"] == pytest.approx(1)


def test_small_part_that_is_wrong_is_not_hidden_by_a_large_one_that_is_right() -> None:
    golden, wrong = features(), features().vectors.copy()
    wrong[2, SCHEMA.slices[1]] *= -1
    packed = (golden.vectors[2] @ wrong[2]) / np.linalg.norm(golden.vectors[2]) ** 2
    assert packed > -0.1  # one cosine over the packed vector would be far from -1
    report = compare(golden, PartFeatures(wrong, golden.visibility, SCHEMA), TOLERANCE)
    assert not report.passed
    assert report.min_cosine == pytest.approx({"global": 1, "feet": -1})
    assert "part 'feet'" in report.problems[0]


def test_wrong_visibility_is_reported() -> None:
    golden = features()
    visibility = golden.visibility.copy()
    visibility[1, 1] = 0.6
    report = compare(golden, PartFeatures(golden.vectors, visibility, SCHEMA), TOLERANCE)
    assert report.max_visibility_difference == pytest.approx(0.1)
    assert "visibility differs by 0.1000" in report.problems[0]


def test_vectors_of_hidden_parts_are_not_compared() -> None:
    golden, other = features(), features(seed=1)
    visibility = golden.visibility.copy()
    visibility[:, 1] = 0
    vectors = golden.vectors.copy()
    vectors[:, SCHEMA.slices[1]] = other.vectors[:, SCHEMA.slices[1]]
    hidden = PartFeatures(golden.vectors, visibility, SCHEMA)
    assert compare(hidden, PartFeatures(vectors, visibility, SCHEMA), TOLERANCE).passed


def test_part_that_came_out_as_zeros_counts_as_no_likeness() -> None:
    golden = features()
    vectors, visibility = golden.vectors.copy(), golden.visibility.copy()
    vectors[0, SCHEMA.slices[1]] = 0
    visibility[0, 1] = 0
    assert compare(golden, PartFeatures(vectors, visibility, SCHEMA), TOLERANCE).min_cosine["feet"] == 0


def test_other_rows_or_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        compare(features(), features(2), TOLERANCE)
