"""Whether a data set is whole and sound: what `glimpse datasets verify` finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glimpse.image_headers import ImageError
from trainer.data import DATASETS, find_card, find_listing, find_training
from trainer.data.card import NOT_WHOLE, Count, answerable, lonely
from trainer.data.contents import copies, digest, is_black
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing
from trainer.data.pictures import check_picture, decode_picture
from trainer.data.reference import parse

TRAINING = "training part"


@dataclass(frozen=True)
class PartFindings:
    """What one part holds."""

    images: int
    people: int
    """Without junk and distractors."""
    cameras: int
    single: int
    """People with a single image."""
    one_camera: int
    """People with several images, all by one camera: training finds no positive of theirs by another."""


@dataclass(frozen=True)
class Copies:
    """Files of the same content."""

    groups: tuple[tuple[str, ...], ...]
    """Ids of each group of two and more."""
    files: int
    """How many files would have to go for each content to be there once."""
    across: int
    """Groups that are in the training part and also in queries or gallery."""
    labelled_apart: int
    """Groups within one part that say they show different people."""


@dataclass(frozen=True)
class Verification:
    """All findings on one data set."""

    name: str
    facts: tuple[str, ...]
    parts: Mapping[str, PartFindings]
    checked: int
    """Files that were read; drawn images have none."""
    unreadable: Mapping[str, str]
    """Id -> why."""
    black: tuple[str, ...]
    """Ids of black images; found only where every pixel was decoded."""
    copies: Copies
    skipped: int
    """Queries without a positive."""
    missing: Mapping[str, str]
    """Part -> why it cannot be listed."""

    @property
    def passed(self) -> bool:
        """Whether every part is there and whole and every file is an image. The rest are findings, not faults."""
        return not self.missing and not self.unreadable and not any(NOT_WHOLE in fact for fact in self.facts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"passed": self.passed}


def verify(
    name: str, *, decode: bool = False, progress: Callable[[int], Callable[[], None]] | None = None
) -> Verification:
    """Reads the header of every file of a data set, looks for copies, and counts.

    Args:
        name: ``NAME:PATH`` of the registry.
        decode: decode every pixel too, which finds more damage, and black images.
        progress: called with the number of files, gives what is called once a file.

    Raises:
        DatasetError: an unknown name, or neither part can be listed.
    """
    listing, training, missing = _list(name)
    parts: dict[str, ImageSet] = {}
    if training is not None:
        parts["train"] = training.images
    if listing is not None:
        parts |= {"query": listing.query, "gallery": listing.gallery}
    ids: dict[Path, str] = {}
    for images in parts.values():
        ids |= dict(zip(images.paths or (), images.ids, strict=False))
    digests, unreadable, black = _read(ids, decode, progress)
    facts = (*(training.facts if training else ()), *(listing.facts if listing else ()))
    return Verification(
        name,
        tuple(dict.fromkeys(facts)),
        {part: _findings(images, find_card(parse(name).key).distractor) for part, images in parts.items()},
        len(ids),
        unreadable,
        black,
        _copies(parts, ids, digests),
        0 if listing is None else int((~answerable(listing.query, listing.gallery)).sum()),
        missing,
    )


def _list(name: str) -> tuple[Listing | None, TrainingListing | None, dict[str, str]]:
    """Both sides of a data set, and why one of them cannot be listed. A training part is asked for only where the
    data set has one of its own: one that is half of the test people is not."""
    listing, training, missing = None, None, {}
    try:
        listing = find_listing(name)
    except DatasetError as error:
        missing["queries and gallery"] = str(error)
    reference = parse(name)
    spec = DATASETS.get(reference.key)
    if spec is not None and spec.training and ("split" not in spec.options or "split" in reference.options):
        try:
            training = find_training(name)
        except DatasetError as error:
            missing[TRAINING] = str(error)
    if listing is None and training is None:
        raise DatasetError(next(iter(missing.values())))
    return listing, training, missing


def _read(
    ids: Mapping[Path, str], decode: bool, progress: Callable[[int], Callable[[], None]] | None
) -> tuple[dict[Path, bytes], dict[str, str], tuple[str, ...]]:
    advance = progress(len(ids)) if progress else None
    digests: dict[Path, bytes] = {}
    unreadable: dict[str, str] = {}
    black = []
    for path, name in ids.items():
        try:
            data = path.read_bytes()
            digests[path] = digest(data)
            check_picture(data)
            if decode:
                decode_picture(data)
                if is_black(data):
                    black.append(name)
        except ImageError as error:
            unreadable[name] = str(error)
        except OSError as error:
            unreadable[name] = error.strerror or str(error)
        if advance:
            advance()
    return digests, unreadable, tuple(black)


def _findings(images: ImageSet, distractor: int | None) -> PartFindings:
    single, one_camera = lonely(images)
    return PartFindings(
        len(images), Count.of(images, distractor).people, len(np.unique(images.cameras)), single, one_camera
    )


def _copies(parts: Mapping[str, ImageSet], ids: Mapping[Path, str], digests: Mapping[Path, bytes]) -> Copies:
    paths = list(digests)
    groups = [[paths[place] for place in group] for group in copies(list(digests.values()))]
    trained = set(parts["train"].paths or ()) if "train" in parts else set()
    tested = {path for part, images in parts.items() if part != "train" for path in images.paths or ()}
    labels = [_labels(parts, side) for side in (("train",), ("query", "gallery"))]
    apart = sum(any(_differ(group, people) for people in labels) for group in groups)
    across = sum(any(path in trained for path in group) and any(path in tested for path in group) for group in groups)
    return Copies(
        tuple(tuple(ids[path] for path in group) for group in groups),
        sum(len(group) - 1 for group in groups),
        across,
        apart,
    )


def _labels(parts: Mapping[str, ImageSet], chosen: Sequence[str]) -> dict[Path, int]:
    """The person of each file. Training and test parts may count their people anew, so they are not mixed."""
    people: dict[Path, int] = {}
    for part in chosen:
        if part in parts:
            people |= dict(zip(parts[part].paths or (), parts[part].people.tolist(), strict=False))
    return people


def _differ(group: Sequence[Path], people: Mapping[Path, int]) -> bool:
    return len({people[path] for path in group if path in people}) > 1
