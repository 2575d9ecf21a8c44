from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainer.pose.grids import majority_on_grid, shares_on_grid

maps = arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 16)), elements=st.integers(0, 5))
grids = st.tuples(st.integers(1, 9), st.integers(1, 9))


def test_shares_of_a_cell_by_hand():
    labels = np.array([[0, 1, 1, 2], [0, 1, 2, 2]], np.uint8)
    shares = shares_on_grid(labels, (1, 2), 3)
    assert shares[:, 0, 0].tolist() == [0.5, 0.5, 0]
    assert shares[:, 0, 1].tolist() == [0, 0.25, 0.75]


def test_pixel_on_a_border_counts_by_area():
    # Three columns on two cells: each cell holds one column and half of the middle one.
    shares = shares_on_grid(np.array([[0, 1, 2]], np.uint8), (1, 2), 3)
    np.testing.assert_allclose(shares[:, 0, 0], [2 / 3, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(shares[:, 0, 1], [0, 1 / 3, 2 / 3], atol=1e-6)


def test_majority_takes_the_lowest_of_equals_and_ignores_unknown():
    assert majority_on_grid(np.array([[3, 1]], np.uint8), (1, 1), 6).tolist() == [[1]]
    assert majority_on_grid(np.array([[255, 255, 4]], np.uint8), (1, 1), 6).tolist() == [[4]]
    assert majority_on_grid(np.array([[255, 255]], np.uint8), (1, 1), 6).tolist() == [[255]]


@given(maps, grids)
def test_known_shares_sum_to_one(labels, grid):
    np.testing.assert_allclose(shares_on_grid(labels, grid, 6).sum(axis=0), 1, atol=1e-5)


@given(maps, grids, st.integers(2, 4), st.integers(2, 4))
def test_shares_do_not_depend_on_the_resolution_of_the_map(labels, grid, down, right):
    finer = labels.repeat(down, axis=0).repeat(right, axis=1)
    np.testing.assert_allclose(shares_on_grid(finer, grid, 6), shares_on_grid(labels, grid, 6), atol=1e-5)
    assert np.array_equal(majority_on_grid(finer, grid, 6), majority_on_grid(labels, grid, 6))


@given(maps, grids)
def test_total_area_of_every_label_is_kept(labels, grid):
    shares = shares_on_grid(labels, grid, 6).mean(axis=(1, 2))
    np.testing.assert_allclose(shares, np.bincount(labels.ravel(), minlength=6) / labels.size, atol=1e-5)


@given(st.data(), grids)
def test_a_marked_pixel_stays_in_its_cell(data, grid):
    height, width = data.draw(st.integers(grid[0], 60)), data.draw(st.integers(grid[1], 60))
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    labels = np.zeros((height, width), np.uint8)
    labels[row, column] = 1
    marked = np.unravel_index(shares_on_grid(labels, grid, 2)[1].argmax(), grid)
    for found, place, pixels, cells in zip(marked, (row, column), (height, width), grid, strict=True):
        assert found * pixels / cells < place + 1
        assert place < (found + 1) * pixels / cells


@given(maps, grids)
def test_shares_mirror_with_the_map(labels, grid):
    mirrored = shares_on_grid(np.ascontiguousarray(labels[:, ::-1]), grid, 6)
    np.testing.assert_allclose(mirrored, shares_on_grid(labels, grid, 6)[..., ::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "grid", "problem"),
    [
        (np.zeros((4, 4), np.int64), (2, 2), "uint8"),
        (np.zeros((4, 4, 1), np.uint8), (2, 2), r"\(4, 4, 1\)"),
        (np.zeros((4, 4), np.uint8), (0, 2), "at least 1 x 1"),
        (np.full((4, 4), 6, np.uint8), (2, 2), "0 to 5 or 255, got 6"),
    ],
)
def test_wrong_maps_are_refused(labels, grid, problem):
    with pytest.raises(ValueError, match=problem):
        shares_on_grid(labels, grid, 6)
