"""Con-ReID (Liu et al., 2026): people on construction sites, cleaned of copies and black images.

The set as published holds 546 exact copies and 136 black images, found here by content every time it is listed. Its
folder ``gallery``, which the readme does not name, holds copies only. Crops stand in black frames, which are cut
away. The camera numbers in its file names are not real cameras.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from glimpse.images import Image
from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, BoxFolders, pictures
from trainer.data.card import DUMMY_CAMERAS, Card, Count
from trainer.data.contents import copies, read
from trainer.data.listing import ImageSet, Listing, TrainingListing, files

BOXES = BoxFolders(
    "Con-ReID",
    re.compile(r"(-1|\d{4})_c(\d)s\d_\d+(?:_\d+)?\.jpg"),
    "0001_c1s1_000002.jpg",
    ("con-reid", "Con-ReID", "conreid"),
)
CARD = Card(
    "Con-ReID",
    "Liu et al., 2026, github.com/dongpeng011/ConReID-Dataset",
    "the repository that holds it says MIT; it says nothing of the people shown",
    f"{DUMMY_CAMERAS} (the camera numbers in its file names are not real)",
    "bounding_box_train, bounding_box_test, query; 0001_c1s1_000002.jpg or 0001_c1s1_000002_1.jpg",
    {"train": Count(7_528, 70), "query": Count(5_170, 59), "gallery": Count(209, 53)},
)
UNNAMED = "gallery"
ORDER = (TRAIN, GALLERY, QUERY, UNNAMED)
"""Of copies, the one in the earliest of these folders is kept, and there the first by name."""


def list_conreid(path: str) -> Listing:
    """``query`` against ``bounding_box_test``, as the authors' loader has it.

    The readme counts 102 queries and 4,184 gallery images, which the folders do not hold.

    Raises:
        DatasetError: a folder or its images are missing, or a file name is not Con-ReID's.
    """
    parts, facts = _cleaned(BOXES.find_root(path, QUERY, GALLERY))
    query, gallery = (
        replace(parts[folder], cameras=np.full(len(parts[folder]), camera, np.int64))
        for camera, folder in enumerate((QUERY, GALLERY))
    )
    return CARD.listing("conreid", query, gallery, *facts)


def train_conreid(path: str) -> TrainingListing:
    """``bounding_box_train``; cameras are the numbers in the file names, which say of images what may differ."""
    parts, facts = _cleaned(BOXES.find_root(path, TRAIN))
    return CARD.training("conreid", parts[TRAIN], *facts, "the camera numbers are not real cameras")


def _cleaned(root: Path) -> tuple[Mapping[str, ImageSet], tuple[str, ...]]:
    """Every folder without copies and black images, and what was dropped."""
    paths = [path for folder in ORDER if (root / folder).is_dir() for path in pictures(root / folder)]
    digests, black = read(paths)
    later = {place for group in copies(digests) for place in group[1:]}
    both = sum(black[place] for place in later)
    unnamed = sum(paths[place].parent.name == UNNAMED for place in later)
    fact = (
        f"of {len(paths):,} files {len(later):,} exact copies ({unnamed:,} of them in the folder {UNNAMED}) and "
        f"{sum(black):,} black images ({both:,} of them copies too) dropped"
    )
    kept = [path for place, path in enumerate(paths) if not black[place] and place not in later]
    parts = {}
    for folder in ORDER[:3]:
        mine = [path for path in kept if path.parent.name == folder]
        labels = [BOXES.labels(path) for path in mine]
        images = files(mine, root, [person for person, _ in labels], [camera for _, camera in labels])
        parts[folder] = replace(images, load=partial(_framed, images))
    return parts, (fact, "the black frame around each crop is cut away")


def _framed(images: ImageSet, i: int) -> Image:
    return without_frame(images.load(i))


def without_frame(image: Image, dark: int = 12) -> Image:
    """The image without the black rows and columns at its borders (JPEG leaves them a little grey).

    The published crops stand in the middle of a black 64 x 128 picture. An image that is black throughout, or all but
    a few pixels, stays as it is.
    """
    bright = image.max(2) > dark  # [H, W]
    rows, columns = np.flatnonzero(bright.mean(1) > 0.1), np.flatnonzero(bright.mean(0) > 0.1)
    if len(rows) < 16 or len(columns) < 8:
        return image
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
