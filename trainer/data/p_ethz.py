"""P-ETHZ (Zhuo et al., ICME 2018, from ETHZ): 85 people, 1 to 30 occluded and as many whole images each."""

from __future__ import annotations

from trainer.data.card import DUMMY_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import Listing, TrainingListing
from trainer.data.pairs import OCCLUDED, WHOLE, PairFolders, list_pair, train_pair

FOLDERS = PairFolders("P-ETHZ", ("P_ETHZ", "P-ETHZ"), {"occluded": (OCCLUDED,), "whole": (WHOLE,)})
CARD = Card(
    "P-ETHZ",
    "Zhuo et al., ICME 2018",
    RESEARCH,
    DUMMY_CAMERAS,
    "occluded_body_images/001/*.png, whole_body_images/001/*.png",
    {"all": Count(3_897, 85)},
)


def list_p_ethz(path: str, *, split: int | None = None) -> Listing:
    """Occluded queries against whole people: of everybody, or of a half split's 43."""
    return list_pair("p-ethz", CARD, FOLDERS, path, "occluded", "whole", split)


def train_p_ethz(path: str, *, split: int | None = None) -> TrainingListing:
    """Both kinds of images of a half split's other 42 people; occluded ones count as camera 0, whole ones as 1."""
    return train_pair("p-ethz", CARD, FOLDERS, path, ("occluded", "whole"), split)
