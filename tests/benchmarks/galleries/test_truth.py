"""The right answers are the oracle's, and wrong rankings are noticed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.galleries.generator import GallerySpec, gallery_problem
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.truth import DEPTH, ranked, recall, truth, unlike
from glimpse.distance import pairwise


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    spec = GallerySpec(items=700, parts=4, dim=16, queries=4, prior=0.3)
    return gallery_problem(spec, tmp_path_factory.mktemp("cache"))


def test_the_truth_is_the_oracles_order(problem: SearchProblem):
    found = truth(problem)
    distance = pairwise(problem.queries, problem.features(np.arange(len(problem)))).distance
    order = np.argsort(distance, axis=1, kind="stable")[:, :DEPTH]
    assert unlike(list(found.rows), order, np.take_along_axis(distance, order, 1)) == 0
    assert np.array_equal(found.distance, np.take_along_axis(distance, order, 1))
    assert (problem.folder / "truth.npz").is_file()


def test_the_truth_of_a_few_items_names_only_those(problem: SearchProblem):
    allowed = np.zeros(len(problem), np.bool_)
    allowed[[3, 40, 500]] = True
    found = ranked(problem, problem.queries[:2], allowed)
    assert sorted(found.rows[0, :3].tolist()) == [3, 40, 500]
    assert (found.rows[:, 3:] == -1).all()
    assert np.isnan(found.distance[:, 3:]).all()


def test_recall_counts_what_was_found_of_the_first():
    right = np.array([[1, 2, 3, 4], [5, 6, -1, -1]])
    found = [np.array([4, 9, 1, 2]), np.array([6, 5])]
    assert recall(found, right, 2).tolist() == [0.0, 1.0]
    assert recall(found, right, 4).tolist() == [0.75, 1.0]


def test_equal_distances_may_stand_in_any_order_and_others_may_not():
    right, distance = np.array([[1, 2, 3]]), np.array([[0.1, 0.1, 0.2]], np.float32)
    assert unlike([np.array([2, 1, 3])], right, distance) == 0
    assert unlike([np.array([1, 3, 2])], right, distance) == 1
    assert unlike([np.array([1, 2])], right, distance) == 1
    assert unlike([np.array([1, 2, 7])], right, distance) == 1
