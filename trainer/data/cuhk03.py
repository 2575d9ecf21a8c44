"""CUHK03-NP: CUHK03 (Li et al., CVPR 2014) under the protocol of Zhong et al., CVPR 2017."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, BoxFolders
from trainer.data.card import REAL_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import DatasetError, Listing, TrainingListing

Kind = Literal["labeled", "detected"]
_FOLDERS = ("cuhk03-np", "CUHK03-NP", "cuhk03", "CUHK03")


def _card(kind: Kind, train: int, gallery: int) -> Card:
    return Card(
        f"CUHK03-NP {kind}",
        "Li et al., CVPR 2014; Zhong et al., CVPR 2017",
        RESEARCH,
        REAL_CAMERAS,
        f"cuhk03-np/{kind} with bounding_box_train, bounding_box_test, query; 0001_c1_1.png",
        {"train": Count(train, 767), "query": Count(1_400, 700), "gallery": Count(gallery, 700)},
    )


LABELED, DETECTED = _card("labeled", 7_368, 5_328), _card("detected", 7_365, 5_332)


def list_cuhk03(path: str, *, kind: Kind) -> Listing:
    """Two queries a person, one by each camera; boxes drawn by hand (labeled) or found by a detector (detected).

    Args:
        path: the folder ``labeled`` or ``detected``, the one that holds both, or the one above that.

    Raises:
        DatasetError: a folder or its images are missing, it is the other kind's, or a file name is not CUHK03-NP's.
    """
    boxes = _boxes(kind)
    root = _own(boxes.find_root(path, QUERY, GALLERY), kind)
    return _cards(kind).listing(f"cuhk03-{kind}", boxes.read(root, QUERY), boxes.read(root, GALLERY))


def train_cuhk03(path: str, *, kind: Kind) -> TrainingListing:
    """``bounding_box_train``."""
    boxes = _boxes(kind)
    root = _own(boxes.find_root(path, TRAIN), kind)
    return _cards(kind).training(f"cuhk03-{kind}", boxes.read(root, TRAIN))


def _cards(kind: Kind) -> Card:
    return LABELED if kind == "labeled" else DETECTED


def _boxes(kind: Kind) -> BoxFolders:
    return BoxFolders(
        f"CUHK03-NP {kind}",
        re.compile(r"(-1|\d{4})_c(\d)_\d+\.(?:png|jpg)"),
        "0001_c1_1.png",
        (kind, *(f"{folder}/{kind}" for folder in _FOLDERS)),
    )


def _own(root: Path, kind: Kind) -> Path:
    if root.name in ("labeled", "detected") and root.name != kind:
        raise DatasetError(f"CUHK03-NP {kind} was looked for in {root}, which is the other kind's folder")
    return root
