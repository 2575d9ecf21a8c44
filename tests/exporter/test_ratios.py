"""Fits of the likelihood ratio, the pairs they see, and whether their probabilities are right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.pairs import CalibrationError, Pairs, halve, people_of, take_pairs
from exporter.ratios import FITS, fit_isotonic, fit_logistic, log_loss, prior_loss
from exporter.reliability import ece_of, measure_reliability, reliability_bins
from glimpse.calibration import RatioTable
from glimpse.distance import pairwise
from tests.exporter.people import extraction, gaussian_log_ratio, gaussian_pairs


@pytest.mark.parametrize("name", FITS)
def test_every_fit_is_monotone_in_the_distance_even_on_noise_and_on_the_reverse(name: str) -> None:
    pairs = gaussian_pairs(2_000)
    shuffled = replace(pairs, same=np.random.default_rng(3).permutation(pairs.same))
    reverse = replace(pairs, distance=(np.float32(1.6) - pairs.distance).clip(0, 2))
    for some in (pairs, shuffled, reverse):
        table = FITS[name].fit(some)
        assert table is not None
        assert np.isfinite(table.log_ratio).all()
        assert (np.diff(table.log_ratio, axis=1) <= 0).all()
        grid = table(np.linspace(0, 2, 301)[:, None], np.linspace(0, 1, 11)[None])
        assert (np.diff(grid, axis=0) <= 1e-9).all()


def test_logistic_finds_the_true_likelihood_ratio_at_every_evidence() -> None:
    table = fit_logistic(gaussian_pairs(20_000))
    for joint in (0.2, 0.5, 0.9):
        distance = np.array([0.7, 0.8, 0.9])
        truth = gaussian_log_ratio(distance, np.array(joint))
        np.testing.assert_allclose(table(distance, joint), truth, atol=0.35)


@pytest.mark.parametrize("name", FITS)
def test_every_fit_is_close_to_the_truth_in_log_loss(name: str) -> None:
    fit, fresh = gaussian_pairs(8_000), gaussian_pairs(8_000, seed=1)
    table = FITS[name].fit(fit)
    assert table is not None
    nodes = np.linspace(0, 2, 200), np.linspace(0, 1, 200)
    truth = RatioTable(*nodes, gaussian_log_ratio(nodes[0][None], nodes[1][:, None]))
    best = log_loss(truth, fresh, 0.1)
    assert best <= log_loss(table, fresh, 0.1) < (1.5 if name == "isotonic-1" else 1.12) * best
    assert best < 0.75 * prior_loss(0.1)


def test_bins_of_evidence_beat_the_distance_alone_where_evidence_matters() -> None:
    fit, fresh = gaussian_pairs(8_000), gaussian_pairs(8_000, seed=1)
    alone, binned = fit_isotonic(fit), fit_isotonic(fit, 5)
    assert alone is not None
    assert binned is not None
    assert log_loss(binned, fresh, 0.5) < 0.97 * log_loss(alone, fresh, 0.5)


def test_a_run_without_strangers_is_no_certainty() -> None:
    pairs = gaussian_pairs(2_000, apart=1.6)
    sure = replace(pairs, joint=np.ones_like(pairs.joint), distance=np.where(pairs.same, 0.2, 0.9).astype(np.float32))
    table = fit_isotonic(sure)
    assert table is not None
    # All 400 against half a pair of 1,600.5.
    assert table(0.2, 1.0) == pytest.approx(np.log(400.5 / 400.5) - np.log(0.5 / 1600.5), abs=1e-3)


def test_too_few_pairs_for_a_bin_give_no_fit() -> None:
    assert fit_isotonic(gaussian_pairs(400), 5) is None
    constant = replace(gaussian_pairs(), joint=np.ones(4_000, np.float32))
    assert fit_isotonic(constant, 3) is None
    assert fit_logistic(constant).joint.tolist() == [1.0]


def test_log_loss_of_knowing_nothing_is_the_priors_own() -> None:
    nothing = RatioTable(np.array([0.0, 2.0]), np.array([0.5]), np.zeros((1, 2)))
    for prior in (0.5, 0.01):
        assert log_loss(nothing, gaussian_pairs(), prior) == pytest.approx(prior_loss(prior))


def test_pairs_are_those_of_two_cameras_with_the_oracles_distances() -> None:
    made = extraction(24)
    people = people_of(made.query, made.gallery)[:10]
    pairs = take_pairs(made.query, made.gallery, people, 0)
    truth = pairwise(made.query.features, made.gallery.features)
    inside = np.isin(made.query.people, people)[:, None] & np.isin(made.gallery.people, people)[None]
    inside &= made.query.cameras[:, None] != made.gallery.cameras[None]
    same = made.query.people[:, None] == made.gallery.people[None]
    assert len(pairs) == inside.sum() == pairs.weight.sum()
    assert pairs.same.sum() == (same & inside).sum()
    for kind in (True, False):
        chosen = inside & (same == kind)
        mine = pairs.same == kind
        np.testing.assert_allclose(np.sort(pairs.distance[mine]), np.sort(truth.distance[chosen]), atol=1e-5)
        np.testing.assert_allclose(np.sort(pairs.joint[mine]), np.sort(truth.joint_visibility[chosen]), atol=1e-6)


def test_hard_negatives_are_all_kept_and_the_rest_is_weighed_back() -> None:
    made = extraction(60)
    people = people_of(made.query, made.gallery)
    everything = take_pairs(made.query, made.gallery, people, 0)
    some = take_pairs(made.query, made.gallery, people, 0, hard=10, easy=30)
    assert len(some) < len(everything) / 2
    assert some.different == pytest.approx(everything.different)
    assert some.same.sum() == everything.same.sum()
    tail = np.quantile(everything.distance[~everything.same], 0.005)
    close = (everything.distance <= tail) & ~everything.same
    assert ((some.distance <= tail) & ~some.same).sum() == close.sum()
    mean = np.average(some.distance[~some.same], weights=some.weight[~some.same])
    assert mean == pytest.approx(everything.distance[~everything.same].mean(), abs=0.01)


def test_halves_share_nobody_and_depend_on_the_seed() -> None:
    people = np.arange(41)
    one, other = halve(people, 0)
    assert not set(one) & set(other)
    assert sorted([*one, *other]) == people.tolist()
    assert (len(one), len(other)) == (20, 21)
    np.testing.assert_array_equal(halve(people, 0)[0], one)
    assert not np.array_equal(halve(people, 1)[0], one)


def test_nothing_comparable_is_told() -> None:
    made = extraction(24)
    hidden = type(made.query.features).trusted(
        made.query.features.vectors, np.zeros_like(made.query.features.visibility), made.query.features.schema
    )
    with pytest.raises(CalibrationError, match=r"no pair of one person .* can be compared \([\d,]+ pairs share"):
        take_pairs(replace(made.query, features=hidden), made.gallery, np.arange(24), 0)


def two_by_two(ratio: float) -> tuple[RatioTable, Pairs]:
    """Pairs at two distances: of the near, 3 of 4 of one person, of the far, 1 of 4; and a table that says +-ratio."""
    distance = np.repeat(np.array([0.2, 0.8], np.float32), 4)
    same = np.array([True, True, True, False, True, False, False, False])
    who = np.arange(8)
    pairs = Pairs(distance, np.full(8, 0.6, np.float32), same, np.ones(8), who, who)
    return RatioTable(np.array([0.2, 0.8]), np.array([0.6]), np.array([[ratio, -ratio]])), pairs


def test_expected_calibration_error_by_hand() -> None:
    right, pairs = two_by_two(np.log(3))
    assert ece_of(reliability_bins(right, pairs, 0.5)) == pytest.approx(0, abs=1e-6)
    sure, _ = two_by_two(np.log(9))  # says 0.9 and 0.1 where 0.75 and 0.25 are true
    bins = reliability_bins(sure, pairs, 0.5)
    assert [(round(b.predicted, 5), round(b.observed, 9), b.same) for b in bins] == [(0.1, 0.25, 1), (0.9, 0.75, 3)]
    assert ece_of(bins) == pytest.approx(0.15, abs=1e-6)


def test_reliability_is_told_by_evidence_and_under_the_stated_prior() -> None:
    fit, fresh = gaussian_pairs(8_000), gaussian_pairs(8_000, seed=1)
    found = measure_reliability(fit_logistic(fit), fresh, 0.1)
    assert found.ece < 0.03
    assert found.ece_stated < 0.02
    assert [(row.low, row.high) for row in found.evidence] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert sum(row.same for row in found.evidence) == fresh.same.sum()
    assert sum(row.different for row in found.evidence) == (~fresh.same).sum()
    losses = [row.log_loss for row in found.evidence if row.log_loss is not None]
    assert losses == sorted(losses, reverse=True)  # the more is seen, the more is known
    flat = RatioTable(np.array([0.0, 2.0]), np.array([0.5]), np.array([[3.0, 3.0]]))
    assert measure_reliability(flat, fresh, 0.1).ece > 0.4
