"""Open-set identification: most people that a system is asked about are not in its gallery.

Terms and rates are those of NIST's one-to-many evaluations (IREX; FRVT part 2, Grother et al., NISTIR 8271), with
distances for similarities. N people are *enrolled*, each with one or more items; a *search* is one query against all of
them; it is *mated* when its person is enrolled. A person is as close as the closest of its items.

    FPIR(N, T)    = non-mated searches with somebody at distance T or less      / all non-mated searches
    FNIR(N, R, T) = mated searches whose own person is farther than T, or not
                    among the R closest people                                  / all mated searches

R is N (no limit) unless said: FNIR then misses a person only by the threshold. At R = 1 the closest person has to be
the right one, as in a system that names one person or nobody. Somebody at the mate's distance stands before it. A
person none of whose items can be compared with the query has no distance: never a candidate, a miss where it is the
mate.

As everywhere in re-identification, items by the query's own camera are not enrolled for a mated search: it would find
the same frame. Searches for people without an item by another camera take no part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glimpse.parts import Float32, PartFeatures
from glimpse.scan import DistanceScan, query_blocks

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

STRANGER = -1


@dataclass(frozen=True)
class Searches:
    """S searches against I people, each by the closest of its items."""

    distance: Float32
    """float32 ``(S, I)``; infinite where none of the person's items can be compared."""
    joint: Float32
    """float32 ``(S, I)``: joint visibility with that item (`glimpse.distance`)."""
    mate: Int64
    """int64 ``(S,)``: the column of the search's own person; `STRANGER` where it is not among the columns."""
    rows: Int64
    """int64 ``(S,)``: which query each search is."""

    def __len__(self) -> int:
        return len(self.mate)

    @property
    def people(self) -> int:
        """I."""
        return int(self.distance.shape[1])

    @property
    def mated(self) -> Bool:
        """bool ``(S,)``."""
        return np.not_equal(self.mate, STRANGER)

    def enrolling(self, columns: Int64) -> Searches:
        """The same searches against some of the people only; all others become strangers."""
        place = np.full(self.people + 1, STRANGER)  # the last is that of a stranger, -1
        place[columns] = np.arange(len(columns))
        return replace(self, distance=self.distance[:, columns], joint=self.joint[:, columns], mate=place[self.mate])

    def of_people(self, columns: Int64) -> Searches:
        """The searches for some of the people only, against all."""
        return self.where(np.isin(self.mate, columns))

    def where(self, chosen: Bool) -> Searches:
        """Some of the searches."""
        return Searches(self.distance[chosen], self.joint[chosen], self.mate[chosen], self.rows[chosen])

    def nearest(self) -> tuple[Float32, Float32]:
        """Distance of the closest person, and joint visibility with it; both ``(S,)``, infinite and 0 for nobody."""
        if self.people == 0:
            return np.full(len(self), np.inf, np.float32), np.zeros(len(self), np.float32)
        column = self.distance.argmin(axis=1)[:, None]
        distance = np.take_along_axis(self.distance, column, axis=1)[:, 0]
        joint = np.take_along_axis(self.joint, column, axis=1)[:, 0]
        return distance, np.where(np.isinf(distance), np.float32(0), joint)


def search_people(
    query: PartFeatures,
    gallery: PartFeatures,
    query_people: ArrayLike,
    gallery_people: ArrayLike,
    query_cameras: ArrayLike,
    gallery_cameras: ArrayLike,
    *,
    part_weights: Mapping[str, float] | None = None,
) -> Searches:
    """Every query against every person that some query shows and the gallery holds by another camera.

    Other items (distractors, junk) are not enrolled. Distances are those of `glimpse.scan`; nothing of Q x G is kept.

    Raises:
        ValueError: labels do not fit the features, or no query shows a person that the gallery holds by another camera.
    """
    who, whom = np.asarray(query_people), np.asarray(gallery_people)
    by, seen_by = np.asarray(query_cameras), np.asarray(gallery_cameras)
    for side, features, labels in (("query", query, (who, by)), ("gallery", gallery, (whom, seen_by))):
        for label in labels:
            if label.shape != (len(features),):
                raise ValueError(f"{side} labels must be one row of {len(features)}, got {label.shape}")
    matched = np.array([bool(((whom == who[q]) & (seen_by != by[q])).any()) for q in range(len(query))], bool)
    if not matched.any():
        raise ValueError(
            f"none of {len(query)} queries shows a person whom the gallery of {len(gallery)} items holds by another "
            "camera: check the person and camera ids"
        )
    rows = np.flatnonzero(matched)
    people, mate = np.unique(who[rows], return_inverse=True)
    groups = [np.flatnonzero(whom == person) for person in people]
    distance = np.empty((len(rows), len(people)), np.float32)
    item = np.zeros((len(rows), len(people)), np.int64)
    scan = DistanceScan(gallery, part_weights)
    for block in query_blocks(len(rows), len(gallery)):
        found = scan(query[rows[block]])
        found[np.isnan(found)] = np.inf
        for column, items in enumerate(groups):
            among = found[:, items]  # [B, items of the person]
            own = mate[block] == column
            among[own[:, None] & (seen_by[items] == by[rows[block]][:, None])] = np.inf
            best = among.argmin(axis=1)
            distance[block, column] = among[np.arange(len(among)), best]
            item[block, column] = items[best]
    return Searches(distance, scan.joint_of(query[rows], item), mate.astype(np.int64), rows)


def threshold_at(strangers: Float32, fpir: float) -> float:
    """The largest distance T to accept such that FPIR(N, T) is at most ``fpir``.

    Args:
        strangers: ``(M,)``: the distance of the closest person in each non-mated search.
        fpir: in (0, 1]; M must be at least 1 / fpir, or one false positive would be too many.

    Raises:
        ValueError: ``fpir`` is out of range or M too small.
    """
    if not 0 < fpir <= 1:  # also refuses NaN
        raise ValueError(f"fpir must be within (0, 1], got {fpir}")
    allowed = math.floor(fpir * len(strangers) + 1e-9)
    if allowed < 1:
        raise ValueError(
            f"an FPIR of {fpir:g} needs at least {math.ceil(1 / fpir - 1e-9)} non-mated searches, got {len(strangers)}"
        )
    ordered = np.sort(strangers)
    farthest = ordered[allowed] if allowed < len(ordered) else np.float32(np.inf)
    return min(float(np.nextafter(farthest, np.float32(-np.inf))), 2.0)


def false_positives(searches: Searches, threshold: float) -> Bool:
    """Which non-mated searches find somebody, bool ``(M,)`` in their order."""
    distance, _ = searches.where(~searches.mated).nearest()
    return distance <= threshold


def misses(searches: Searches, threshold: float, rank: int | None = None) -> Bool:
    """Which mated searches miss their person, bool ``(M,)`` in their order; ``rank`` is R, None for N."""
    mated = searches.where(searches.mated)
    own = np.take_along_axis(mated.distance, mated.mate[:, None], axis=1)  # [M, 1]
    missed = (own[:, 0] > threshold) | np.isinf(own[:, 0])
    if rank is not None:
        missed |= (mated.distance <= own).sum(axis=1) > rank  # its own distance is one of them
    return missed
