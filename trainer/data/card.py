"""The card of a data set: what it is, how large it should be, whose it is, and how it is evaluated.

A card turns images that were read into a `Listing` or a `TrainingListing`, whose facts say what was found against what
was expected, and refuses what cannot be evaluated or trained on at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainer.data.listing import DatasetError, ImageSet, Int64, Listing, TrainingListing, joined

NOT_WHOLE = "not the whole set"
NO_INPUT = "camera ids are no input of the model"
REAL_CAMERAS = f"single query; same person and same camera left out; {NO_INPUT}"
DUMMY_CAMERAS = (
    f"single query; no camera ids: queries count as camera 0, the gallery as camera 1, so nothing is left out; "
    f"{NO_INPUT}"
)
RESEARCH = "for academic research only; not to be redistributed"


@dataclass(frozen=True, slots=True)
class Count:
    """How many images of how many people; a distractor without a person is no person."""

    images: int
    people: int

    def __str__(self) -> str:
        return f"{self.images:,} of {self.people:,}"

    @classmethod
    def of(cls, images: ImageSet, distractor: int | None = None) -> Count:
        """Of a set; junk and the distractor are no people."""
        people = set(np.unique(images.people).tolist()) - {distractor}
        return cls(len(images), sum(person >= 0 for person in people))


@dataclass(frozen=True)
class Card:
    """What a data set is; one beside the code that reads it."""

    title: str
    source: str
    """Who made it, where it was published."""
    licence: str
    protocol: str
    """Cameras, what is left out, seeds and trials: goes into the facts of every evaluation."""
    layout: str
    """Folders and names that are read."""
    expected: Mapping[str, Count] = field(default_factory=dict)
    """``train``, ``query``, ``gallery`` or ``all`` (queries and gallery together) of the whole set, where known."""
    distractor: int | None = None
    """A person number of the gallery that stands for nobody in particular."""

    def listing(self, name: str, query: ImageSet, gallery: ImageSet, *facts: str) -> Listing:
        """Queries and gallery with the facts of this card, counts and skipped queries first.

        Raises:
            DatasetError: a side is empty, or no query has a positive in the gallery.
        """
        for side, images in (("query", query), ("gallery", gallery)):
            if not len(images):
                raise DatasetError(f"{self.title}: the {side} is empty")
        answered = answerable(query, gallery)
        if not answered.any():
            raise DatasetError(
                f"{self.title}: none of the {len(query):,} queries has an image of its person in the gallery that is "
                "not by its own camera"
            )
        skipped = int((~answered).sum())
        missing = (f"{skipped:,} queries have no positive left in the gallery and are skipped",) if skipped else ()
        return Listing(name, query, gallery, (*self.sides(query, gallery), *missing, self.protocol, *facts))

    def training(self, name: str, images: ImageSet, *facts: str) -> TrainingListing:
        """Training images, without junk, with the facts of this card.

        Raises:
            DatasetError: fewer than two people.
        """
        kept = images.take(np.flatnonzero(images.people >= 0))
        junk = (f"{len(images) - len(kept):,} junk images left out",) if len(kept) < len(images) else ()
        if len(np.unique(kept.people)) < 2:
            raise DatasetError(
                f"{self.title}: training needs images of at least 2 people, got {len(kept):,} images of "
                f"{len(np.unique(kept.people))}"
            )
        single, one_camera = lonely(kept)
        facts = (*facts, f"{single:,} people have a single image, {one_camera:,} further people only one camera")
        return TrainingListing(name, kept, (*self.counted({"train": kept}), *junk, *facts))

    def sides(self, query: ImageSet, gallery: ImageSet) -> tuple[str, ...]:
        """`counted` of queries and gallery, and of both together where that is what is known of the set."""
        both = {"all": joined((query, gallery))} if "all" in self.expected else {}
        return self.counted({"query": query, "gallery": gallery, **both})

    def counted(self, parts: Mapping[str, ImageSet]) -> tuple[str, ...]:
        """One fact a part: images and people found against expected."""
        facts = []
        for part, images in parts.items():
            found, expected = Count.of(images, self.distractor), self.expected.get(part)
            fact = f"{part}: {found.images:,} images of {found.people:,} people"
            if expected is not None and found == expected:
                fact += ", as expected"
            elif expected is not None:
                fact += f"; {NOT_WHOLE}: expected {expected.images:,} of {expected.people:,}"
            facts.append(fact)
        return tuple(facts)


def answerable(query: ImageSet, gallery: ImageSet) -> NDArray[np.bool_]:
    """Bool ``(Q,)``: whether a query's person is in the gallery by another camera; never true of junk."""
    seen: dict[int, set[int]] = {}
    for person, camera in _pairs(gallery.people, gallery.cameras):
        seen.setdefault(person, set()).add(camera)
    own = zip(query.people.tolist(), query.cameras.tolist(), strict=True)
    return np.array([person >= 0 and bool(seen.get(person, set()) - {camera}) for person, camera in own], np.bool_)


def lonely(images: ImageSet) -> tuple[int, int]:
    """People with a single image, and people with several, but all by one camera."""
    people, counts = np.unique(images.people, return_counts=True)
    cameras = dict.fromkeys(people.tolist(), 0)
    for person, _ in _pairs(images.people, images.cameras):
        cameras[person] += 1
    single = int((counts == 1).sum())
    return single, sum(count == 1 for count in cameras.values()) - single


def _pairs(people: Int64, cameras: Int64) -> Iterable[tuple[int, int]]:
    """Every (person, camera) that occurs, once."""
    pairs = np.unique(np.stack([people, cameras], axis=1), axis=0)  # [M, 2]
    return (tuple(pair) for pair in pairs.tolist())
