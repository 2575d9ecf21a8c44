"""Occluded-REID (Zhuo et al., ICME 2018): 200 people, five occluded and five whole images each."""

from __future__ import annotations

from trainer.data.card import DUMMY_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import Listing, TrainingListing
from trainer.data.pairs import OCCLUDED, WHOLE, PairFolders, list_pair, train_pair

FOLDERS = PairFolders(
    "Occluded-REID",
    ("Occluded_REID", "Occluded-REID", "OccludedREID", "Occluded_REID_Dataset"),
    {"occluded": (OCCLUDED, "query"), "whole": (WHOLE, "gallery")},
)
CARD = Card(
    "Occluded-REID",
    "Zhuo et al., ICME 2018",
    RESEARCH,
    DUMMY_CAMERAS,
    "occluded_body_images/001/001_01.tif, whole_body_images/001/001_01.tif, or query/*.jpg, gallery/*.jpg",
    {"query": Count(1_000, 200), "gallery": Count(1_000, 200)},
)


def list_occluded_reid(path: str, *, split: int | None = None) -> Listing:
    """Occluded queries against whole people: of all 200 (transfer from another set), or of a half split's 100."""
    return list_pair("occluded-reid", CARD, FOLDERS, path, "occluded", "whole", split)


def train_occluded_reid(path: str, *, split: int | None = None) -> TrainingListing:
    """Both kinds of images of a half split's other 100 people; occluded ones count as camera 0, whole ones as 1."""
    return train_pair("occluded-reid", CARD, FOLDERS, path, ("occluded", "whole"), split)
