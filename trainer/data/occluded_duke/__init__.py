"""Occluded-DukeMTMC (Miao et al., ICCV 2019): DukeMTMC-reID's images, split anew by the lists in this folder.

It is read from a folder that a converter made, or straight from DukeMTMC-reID: an image is looked for in the folder of
its part and else in ``bounding_box_test``, which is where the converter takes it from.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, BoxFolders, pictures
from trainer.data.card import REAL_CAMERAS, Card, Count
from trainer.data.dukemtmc import NAME, WITHDRAWN
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing, files
from trainer.data.occluded_duke.lists import LISTS, PARTS, read_list

BOXES = BoxFolders(
    "Occluded-DukeMTMC",
    NAME,
    "0001_c2_f0046182.jpg",
    ("Occluded_Duke", "occluded_dukemtmc", "Occluded-DukeMTMC", "Occluded-Duke", "DukeMTMC-reID", "dukemtmc-reid"),
)
CARD = Card(
    "Occluded-DukeMTMC",
    "Miao et al., ICCV 2019",
    f"made of DukeMTMC-reID, {WITHDRAWN}",
    f"{REAL_CAMERAS}; 1,870 of the 2,210 queries are files of the gallery too, which that leaves out",
    "bounding_box_train, bounding_box_test, query of `glimpse datasets convert occluded-duke`, or DukeMTMC-reID itself",
    {part: Count(LISTS[part].images, LISTS[part].people) for part in ("train", "query", "gallery")},
)


def list_occluded_duke(path: str) -> Listing:
    """Occluded queries against the mixed gallery.

    Raises:
        DatasetError: a folder is missing, or none of the listed images is there.
    """
    root = BOXES.find_root(path, QUERY, GALLERY)
    query, gallery = _read(root, "query"), _read(root, "gallery")
    return CARD.listing("occluded-duke", query, gallery)


def train_occluded_duke(path: str) -> TrainingListing:
    """The listed training images."""
    return CARD.training("occluded-duke", _read(BOXES.find_root(path, TRAIN), "train"))


def _read(root: Path, part: str) -> ImageSet:
    """The listed images of one part that are there; the card's counts tell how many are not."""
    folder = PARTS[part]
    own = {path.name for path in pictures(root / folder)}
    others = {path.name for path in pictures(root / GALLERY)} if (root / GALLERY).is_dir() else set()
    listed = read_list(part)
    paths = [root / (folder if name in own else GALLERY) / name for name in listed if name in own or name in others]
    if not paths:
        raise DatasetError(
            f"Occluded-DukeMTMC was looked for in {root}: none of the {len(listed):,} images of its {part} list is in "
            f"{folder} or {GALLERY}"
        )
    labels = [BOXES.labels(path) for path in paths]
    return files(paths, root, [person for person, _ in labels], [camera for _, camera in labels])
