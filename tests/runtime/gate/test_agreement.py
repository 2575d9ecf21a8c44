"""Ranking agreement against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.runtime.gate.agreement import agreement, paired_interval, rank
from glimpse.runtime.gate.verdict import weighted_cosines

ONE = PartSchema((Part("global", 2, always_visible=True),))
TWO = PartSchema((Part("global", 2, always_visible=True), Part("legs", 2)))


def at(*degrees: float) -> PartFeatures:
    angles = np.radians(np.array(degrees))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return PartFeatures(vectors, np.ones((len(vectors), 1), np.float32), ONE)


def test_rankings_are_those_of_the_distances() -> None:
    gallery = at(0, 20, 50, 90)
    found = rank(at(10.1, 60), gallery, np.array([0, 1]), np.array([0, 1, 0, 1]))
    assert found.first.tolist() == [[1, 0, 2, 3], [2, 3, 1, 0]]
    assert found.hit.tolist() == [False, False]
    np.testing.assert_allclose(found.precision, [(1 / 2 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2])


def test_agreement_counts_what_changed() -> None:
    gallery, people, others = at(0, 20, 50, 90), np.array([0, 1]), np.array([0, 1, 0, 1])
    before = rank(at(5, 85), gallery, people, others)
    after = rank(at(15, 85), gallery, people, others)
    assert agreement(before, before).mAP_drop == 0
    compared = agreement(before, after)
    assert compared.top1 == 0.5
    assert compared.top10 == 1.0  # all four items are among the first ten
    assert compared.rank1_drop == 0.5
    np.testing.assert_allclose(compared.mAP_drop, ((1 + 2 / 3) / 2 - (1 / 2 + 2 / 3) / 2) / 2)
    assert compared.mAP_drop_interval[0] <= compared.mAP_drop <= compared.mAP_drop_interval[1]


def test_the_interval_of_a_difference_resamples_people_not_queries() -> None:
    random = np.random.default_rng(1)
    each = random.normal(0.1, 1.0, 400)
    alone = paired_interval(each, np.arange(400))
    half_width = (alone[1] - alone[0]) / 2
    np.testing.assert_allclose(half_width, 1.96 * each.std() / 20, rtol=0.1)
    # The same four queries for each person are no more evidence than one.
    repeated = paired_interval(np.repeat(each, 4), np.repeat(np.arange(400), 4))
    np.testing.assert_allclose(repeated, alone, atol=0.02)


def test_a_hidden_part_does_not_count_and_a_half_seen_one_counts_half() -> None:
    whole = at(0, 0, 0).vectors
    turned = at(60, 60, 60).vectors  # cosine 0.5
    seen = np.array([[1, 0], [1, 0.5], [1, 0.25]], np.float32)
    reference = PartFeatures(np.concatenate([whole, whole], axis=1), seen, TWO)
    features = PartFeatures(np.concatenate([whole, turned], axis=1), seen, TWO)
    assert weighted_cosines(reference, features) == pytest.approx([1.0, 0.75])


def test_a_seen_part_that_came_out_as_zeros_is_no_match() -> None:
    whole = at(0).vectors
    seen, unseen = np.array([[1, 1]], np.float32), np.array([[1, 0]], np.float32)
    reference = PartFeatures(np.concatenate([whole, whole], axis=1), seen, TWO)
    features = PartFeatures(np.concatenate([whole, 0 * whole], axis=1), unseen, TWO)
    assert weighted_cosines(reference, features) == pytest.approx([1.0, 0.0])
