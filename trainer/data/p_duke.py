"""P-DukeMTMC-reID (Zhuo et al., ICME 2018): DukeMTMC-reID's occluded images against its whole ones."""

from __future__ import annotations

from trainer.data.card import DUMMY_CAMERAS, Card, Count
from trainer.data.dukemtmc import WITHDRAWN
from trainer.data.listing import Listing, TrainingListing, joined
from trainer.data.pairs import OCCLUDED, WHOLE, PairFolders, list_pair

FOLDERS = PairFolders(
    "P-DukeMTMC-reID",
    ("P-DukeMTMC-reid", "P-DukeMTMC-reID", "P-DukeMTMC", "P_DukeMTMC-reid"),
    {
        "train occluded": (f"train/{OCCLUDED}",),
        "train whole": (f"train/{WHOLE}",),
        "occluded": (f"test/{OCCLUDED}",),
        "whole": (f"test/{WHOLE}",),
    },
)
CARD = Card(
    "P-DukeMTMC-reID",
    "Zhuo et al., ICME 2018",
    f"made of DukeMTMC-reID, {WITHDRAWN}",
    f"{DUMMY_CAMERAS} (the real cameras are ignored, as PVPM does)",
    "train and test, each with occluded_body_images/0005/*.jpg and whole_body_images/0005/*.jpg",
    {"train": Count(12_927, 665), "query": Count(2_163, 634), "gallery": Count(9_053, 634)},
)


def list_p_duke(path: str) -> Listing:
    """Occluded images of the test part against its whole ones."""
    return list_pair("p-duke", CARD, FOLDERS, path, "occluded", "whole")


def train_p_duke(path: str) -> TrainingListing:
    """Both kinds of the training part; occluded images count as camera 0, whole ones as 1."""
    images = joined(FOLDERS.read(path, ("train occluded", "train whole")))
    return CARD.training("p-duke", images, "cameras: 0 for occluded images, 1 for whole ones")
