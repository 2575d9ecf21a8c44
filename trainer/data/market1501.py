"""Market-1501 (Zheng et al., ICCV 2015)."""

from __future__ import annotations

import re

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, BoxFolders
from trainer.data.card import REAL_CAMERAS, Card, Count
from trainer.data.listing import Listing, TrainingListing

BOXES = BoxFolders(
    "Market-1501",
    re.compile(r"(-1|\d{4})_c([1-6])s\d_\d+_\d\d\.jpg(?:\.jpg)?"),
    "0001_c1s1_001051_00.jpg",
    ("Market-1501-v15.09.15", "Market-1501", "market1501"),
)
CARD = Card(
    "Market-1501",
    "Zheng et al., ICCV 2015",
    "research only, no redistribution, no commercial use (its readme.txt)",
    f"{REAL_CAMERAS}; person -1 dropped, person 0 kept as a distractor",
    "bounding_box_train, bounding_box_test, query; 0001_c1s1_001051_00.jpg, also .jpg.jpg",
    {"train": Count(12_936, 751), "query": Count(3_368, 750), "gallery": Count(15_913, 750)},
    distractor=0,
)


def list_market1501(path: str) -> Listing:
    """The standard single-query protocol.

    ``path`` is the folder with ``query`` and ``bounding_box_test``, or the one above it. Person -1 is dropped from
    the gallery, person 0 kept as a distractor; same person and same camera is left out by the metrics.

    Raises:
        DatasetError: a folder or its images are missing, or a file name is not Market-1501's.
    """
    root = BOXES.find_root(path, QUERY, GALLERY)
    query, gallery = BOXES.read(root, QUERY), BOXES.read(root, GALLERY)
    kept = gallery.take((gallery.people >= 0).nonzero()[0])
    distractors = int((kept.people == 0).sum())
    return CARD.listing(
        "market1501",
        query,
        kept,
        f"{len(gallery) - len(kept):,} gallery images of person -1 dropped, {distractors:,} of person 0 kept",
    )


def train_market1501(path: str) -> TrainingListing:
    """``bounding_box_train``."""
    return CARD.training("market1501", BOXES.read(BOXES.find_root(path, TRAIN), TRAIN))
