"""The images that are to be annotated: of a data set of the registry, or of any folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from trainer.data import DATASETS, find_listing
from trainer.data.listing import DatasetError, ImageSet, files

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def find_images(data: str, match: str = "*") -> ImageSet:
    """Queries and gallery of ``NAME:PATH``, or every image below a folder.

    Args:
        data: a data set of the registry, or a folder.
        match: a pattern that ids must match, such as ``bounding_box_train/*``; ``*`` matches ``/`` too.

    Raises:
        DatasetError: neither a data set nor a folder, no images, or none that match.
    """
    name = data.partition(":")[0]
    if name in DATASETS and not (":" not in data and Path(data).is_dir()):
        listing = find_listing(data)
        images = _union([listing.query, listing.gallery])
    else:
        folder = Path(data).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"{data!r} is neither a folder nor one of the data sets {list(DATASETS)}")
        paths = sorted(_below(folder))
        images = files(paths, folder, [-1] * len(paths), [-1] * len(paths))
    if not len(images):
        raise DatasetError(f"{data} holds no images ({', '.join(sorted(SUFFIXES))})")
    rows = [row for row, image_id in enumerate(images.ids) if fnmatchcase(image_id, match)]
    if not rows:
        raise DatasetError(f"none of the {len(images):,} images of {data} matches {match!r}; one is {images.ids[0]!r}")
    return images.take(np.array(rows, np.int64))


def _below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found.extend(
            Path(place, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        )
    return found


def _union(sets: Sequence[ImageSet]) -> ImageSet:
    """All images, each id once: a folder without a split is query and gallery at once."""
    places: dict[str, tuple[ImageSet, int]] = {}
    for images in sets:
        for row, image_id in enumerate(images.ids):
            places.setdefault(image_id, (images, row))
    order = list(places.values())

    def load(i: int) -> np.ndarray:
        images, row = order[i]
        return images.load(row)

    people = np.array([images.people[row] for images, row in order], np.int64)
    cameras = np.array([images.cameras[row] for images, row in order], np.int64)
    return ImageSet(tuple(places), people, cameras, load)
