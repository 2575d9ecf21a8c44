"""The images that are to be annotated: of a data set of the registry, or of any folder."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from trainer.data import DATASETS, find_listing, find_training
from trainer.data.listing import DatasetError, ImageSet, files, joined
from trainer.data.pictures import SUFFIXES
from trainer.data.reference import parse

PARTS = ("train", "test")


def find_images(data: str, match: str = "*", part: str | None = None) -> ImageSet:
    """The images of ``NAME:PATH``, or every image below a folder.

    Args:
        data: a data set of the registry, or a folder.
        match: a pattern that ids must match, such as ``camera1/*``; ``*`` matches ``/`` too.
        part: of a data set: its training part (``train``, also if None), or its queries and gallery (``test``).

    Raises:
        DatasetError: neither a data set nor a folder, no such part, no images, or none that match.
    """
    if part not in (None, *PARTS):
        raise DatasetError(f"unknown part {part!r}; choose from {list(PARTS)}")
    key = parse(data).key
    if key in DATASETS and (":" in data or not Path(data).is_dir()):
        images = _test(data) if part == "test" else find_training(data).images
    else:
        images = _of_folder(Path(data).expanduser(), part)
    rows = [row for row, image_id in enumerate(images.ids) if fnmatchcase(image_id, match)]
    if not rows:
        raise DatasetError(f"none of the {len(images):,} images of {data} matches {match!r}; one is {images.ids[0]!r}")
    return images.take(np.array(rows, np.int64))


def _test(data: str) -> ImageSet:
    listing = find_listing(data)
    images = joined([listing.query, listing.gallery])
    # A folder without a split is query and gallery at once.
    _, first = np.unique(images.ids, return_index=True)
    return images.take(np.sort(first).astype(np.int64))


def _of_folder(folder: Path, part: str | None) -> ImageSet:
    if not folder.is_dir():
        raise DatasetError(f"{str(folder)!r} is neither a folder nor one of the data sets {list(DATASETS)}")
    if part is not None:
        raise DatasetError(f"a folder has no part {part!r}; choose its images by a pattern of their ids")
    paths = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths += [Path(place, name) for name in names if not name.startswith(".")]
    paths = sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return files(paths, folder, [-1] * len(paths), [-1] * len(paths))
