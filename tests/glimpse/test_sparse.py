"""Sparse rows against the dense arrays they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.sparse import SparseRows


def dense(sparse: SparseRows) -> np.ndarray:
    out = np.zeros((len(sparse), sparse.width), np.float32)
    for i in range(len(sparse)):
        columns, values = sparse.row(i)
        assert (np.diff(columns) > 0).all()
        out[i, columns] = values
    return out


@pytest.fixture
def matrix() -> np.ndarray:
    random = np.random.default_rng(0)
    full = random.random((7, 5), np.float32)
    full[random.random(full.shape) < 0.5] = 0
    full[3] = 0  # an empty row
    return full


def sparse(matrix: np.ndarray) -> SparseRows:
    rows, columns = np.nonzero(matrix)
    return SparseRows.of(rows, columns, matrix[rows, columns], *matrix.shape)


def test_rows_come_back_as_they_were(matrix: np.ndarray) -> None:
    np.testing.assert_array_equal(dense(sparse(matrix)), matrix)


def test_taking_rows_keeps_their_order(matrix: np.ndarray) -> None:
    rows = np.array([6, 3, 0, 6])
    np.testing.assert_array_equal(dense(sparse(matrix).take(rows)), matrix[rows])
    assert len(sparse(matrix).take(np.array([], np.int64))) == 0


def test_transposing(matrix: np.ndarray) -> None:
    np.testing.assert_array_equal(dense(sparse(matrix).transposed()), matrix.T)


def test_normalised_rows_sum_to_one_and_an_empty_row_stays_empty(matrix: np.ndarray) -> None:
    sums = dense(sparse(matrix).normalised()).sum(axis=1)
    np.testing.assert_allclose(sums, [1, 1, 1, 0, 1, 1, 1], atol=1e-6)


def test_averaging_counts_only_valid_rows(matrix: np.ndarray) -> None:
    rows = np.array([[0, 1], [2, -1], [3, 3]])
    valid = np.array([[True, True], [True, False], [True, True]])
    expected = np.stack([(matrix[0] + matrix[1]) / 2, matrix[2], matrix[3]])
    np.testing.assert_allclose(dense(sparse(matrix).averaged(rows, valid)), expected, atol=1e-7)


def test_averaging_many_rows_goes_in_pieces() -> None:
    eye = np.eye(2, dtype=np.float32)
    rows = np.tile([[0, 1], [1, 1]], (1500, 1))
    averaged = dense(sparse(eye).averaged(rows, rows >= 0))
    np.testing.assert_array_equal(averaged, np.tile([[0.5, 0.5], [0, 1]], (1500, 1)))


def test_shared_mass_is_the_sum_of_minima_by_hand() -> None:
    matrix = np.array([[0.5, 0.5, 0, 0], [0, 0.2, 0.8, 0], [0, 0, 0, 1]], np.float32)
    shared = sparse(matrix).transposed().shared_mass(np.array([1, 2]), np.array([0.4, 0.6], np.float32))
    np.testing.assert_allclose(shared, [0.4, 0.2 + 0.6, 0], atol=1e-7)
