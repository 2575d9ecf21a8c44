"""MSMT17 (Wei et al., CVPR 2018), both versions; faces are masked in the second."""

from __future__ import annotations

from pathlib import Path

from trainer.data.card import REAL_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing, files

NAMES = ("MSMT17_V2", "MSMT17_V1", "MSMT17", "msmt17")
TRAIN, TEST = ("mask_train_v2", "train"), ("mask_test_v2", "test")
CARD = Card(
    "MSMT17",
    "Wei et al., CVPR 2018",
    f"{RESEARCH}; by signed agreement",
    REAL_CAMERAS,
    "MSMT17_V1 with train, test or MSMT17_V2 with mask_train_v2, mask_test_v2, and list_*.txt; "
    "0000/0000_000_01_0303morning_0008_0.jpg",
    {"train": Count(32_621, 1_041), "query": Count(11_659, 3_060), "gallery": Count(82_161, 3_060)},
)


def list_msmt17(path: str) -> Listing:
    """The standard single-query protocol. People are counted from 0 in the test part and again in the training part.

    Raises:
        DatasetError: a folder or list is missing, a line of a list is broken, or an image it names is not there.
    """
    root, folder = _find(path, TEST, "list_query.txt", "list_gallery.txt")
    query, gallery = (_read(root, folder, (name,)) for name in ("list_query.txt", "list_gallery.txt"))
    return CARD.listing("msmt17", query, gallery)


def train_msmt17(path: str) -> TrainingListing:
    """``list_train.txt`` and ``list_val.txt`` together, as published figures have it."""
    root, folder = _find(path, TRAIN, "list_train.txt", "list_val.txt")
    images = _read(root, folder, ("list_train.txt", "list_val.txt"))
    return CARD.training("msmt17", images, "list_train.txt and list_val.txt together")


def _find(path: str, folders: tuple[str, ...], *lists: str) -> tuple[Path, str]:
    given = Path(path).expanduser()
    for place in (given, *(given / name for name in NAMES)):
        for folder in folders:
            if (place / folder).is_dir():
                missing = [name for name in lists if not (place / name).is_file()]
                if missing:
                    raise DatasetError(f"MSMT17 was looked for in {place}: {missing[0]} is missing")
                return place, folder
    raise DatasetError(
        f"MSMT17 was looked for in {given}: expected a folder {' or '.join(folders)} beside {', '.join(lists)}, "
        f"there or in one of {list(NAMES)}"
    )


def _read(root: Path, folder: str, lists: tuple[str, ...]) -> ImageSet:
    paths, people, cameras = [], [], []
    for name in lists:
        for number, line in enumerate((root / name).read_text().splitlines(), 1):
            if not line.strip():
                continue
            try:
                image, label = line.rsplit(maxsplit=1)
                person, camera = int(label), int(image.rsplit("/")[-1].split("_")[2])
            except (ValueError, IndexError):
                raise DatasetError(
                    f"{root / name}, line {number}: {line!r}, expected a line like "
                    "'0000/0000_000_01_0303morning_0008_0.jpg 0'"
                ) from None
            paths.append(root / folder / image)
            people.append(person)
            cameras.append(camera)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"MSMT17: {len(missing):,} of the {len(paths):,} images that {' and '.join(lists)} name are missing, "
            f"the first is {missing[0]}"
        )
    return files(paths, root, people, cameras)
