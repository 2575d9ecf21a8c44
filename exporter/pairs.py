"""Pairs of images for calibration: all pairs of one person, and pairs of two people with the hard ones whole.

A pair is a query and an item by another camera: what a search compares. Pairs of one camera share a scene and are left
out on both sides. Of the pairs of two people only the closest decide a threshold, and most are far apart: each query
keeps its hardest negatives, all of them, and of the rest a random sample, every pair of which stands for several
(``weight``). Weighted sums are those over all pairs, so nothing is tilted towards the hard ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32
from glimpse.scan import DistanceScan, query_blocks
from trainer.evaluation.features import LabelledFeatures

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

HARD = 200
"""Closest negatives of a query that are all kept."""
EASY = 200
"""Others, drawn at random."""
FEWEST_PEOPLE = 20


class CalibrationError(ValueError):
    """Data that no calibration can be made of; the message says what is missing."""


@dataclass(frozen=True)
class Pairs:
    """n comparable pairs."""

    distance: Float32
    """float32 ``(n,)`` in [0, 2]."""
    joint: Float32
    """float32 ``(n,)``: joint visibility in [0, 1]."""
    same: Bool
    """bool ``(n,)``: of one person."""
    weight: Float64
    """float64 ``(n,)``: how many pairs each stands for."""
    query_people: Int64
    item_people: Int64
    incomparable: int = 0
    """Pairs without a distance, left out."""

    def __len__(self) -> int:
        return len(self.distance)

    @property
    def people(self) -> Int64:
        """Whom the queries show, ascending."""
        return np.unique(self.query_people)

    @property
    def different(self) -> float:
        """Pairs of two people, with those that the drawn ones stand for."""
        return float(self.weight[~self.same].sum())

    @property
    def balanced(self) -> Float64:
        """float64 ``(n,)``: weights that sum to 1/2 over the pairs of one person and to 1/2 over those of two."""
        return self.under(0.5)

    def under(self, prior: float) -> Float64:
        """float64 ``(n,)``: weights that sum to ``prior`` over the pairs of one person and to the rest over others."""
        of_one, of_two = self.weight[self.same].sum(), self.weight[~self.same].sum()
        return np.asarray(self.weight * np.where(self.same, prior / of_one, (1 - prior) / of_two), np.float64)

    def among(self, people: Int64) -> Pairs:
        """The pairs both of whose people are among ``people``."""
        chosen = np.isin(self.query_people, people) & np.isin(self.item_people, people)
        return self.where(chosen)

    def where(self, chosen: Bool) -> Pairs:
        """Some of the pairs."""
        return Pairs(
            self.distance[chosen],
            self.joint[chosen],
            self.same[chosen],
            self.weight[chosen],
            self.query_people[chosen],
            self.item_people[chosen],
            self.incomparable,
        )


def people_of(query: LabelledFeatures, gallery: LabelledFeatures) -> Int64:
    """The people that a query shows and the gallery holds by another camera, ascending.

    Raises:
        CalibrationError: all images are by one camera, or there are fewer than 20 such people.
    """
    cameras = np.union1d(query.cameras, gallery.cameras)
    if len(cameras) < 2:
        raise CalibrationError(
            f"all {len(query) + len(gallery):,} images are by camera {cameras[0]}: a calibration needs people seen by "
            "two cameras, or it would learn to recognise the scene"
        )
    found = [
        person
        for person in np.unique(query.people)
        if (gallery.cameras[gallery.people == person][:, None] != query.cameras[query.people == person]).any()
    ]
    if len(found) < FEWEST_PEOPLE:
        raise CalibrationError(
            f"{len(found)} people are seen by one camera in the queries and by another in the gallery; a calibration "
            f"needs at least {FEWEST_PEOPLE}, half of them to fit and half to measure"
        )
    return np.array(found, np.int64)


def halve(people: Int64, seed: int) -> tuple[Int64, Int64]:
    """People to fit on and people to measure on, at random."""
    order = np.random.default_rng([seed, 0]).permutation(people)
    middle = len(order) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


def take_pairs(
    query: LabelledFeatures,
    gallery: LabelledFeatures,
    people: Int64,
    seed: int,
    *,
    hard: int = HARD,
    easy: int = EASY,
) -> Pairs:
    """Pairs among some people.

    Args:
        people: queries and items of others take no part.
        seed: of the draw of easy negatives.
        hard: negatives a query that are kept for being closest.
        easy: negatives a query that are drawn from the others.

    Raises:
        CalibrationError: no pair of one person, or none of two, can be compared.
    """
    asked, items = np.flatnonzero(np.isin(query.people, people)), np.flatnonzero(np.isin(gallery.people, people))
    scan = DistanceScan(gallery.features[items])
    draw = np.random.default_rng([seed, 1])
    pieces: list[tuple[Float32, Float32, Bool, Float64, Int64, Int64]] = []
    incomparable = 0
    for block in query_blocks(len(asked), len(items)):
        distances = scan(query.features[asked[block]])  # [B, G]
        for row, found in zip(asked[block], distances, strict=True):
            across = gallery.cameras[items] != query.cameras[row]
            incomparable += int(np.count_nonzero(across & np.isnan(found)))
            comparable = across & ~np.isnan(found)
            own = gallery.people[items] == query.people[row]
            mates = np.flatnonzero(comparable & own)
            others, weights = _negatives(np.flatnonzero(comparable & ~own), found, hard, easy, draw)
            columns = np.concatenate([mates, others])
            shared = scan.joint_of(query.features[[row]], columns[None])[0]
            pieces.append(
                (
                    found[columns],
                    shared,
                    np.arange(len(columns)) < len(mates),
                    np.concatenate([np.ones(len(mates)), weights]),
                    np.full(len(columns), query.people[row]),
                    gallery.people[items[columns]],
                )
            )
    distance, joint, same, weight, query_people, item_people = (
        np.concatenate(column) for column in zip(*pieces, strict=True)
    )
    pairs = Pairs(distance, joint, same, weight, query_people, item_people, incomparable)
    for what, some in (("one person", pairs.same), ("two people", ~pairs.same)):
        if not some.any():
            raise CalibrationError(
                f"no pair of {what} by two cameras can be compared ({incomparable:,} pairs share no visible part)"
            )
    return pairs


def _negatives(
    columns: Int64, distance: Float32, hard: int, easy: int, draw: np.random.Generator
) -> tuple[Int64, Float64]:
    """The kept negatives of one query, and how many each stands for."""
    if len(columns) <= hard + easy:
        return columns, np.ones(len(columns))
    order = columns[np.argpartition(distance[columns], hard)]
    rest = draw.choice(order[hard:], easy, replace=False)
    each = (len(columns) - hard) / easy
    return np.concatenate([order[:hard], rest]), np.concatenate([np.ones(hard), np.full(easy, each)])
