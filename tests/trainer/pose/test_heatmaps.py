from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.pose import KeyPoints
from trainer.pose.heatmaps import heatmaps
from trainer.pose.keypoints import OPENPOSE18

NECK = OPENPOSE18.index("neck")


def one(joint: int, x: float, y: float, confidence: float = 0.9) -> KeyPoints:
    points = np.zeros((18, 3), np.float32)
    points[joint] = (x, y, confidence)
    return KeyPoints(points, "openpose18")


def test_legacy_at_full_size_is_the_formula_cut_to_bytes():
    # 128 x 64: s = 8.192 pixels. From (int 20.9, int 30.2) to (28, 36) it is 8^2 + 6^2 = 100.
    maps = heatmaps(one(NECK, 20.9, 30.2), (128, 64), (128, 64), "legacy")
    assert maps.shape == (18, 128, 64)
    assert maps[NECK, 30, 20] == 1
    assert maps[NECK, 36, 28] == np.float32(int(255 * math.exp(-100 / (2 * 8.192**2)))) / np.float32(255)
    assert maps.sum(axis=(1, 2)).nonzero()[0].tolist() == [NECK]


def test_legacy_reduction_is_bilinear_between_four_pixels():
    # 8 x 4 pixels on 4 x 2 cells: each cell is the mean of its 2 x 2 pixels.
    full = heatmaps(one(0, 1, 2), (8, 4), (8, 4), "legacy")[0]
    small = heatmaps(one(0, 1, 2), (8, 4), (4, 2), "legacy")[0]
    means = full.reshape(4, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(small, means, atol=0.51 / 255)


def test_legacy_width_grows_with_the_area():
    # s is 8.192 at 128 x 64 and four times that at 256 x 128: at the same place of a crop twice as large, the distance
    # doubles and the width quadruples.
    small = heatmaps(one(0, 20, 30), (128, 64), (128, 64), "legacy")[0]
    large = heatmaps(one(0, 40, 60), (256, 128), (256, 128), "legacy")[0]
    assert large[92, 40] == pytest.approx(math.exp(-(32**2) / (2 * 32.768**2)), abs=1 / 255)
    assert small[46, 20] == pytest.approx(math.exp(-(16**2) / (2 * 8.192**2)), abs=1 / 255)


def test_resolution_free_by_hand():
    # On a grid as fine as the image, cell (v, u) is pixel (v, u); one height is 128 pixels, sigma 0.064 of it 8.192.
    maps = heatmaps(one(NECK, 20, 30), (128, 64), (128, 64))
    assert maps[NECK, 30, 20] == pytest.approx(1)
    assert maps[NECK, 36, 28] == pytest.approx(math.exp(-100 / (2 * 8.192**2)), rel=1e-5)


@given(
    st.floats(0, 31),
    st.floats(0, 63),
    st.integers(2, 8),
    st.tuples(st.integers(1, 24), st.integers(1, 12)),
    st.floats(0.02, 0.3),
)
def test_resolution_free_values_do_not_depend_on_the_resolution(x, y, factor, grid, sigma):
    small = heatmaps(one(3, x, y), (64, 32), grid, sigma=sigma)
    at = ((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5)
    large = heatmaps(one(3, *at), (64 * factor, 32 * factor), grid, sigma=sigma)
    np.testing.assert_allclose(large, small, atol=2e-5)


@given(st.integers(0, 63), st.integers(0, 127), st.sampled_from([(24, 8), (16, 8), (22, 11), (21, 10), (128, 64)]))
def test_peak_is_in_the_cell_of_the_joint(x, y, grid):
    maps = heatmaps(one(7, x, y), (128, 64), grid)
    row, column = np.unravel_index(maps[7].argmax(), grid)
    # Half a cell, and the rounding of a centre that lies on a border.
    assert abs((row + 0.5) * 128 / grid[0] - (y + 0.5)) <= 64 / grid[0] + 1e-3
    assert abs((column + 0.5) * 64 / grid[1] - (x + 0.5)) <= 32 / grid[1] + 1e-3


@pytest.mark.parametrize("kind", ["legacy", "resolution-free"])
def test_joint_at_the_border_has_a_map_and_a_missing_one_zeros(kind):
    assert heatmaps(one(0, 0, 0), (128, 64), (24, 8), kind)[0, 0, 0] > 0.3
    assert not heatmaps(one(0, 30, 40, 0.2), (128, 64), (24, 8), kind).any()


@pytest.mark.parametrize("kind", ["legacy", "resolution-free"])
def test_no_pose_is_attention_everywhere(kind):
    assert (heatmaps(None, (128, 64), (24, 8), kind) == np.ones((18, 24, 8))).all()


def test_coco_joints_become_openpose():
    points = np.ones((17, 3), np.float32)
    assert heatmaps(KeyPoints(points, "coco17"), (8, 8), (2, 2))[NECK].any()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (((0, 4), (2, 2)), "positive"),
        (((4, 4), (2, 0)), "positive"),
        (((4, 4), (2, 2), "fast"), "'fast'; choose from"),
    ],
)
def test_wrong_arguments_are_refused(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        heatmaps(one(0, 1, 1), *arguments)
