"""Tracklet fusion: every part from the images that show it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glimpse.distance import pairwise
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.tracklet import fuse
from tests.glimpse.features import LOOSE, PEOPLE, one, random_features

PLAIN = PartSchema((Part("global", 2, always_visible=True), Part("upper", 2)))


def _tracklet(*rows: PartFeatures) -> PartFeatures:
    return PartFeatures.concatenate(rows)


def test_part_is_the_mean_weighted_by_visibility_and_normalised():
    fused = fuse(
        _tracklet(
            one(PLAIN, [[1, 0], [1, 0]], [1, 0.25]),
            one(PLAIN, [[0, 1], [0, 1]], [1, 0.75]),
        )
    )
    np.testing.assert_allclose(fused.vectors[0, :2], np.array([1, 1]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(fused.vectors[0, 2:], np.array([1, 3]) / np.sqrt(10), rtol=1e-6)
    np.testing.assert_array_equal(fused.visibility, [[1, 0.75]])


def test_part_seen_once_comes_from_that_image():
    fused = fuse(
        _tracklet(
            one(PLAIN, [[1, 0], [0, 0]], [1, 0]),
            one(PLAIN, [[1, 0], [0.6, 0.8]], [1, 0.1]),
        )
    )
    np.testing.assert_allclose(fused.vectors[0, 2:], [0.6, 0.8], rtol=1e-6)
    assert fused.visibility[0, 1] == np.float32(0.1)


def test_part_hidden_everywhere_is_zero_with_visibility_zero():
    hidden = random_features(4, hidden=0)
    hidden.visibility[:, 1] = 0  # the vectors of a hidden part may hold anything
    fused = fuse(hidden)
    assert fused.visibility[0, 1] == 0
    assert not fused.vectors[0, PEOPLE.slices[1]].any()
    assert fused.visibility[0, 0] == 1


def test_images_that_cancel_out_leave_the_word_to_the_best_seen():
    fused = fuse(
        _tracklet(
            one(PLAIN, [[1, 0], [1, 0]], [1, 0.5]),
            one(PLAIN, [[-1, 0], [-1, 0]], [1, 0.5]),
        )
    )
    np.testing.assert_array_equal(fused.vectors, [[1, 0, 1, 0]])


def test_single_image_is_its_own_tracklet():
    alone = random_features(1)
    assert fuse(alone) is alone


def test_no_image_is_no_tracklet():
    with pytest.raises(ValueError, match="at least one image, got none"):
        fuse(random_features(1)[:0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 6), loose=st.booleans())
def test_fused_row_is_valid_and_does_not_depend_on_the_order_of_images(seed, rows, loose):
    features = random_features(rows, LOOSE if loose else PEOPLE, seed, hidden=0.7)
    fused, reversed_ = fuse(features), fuse(features[::-1])
    PartFeatures(fused.vectors, fused.visibility, fused.schema)
    np.testing.assert_allclose(fused.vectors, reversed_.vectors, atol=1e-6)
    np.testing.assert_array_equal(fused.visibility, features.visibility.max(axis=0, keepdims=True))


def test_fused_query_is_closer_to_its_person_than_its_images_are_on_average():
    random = np.random.default_rng(0)
    person = random_features(1, seed=5, hidden=0)
    noisy = person.vectors + 0.4 * random.standard_normal((8, PEOPLE.width)).astype(np.float32)
    for columns in PEOPLE.slices:
        noisy[:, columns] /= np.linalg.norm(noisy[:, columns], axis=1, keepdims=True)
    images = PartFeatures(noisy, np.repeat(person.visibility, 8, 0), PEOPLE)
    assert pairwise(fuse(images), person).distance[0, 0] < pairwise(images, person).distance.min()
