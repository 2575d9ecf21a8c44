"""Partial-REID (Zheng et al., ICCV 2015): 60 people, five occluded, five cropped and five whole images each.

Papers use either kind of query under one name: PGFA and PVPM the occluded images as they are, DSR, FPR, HOReID, PADE
and T-MSPR the parts that were cropped out of them by hand. Figures of the two do not compare.
"""

from __future__ import annotations

from typing import Literal

from trainer.data.card import DUMMY_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import Listing, TrainingListing
from trainer.data.pairs import OCCLUDED, PARTIAL, WHOLE, PairFolders, list_pair, train_pair

Kind = Literal["partial", "occluded"]
FOLDERS = PairFolders(
    "Partial-REID",
    ("Partial-REID_Dataset", "Partial_REID", "Partial-REID", "PartialREID"),
    {"partial": (PARTIAL,), "occluded": (OCCLUDED,), "whole": (WHOLE,)},
)
_QUERIES: dict[Kind, str] = {
    "partial": "queries are the visible parts, cropped by hand (DSR, FPR, HOReID, PADE, T-MSPR)",
    "occluded": "queries are the occluded images, not cropped (PGFA, PVPM)",
}


def _card(kind: Kind) -> Card:
    return Card(
        f"Partial-REID, {kind} queries",
        "Zheng et al., ICCV 2015",
        RESEARCH,
        f"{_QUERIES[kind]}; {DUMMY_CAMERAS}",
        f"{kind}_body_images/001_001.jpg, whole_body_images/001_001.jpg",
        {"query": Count(300, 60), "gallery": Count(300, 60)},
    )


CROPPED, UNCROPPED = _card("partial"), _card("occluded")


def list_partial_reid(path: str, *, query: Kind, split: int | None = None) -> Listing:
    """One kind of query against whole people: of all 60, or of a half split's 30."""
    return list_pair(_name(query), _cards(query), FOLDERS, path, query, "whole", split)


def train_partial_reid(path: str, *, query: Kind, split: int | None = None) -> TrainingListing:
    """Whole images and that kind of a half split's other 30 people; whole ones count as camera 1."""
    return train_pair(_name(query), _cards(query), FOLDERS, path, (query, "whole"), split)


def _name(query: Kind) -> str:
    return "partial-reid" if query == "partial" else "partial-reid-occluded"


def _cards(query: Kind) -> Card:
    return CROPPED if query == "partial" else UNCROPPED
