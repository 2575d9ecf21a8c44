"""DukeMTMC-reID (Ristani et al., ECCV Workshops 2016; Zheng et al., ICCV 2017). Its makers withdrew it in 2019."""

from __future__ import annotations

import re

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, BoxFolders
from trainer.data.card import REAL_CAMERAS, Card, Count
from trainer.data.listing import Listing, TrainingListing

NAME = re.compile(r"(\d{4})_c([1-8])_f(\d{7})\.jpg")
WITHDRAWN = "withdrawn by its makers in 2019; nothing here needs it"
BOXES = BoxFolders(
    "DukeMTMC-reID", NAME, "0001_c2_f0046182.jpg", ("DukeMTMC-reID", "dukemtmc-reid", "DukeMTMC", "dukemtmc")
)
CARD = Card(
    "DukeMTMC-reID",
    "Zheng et al., ICCV 2017",
    WITHDRAWN,
    REAL_CAMERAS,
    "bounding_box_train, bounding_box_test, query; 0001_c2_f0046182.jpg",
    {"train": Count(16_522, 702), "query": Count(2_228, 702), "gallery": Count(17_661, 1_110)},
)


def list_dukemtmc(path: str) -> Listing:
    """The standard single-query protocol; 408 people of the gallery are nobody's query.

    Raises:
        DatasetError: a folder or its images are missing, or a file name is not DukeMTMC-reID's.
    """
    root = BOXES.find_root(path, QUERY, GALLERY)
    return CARD.listing("dukemtmc", BOXES.read(root, QUERY), BOXES.read(root, GALLERY))


def train_dukemtmc(path: str) -> TrainingListing:
    """``bounding_box_train``."""
    return CARD.training("dukemtmc", BOXES.read(BOXES.find_root(path, TRAIN), TRAIN))
