from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glimpse.people import PARTS
from trainer.pose import KeyPoints
from trainer.pose.keypoints import COCO17, OPENPOSE18
from trainer.pose.visibility import (
    LEAST_SHARE,
    REGION_SITES,
    SITES,
    region_shares,
    stripe_labels,
    visibility_from_joints,
    visibility_from_regions,
)


def at_heights(*heights: float) -> KeyPoints:
    points = np.zeros((18, 3), np.float32)
    for joint, y in enumerate(heights):
        points[joint] = (5, y, 0.9)
    return KeyPoints(points, "openpose18")


def seen(*names: str, gamma: float = 0.9) -> KeyPoints:
    points = np.zeros((17, 3), np.float32)
    for name in names:
        points[COCO17.index(name)] = (5, 5, gamma)
    return KeyPoints(points, "coco17")


def test_stripe_is_seen_where_a_kept_joint_lies():
    assert stripe_labels(at_heights(10, 20, 59.5), 120, 3).tolist() == [1, 1, 0]
    assert stripe_labels(at_heights(10, 20, 80), 120, 3).tolist() == [1, 0, 1]


def test_joint_on_a_border_belongs_to_the_lower_stripe_but_to_none_in_the_legacy_code():
    person = at_heights(0, 40, 40)
    assert stripe_labels(person, 120, 3).tolist() == [1, 1, 0]
    assert stripe_labels(person, 120, 3, strict=True).tolist() == [0, 0, 0]


def test_joints_at_or_below_gamma_do_not_count():
    person = at_heights(10, 20, 30)
    assert stripe_labels(person, 120, 3, gamma=0.9).tolist() == [1, 1, 1]  # none is kept: nothing is known
    assert stripe_labels(person, 120, 3, gamma=0.89).tolist() == [1, 0, 0]


def test_fewer_than_three_joints_or_no_pose_say_nothing():
    assert stripe_labels(at_heights(10, 20), 120, 3).tolist() == [1, 1, 1]
    assert stripe_labels(None, 120, 6).tolist() == [1] * 6


def test_joints_outside_the_image_are_in_no_stripe():
    assert stripe_labels(at_heights(-3, 130, 50), 120, 3).tolist() == [0, 1, 0]


@given(st.lists(st.floats(0, 127), min_size=3, max_size=18), st.integers(1, 8), st.integers(2, 5))
def test_stripes_do_not_depend_on_the_resolution(heights, stripes, factor):
    small = stripe_labels(at_heights(*np.float32(heights)), 128, stripes)
    large = stripe_labels(at_heights(*np.float32(heights) * np.float32(factor)), 128 * factor, stripes)
    borders = np.arange(stripes + 1) * 128 / stripes
    if np.abs(np.float32(heights)[:, None] - borders).min() > 1e-3:
        assert small.tolist() == large.tolist()
    assert small.sum() >= 1


def test_every_coco_joint_belongs_to_one_place_and_every_part_to_some():
    assert sorted(joint for joints in SITES.values() for joint in joints) == sorted(COCO17)
    assert tuple(REGION_SITES) == PARTS
    assert tuple(LEAST_SHARE) == PARTS[1:]


def test_visibility_from_joints_by_hand():
    # Face, one shoulder, one hip and one knee: of 7 places 4; arms none, legs knees of two.
    visible = visibility_from_joints(seen("left ear", "right shoulder", "left hip", "right knee"))
    np.testing.assert_allclose(visible, [4 / 7, 1, 1, 0, 0.5, 0], rtol=1e-6)


def test_person_seen_from_the_side_is_wholly_visible():
    left = [name for name in COCO17 if name.startswith("left")]
    assert visibility_from_joints(seen(*left)).tolist() == [1] * 6


def test_openpose_joints_give_the_same_visibility():
    person = seen("nose", "left wrist", "right ankle", "left shoulder", "right shoulder")
    assert person.to_openpose18().kept().sum() == 6  # and a neck
    assert OPENPOSE18[1] == "neck"
    assert visibility_from_joints(person.to_openpose18()).tolist() == visibility_from_joints(person).tolist()


def test_too_few_joints_say_nothing():
    assert visibility_from_joints(seen("nose", "left knee")).tolist() == [1] * 6
    assert visibility_from_joints(None).tolist() == [1] * 6


REGIONS = np.array([[0, 1, 2, 2], [0, 4, 4, 255]], np.uint8)


def test_region_shares_by_hand():
    np.testing.assert_allclose(region_shares(REGIONS), [5 / 7, 1 / 7, 2 / 7, 0, 2 / 7, 0], rtol=1e-6)
    assert region_shares(np.full((2, 2), 255, np.uint8)).tolist() == [0] * 6


def test_visibility_from_regions_by_hand():
    assert visibility_from_regions(REGIONS).tolist() == [1, 1, 1, 0, 1, 0]
    assert visibility_from_regions(np.zeros((4, 4), np.uint8)).tolist() == [0] * 6
    reference = np.array([10 / 7, 1 / 7, 4 / 7, 1, 1 / 7, 1], np.float32)
    np.testing.assert_allclose(visibility_from_regions(REGIONS, reference), [0.5, 1, 0.5, 0, 1, 0], rtol=1e-6)


def test_a_stray_pixel_is_no_visible_region():
    regions = np.zeros((128, 64), np.uint8)
    regions[0, 0] = 1
    assert visibility_from_regions(regions).tolist() == [0] * 6
    regions[:10, :10] = 1  # 100 of 8192 pixels
    assert visibility_from_regions(regions).tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: region_shares(np.zeros((2, 2), np.int32)), "uint8"),
        (lambda: region_shares(np.full((2, 2), 6, np.uint8)), "0 to 5 or 255, got 6"),
        (lambda: visibility_from_regions(REGIONS, np.zeros(6, np.float32)), "positive"),
        (lambda: stripe_labels(None, 0, 3), "at least 1"),
    ],
)
def test_wrong_input_is_refused(call, problem):
    with pytest.raises(ValueError, match=problem):
        call()
