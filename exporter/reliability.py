"""Are the probabilities right? Reliability and expected calibration error (ECE), overall and by visible evidence.

    ECE = sum over bins of P(pair in bin) |mean probability in the bin - share of pairs of one person in it|

over ten bins of equal width (Naeini et al., AAAI 2015; Guo et al., ICML 2017), every pair weighted so that pairs of one
person make up the prior's share. A small prior makes nearly every pair a sure "no" and the ECE small for that alone, so
it is given at even odds too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exporter.pairs import Pairs
from exporter.ratios import log_loss
from glimpse.calibration import RatioTable

Float64 = NDArray[np.float64]

BINS = 10
EVEN = 0.5
EVIDENCE_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of joint visibility, as in the open-set figures."""


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of probability."""

    predicted: float
    """Mean probability."""
    observed: float
    """Share of pairs of one person."""
    share: float
    """Of all pairs, under the prior."""
    same: int
    """Pairs of one person in it."""


@dataclass(frozen=True)
class EvidenceReliability:
    """Figures of the pairs of one range of joint visibility; None where one of the two kinds is missing."""

    low: float
    high: float
    same: int
    different: int
    """Pairs of two people, with those that the drawn ones stand for."""
    ece: float | None
    """At even odds overall."""
    ece_stated: float | None
    """Under the stated prior."""
    log_loss: float | None
    """Nats at even odds."""
    bins: tuple[ReliabilityBin, ...]
    """At even odds."""


@dataclass(frozen=True)
class Reliability:
    """How a calibration does on pairs that it was not fitted to."""

    prior: float
    ece: float
    """At even odds."""
    ece_stated: float
    """Under the stated prior."""
    bins: tuple[ReliabilityBin, ...]
    """At even odds."""
    stated_bins: tuple[ReliabilityBin, ...]
    evidence: tuple[EvidenceReliability, ...]


def measure_reliability(table: RatioTable, pairs: Pairs, prior: float) -> Reliability:
    """Figures of some pairs, at even odds and under ``prior``."""
    bins, stated = reliability_bins(table, pairs, EVEN), reliability_bins(table, pairs, prior)
    rows = []
    for low, high in pairwise(EVIDENCE_EDGES):
        # The last range has both its ends.
        inside = (pairs.joint >= low) & ((pairs.joint < high) | (high == EVIDENCE_EDGES[-1]))
        same = int(np.count_nonzero(inside & pairs.same))
        different = round(float(pairs.weight[inside & ~pairs.same].sum()))
        if not same and not different:
            continue
        own = reliability_bins(table, pairs, EVEN, inside)
        told = same > 0 and different > 0
        rows.append(
            EvidenceReliability(
                low,
                high,
                same,
                different,
                ece_of(own) if told else None,
                ece_of(reliability_bins(table, pairs, prior, inside)) if told else None,
                log_loss(table, pairs.where(inside), EVEN) if told else None,
                own,
            )
        )
    return Reliability(prior, ece_of(bins), ece_of(stated), bins, stated, tuple(rows))


def reliability_bins(
    table: RatioTable, pairs: Pairs, prior: float, inside: NDArray[np.bool_] | None = None
) -> tuple[ReliabilityBin, ...]:
    """The bins that any pair falls into.

    Args:
        inside: bool ``(n,)``: the pairs to look at; their weights are still those among all pairs.
    """
    log_odds = table(pairs.distance, pairs.joint) + np.log(prior / (1 - prior))
    probability = np.exp(-np.logaddexp(0, -log_odds))
    weight = pairs.under(prior)
    if inside is not None:
        weight = np.where(inside, weight, 0)
    weight = weight / weight.sum()
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    mass = np.bincount(place, weight, BINS)
    predicted, observed = np.bincount(place, weight * probability, BINS), np.bincount(place, weight * pairs.same, BINS)
    same = np.bincount(place[pairs.same & (weight > 0)], minlength=BINS)
    return tuple(
        ReliabilityBin(float(predicted[b] / mass[b]), float(observed[b] / mass[b]), float(mass[b]), int(same[b]))
        for b in range(BINS)
        if mass[b] > 0
    )


def ece_of(bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error of bins."""
    return float(sum(b.share * abs(b.predicted - b.observed) for b in bins))
