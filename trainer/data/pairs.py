"""Sets of two kinds of images, occluded or partial ones and whole ones, without cameras.

The kinds are folders, with a folder a person inside or the person's number first in the file names; a second number in
a name counts images and is no camera. Queries count as camera 0 and the gallery as camera 1: were it one dummy camera,
the rule "same person and same camera is left out" would leave out every positive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.data.bounding_boxes import pictures
from trainer.data.card import Card
from trainer.data.halves import TRIALS, half, half_fact, take_people
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing, files, joined

OCCLUDED, WHOLE, PARTIAL = "occluded_body_images", "whole_body_images", "partial_body_images"
_PERSON = re.compile(r"(\d+)(?:\D.*)?")


@dataclass(frozen=True)
class PairFolders:
    """How one data set names its kinds of images."""

    title: str
    names: tuple[str, ...]
    """What the data set's own folder is called, where the one above it was given."""
    kinds: Mapping[str, tuple[str, ...]]
    """Folders that may hold each kind, relative to the data set's own."""

    def read(self, path: str, wanted: Sequence[str]) -> list[ImageSet]:
        """The images of each wanted kind; the first kind counts as camera 0, the next as camera 1.

        Raises:
            DatasetError: a folder is missing or empty, or an image does not say whom it shows.
        """
        given = Path(path).expanduser()
        places = [given, *(given / name for name in self.names)]
        found = [{kind: self._folder(place, kind) for kind in wanted} for place in places]
        best = max(range(len(places)), key=lambda i: sum(folder is not None for folder in found[i].values()))
        lacking = [kind for kind, folder in found[best].items() if folder is None]
        if lacking:
            folders = " and ".join(" or ".join(self.kinds[kind]) for kind in lacking)
            held = f", there or in one of {list(self.names)}" if given.is_dir() else "; there is no such folder"
            raise DatasetError(f"{self.title} was looked for in {places[best]}: expected {folders}{held}")
        return [
            self._images(places[best], folder, camera)
            for camera, folder in enumerate(found[best].values())
            if folder is not None
        ]

    def _folder(self, place: Path, kind: str) -> Path | None:
        return next((place / name for name in self.kinds[kind] if (place / name).is_dir()), None)

    def _images(self, root: Path, folder: Path, camera: int) -> ImageSet:
        paths, people = [], []
        for path in pictures(folder):
            paths.append(path)
            people.append(self._person(path, path.stem))
        for inner in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
            if inner.startswith("."):
                continue
            person = self._person(folder / inner, inner)
            for path in pictures(folder / inner):
                named = _PERSON.fullmatch(path.stem)
                if named and int(named[1]) != person:
                    raise DatasetError(
                        f"{self.title}: {path.relative_to(root)} says person {int(named[1])} in the folder of {person}"
                    )
                paths.append(path)
                people.append(person)
        if not paths:
            raise DatasetError(f"{self.title}: {folder} holds no images")
        return files(paths, root, people, [camera] * len(paths))

    def _person(self, path: Path, name: str) -> int:
        found = _PERSON.fullmatch(name)
        if not found:
            raise DatasetError(
                f"{self.title}: {path.parent.name}/{path.name}: expected a name that begins with a number"
            )
        return int(found[1])


def list_pair(
    name: str, card: Card, folders: PairFolders, path: str, query: str, gallery: str, split: int | None = None
) -> Listing:
    """One kind as queries against another, of everybody or of the test people of a half split."""
    asked, searched = folders.read(path, (query, gallery))
    if split is None:
        return card.listing(name, asked, searched)
    _, test = half(joined((asked, searched)).people, split)
    before = (f"before the split: {fact}" for fact in card.sides(asked, searched))
    sides = (take_people(asked, test), take_people(searched, test))
    return replace(card, expected={}).listing(name, *sides, half_fact(split), *before)


def train_pair(
    name: str, card: Card, folders: PairFolders, path: str, kinds: Sequence[str], split: int | None = None
) -> TrainingListing:
    """Images of some kinds, of the training people of a half split; DatasetError without one."""
    if split is None:
        raise DatasetError(
            f"{card.title} has no training part of its own: train on another set, or on half of its people with "
            f"{name}:PATH@split=0 (to {TRIALS - 1})"
        )
    images = joined(folders.read(path, kinds))
    people, _ = half(images.people, split)
    return replace(card, expected={}).training(name, take_people(images, people), half_fact(split))
