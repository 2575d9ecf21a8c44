"""Distances to accept at: for a share of false matches among pairs, and for a gallery of N people (open set).

Thresholds are chosen on one half of the people and tried on the other. Intervals are bootstraps over the people whom
the queries show (pairs of one query hang together), or over random galleries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from exporter.pairs import Pairs
from glimpse.calibration import GalleryThreshold, RateThreshold
from glimpse.open_set import Searches, false_positives, misses, search_people, threshold_at
from glimpse.parts import Float32
from trainer.evaluation.features import LabelledFeatures

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

RATES = (1e-2, 1e-3, 1e-4)
FPIRS = (0.01, 0.1)
FEWEST_ERRORS = 10
"""False matches that a rate must allow on the pairs at hand, or no threshold is told for it."""
RESAMPLES = 200
TRIALS = 50
SMALLEST = 25
_TAILS = (0.025, 0.975)


def rate_thresholds(
    fit: Pairs, held: Pairs, rates: Sequence[float], seed: int
) -> tuple[tuple[RateThreshold, ...], tuple[str, ...]]:
    """Thresholds for false-match rates that the negatives support, and a sentence for each that they do not."""
    found, facts = [], []
    for rate in sorted(rates, reverse=True):
        negatives = fit.different
        if rate * negatives < FEWEST_ERRORS:
            facts.append(
                f"no threshold for a false-match rate of {rate:g}: it needs {math.ceil(FEWEST_ERRORS / rate):,} pairs "
                f"of two people, the fit has {negatives:,.0f}"
            )
            continue
        two = np.flatnonzero(~fit.same)
        two = two[np.argsort(fit.distance[two], kind="stable")]
        chosen = _quantile(fit.distance[two], fit.weight[two], rate)
        again = [_quantile(fit.distance[two], weight[two], rate) for weight in _resampled(fit, seed)]
        rates_again = [_accepted(held, chosen, weight, False) for weight in _resampled(held, seed)]
        low, high = np.quantile(again, _TAILS).tolist()
        rate_low, rate_high = np.quantile(rates_again, _TAILS).tolist()
        found.append(
            RateThreshold(
                false_match_rate=rate,
                distance=chosen,
                low=low,
                high=high,
                held_out_rate=_accepted(held, chosen, held.weight, False),
                held_out_low=rate_low,
                held_out_high=rate_high,
                held_out_found=_accepted(held, chosen, held.weight, True),
            )
        )
    return tuple(found), tuple(facts)


def gallery_thresholds(
    query: LabelledFeatures,
    gallery: LabelledFeatures,
    fit_people: Int64,
    sizes: Sequence[int],
    fpirs: Sequence[float],
    seed: int,
) -> tuple[tuple[GalleryThreshold, ...], tuple[str, ...]]:
    """Thresholds for galleries of N people (`glimpse.open_set`), and a sentence for each that cannot be told.

    Args:
        fit_people: who chooses the threshold; all others are for trying it.
        sizes: N that are asked for beside 25, 50, 100, ... up to half the fit; larger ones, and those that have too few
            strangers, are extrapolated from all people.
    """
    searches = search_people(
        query.features, gallery.features, query.people, gallery.people, query.cameras, gallery.cameras
    )
    who = np.unique(query.people[searches.rows])  # the columns
    own = np.isin(who, fit_people)
    fit, held = np.flatnonzero(own).astype(np.int64), np.flatnonzero(~own).astype(np.int64)
    largest = min(len(fit), len(held)) // 2
    ladder = {SMALLEST * 2**step for step in range(12) if SMALLEST * 2**step <= largest} or {largest}
    found, facts = [], []
    for people in sorted(ladder | set(sizes)):
        for fpir in fpirs:
            one = _drawn(searches, fit, held, people, fpir, seed) if people <= largest else None
            one = one or _extrapolated(searches, people, fpir, seed)
            if one is not None:
                found.append(one)
            else:
                facts.append(
                    f"no threshold for FPIR {fpir:g} at {people:,} people: {searches.people:,} people and "
                    f"{len(searches):,} searches are too few to tell"
                )
    return tuple(found), tuple(facts)


def _drawn(searches: Searches, fit: Int64, held: Int64, people: int, fpir: float, seed: int) -> GalleryThreshold | None:
    """N people of the fit enrolled at random, again and again; the others are strangers."""
    mine, others = searches.of_people(fit), searches.of_people(held)
    thresholds = []
    for trial in range(TRIALS):
        random = np.random.default_rng([seed, trial])
        among = mine.enrolling(random.permutation(fit)[:people])
        strangers, _ = among.where(~among.mated).nearest()
        if math.floor(fpir * len(strangers) + 1e-9) < 2:
            return None
        thresholds.append(max(threshold_at(strangers, fpir), 0.0))
    chosen = float(np.median(thresholds))
    low, high = np.quantile(thresholds, _TAILS).tolist()
    rates = []
    for trial in range(TRIALS):
        random = np.random.default_rng([seed, trial])
        among = others.enrolling(random.permutation(held)[:people])
        rates.append((false_positives(among, chosen).mean(), misses(among, chosen).mean()))
    held_fpir, held_fnir = np.mean(rates, axis=0).tolist()
    return GalleryThreshold(
        people=people, fpir=fpir, distance=chosen, low=low, high=high, held_out_fpir=held_fpir, held_out_fnir=held_fnir
    )


def _extrapolated(searches: Searches, people: int, fpir: float, seed: int) -> GalleryThreshold | None:
    """By FPIR(N, T) = 1 - (1 - FPIR(1, T))^N, FPIR(1, T) being the share of wrong people at T or less."""
    wrong = np.arange(searches.people) != searches.mate[:, None]  # [S, I]
    order = np.argsort(searches.distance[wrong], kind="stable")
    distance, who = searches.distance[wrong][order], np.nonzero(wrong)[0][order]
    each = -math.expm1(math.log1p(-fpir) / people)
    if each * len(distance) < FEWEST_ERRORS:
        return None
    chosen = _quantile(distance, np.ones(len(distance)), each)
    again = [_quantile(distance, drawn[who], each) for drawn in _draws(searches.mate, seed)]
    low, high = np.quantile(again, _TAILS).tolist()
    return GalleryThreshold(people=people, fpir=fpir, distance=chosen, low=low, high=high, extrapolated=True)


def _quantile(distance: Float32, weight: Float64, rate: float) -> float:
    """The largest distance at which at most ``rate`` of the weight is accepted; distances ascend."""
    share = np.cumsum(weight)
    beyond = int(np.searchsorted(share, rate * share[-1] * (1 + 1e-12), side="right"))
    if beyond >= len(distance):
        return 2.0
    below = float(np.nextafter(distance[beyond], np.float32(-np.inf)))
    return min(max(below, 0.0), 2.0)


def _accepted(pairs: Pairs, threshold: float, weight: Float64, same: bool) -> float:
    """Share of the pairs of one person, or of two, at the threshold or less."""
    mass = weight[pairs.same == same]
    return float(mass[pairs.distance[pairs.same == same] <= threshold].sum() / mass.sum())


def _resampled(pairs: Pairs, seed: int) -> Iterator[Float64]:
    """Weights of the pairs when the people whom the queries show are drawn again, with replacement."""
    for drawn in _draws(pairs.query_people, seed):
        weight = pairs.weight * drawn
        if weight[pairs.same].sum() > 0 and weight[~pairs.same].sum() > 0:
            yield weight


def _draws(labels: Int64, seed: int) -> Iterator[Float64]:
    """How often each row counts when the labels are drawn again, with replacement."""
    kinds, place = np.unique(labels, return_inverse=True)
    random = np.random.default_rng([seed, 2])
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(len(kinds), size=len(kinds)), minlength=len(kinds))
        yield drawn[place].astype(np.float64)
