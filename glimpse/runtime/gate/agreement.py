"""Do two runtimes rank alike? Ranking agreement of the same queries, with paired differences.

A cosine of 0.99 says little about a ranking, and a mean says nothing about the query that broke. So the rankings
themselves are compared, query by query; the interval of a difference comes from resampling *people*, because the
queries of one person succeed and fail together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.metrics import positive_ranks
from glimpse.parts import PartFeatures
from glimpse.precision import Agreement
from glimpse.scan import DistanceScan

DEPTH = 10
RESAMPLES = 2_000


@dataclass(frozen=True)
class Rankings:
    """How Q queries ranked a gallery."""

    first: NDArray[np.int64]
    """int64 ``(Q, 10)``: the closest items, best first."""
    precision: NDArray[np.float64]
    """float64 ``(Q,)``: average precision."""
    hit: NDArray[np.bool_]
    """bool ``(Q,)``: whether the first item is the person."""
    person: NDArray[np.int64]
    """int64 ``(Q,)``: who was asked for."""


def rank(
    queries: PartFeatures, gallery: PartFeatures, person: NDArray[np.int64], gallery_person: NDArray[np.int64]
) -> Rankings:
    """Ranks the gallery for every query by the visibility-weighted distance; every query has a positive."""
    distances = DistanceScan(gallery)(queries)  # [Q, G]
    first = np.argsort(distances, axis=1, kind="stable")[:, :DEPTH]  # NaN sorts last
    ranks = [positive_ranks(row, gallery_person == who) for row, who in zip(distances, person, strict=True)]
    precision = np.array([(np.arange(1, len(found) + 1) / found).mean() for found in ranks])
    return Rankings(first, precision, np.array([found[0] == 1 for found in ranks]), person)


def agreement(reference: Rankings, other: Rankings) -> Agreement:
    """Compares two rankings of the same queries and the same gallery items."""
    same = [len(np.intersect1d(a, b)) for a, b in zip(reference.first, other.first, strict=True)]
    precision_lost = reference.precision - other.precision  # [Q]
    hits_lost = reference.hit.astype(np.float64) - other.hit
    return Agreement(
        top1=float((reference.first[:, 0] == other.first[:, 0]).mean()),
        top10=float(np.mean(same) / reference.first.shape[1]),
        mAP_drop=float(precision_lost.mean()),
        mAP_drop_interval=paired_interval(precision_lost, reference.person),
        rank1_drop=float(hits_lost.mean()),
        rank1_drop_interval=paired_interval(hits_lost, reference.person),
    )


def paired_interval(
    differences: NDArray[np.float64], group: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean difference: whole groups (people) are drawn with replacement.

    Args:
        differences: ``(Q,)``, one a query.
        group: ``(Q,)``, who belongs together.
    """
    _, place = np.unique(group, return_inverse=True)
    total = np.bincount(place, differences)
    count = np.bincount(place).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(total), (resamples, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high
