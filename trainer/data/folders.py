"""Anyone's own crops: a folder a person."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.data.bounding_boxes import pictures
from trainer.data.card import NO_INPUT, Card
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing, files
from trainer.data.pictures import SUFFIXES

_CAMERA = re.compile(r"(?:^|_)c(\d+)(?=\D|$)", re.IGNORECASE)
CARD = Card(
    "identity folders",
    "yours",
    "yours",
    NO_INPUT,
    "PERSON/*.jpg, or query/PERSON/*.jpg and gallery/PERSON/*.jpg, and train/PERSON/*.jpg; camera 2 is c2 in a name",
)


def list_folders(path: str) -> Listing:
    """Two layouts.

    ``PATH/query/PERSON/*`` and ``PATH/gallery/PERSON/*``: as they stand. ``PATH/PERSON/*``: every image is a query
    against all others. The camera is read from a file name such as ``c2_0001.jpg`` or ``0001_c2s1.jpg``; where any
    name lacks it, every image counts as a camera of its own, so that a query leaves out nothing but itself.

    Raises:
        DatasetError: no such folder, no images in it, or no query with a positive.
    """
    root = _root(path)
    split = (root / "query").is_dir() and (root / "gallery").is_dir()
    query = _images(root / "query" if split else root)
    gallery = _images(root / "gallery" if split else root)
    everything = query + gallery
    numbers, named = _numbers(everything), _all_named(everything)
    if named:
        fact = "same person and same camera (from the file names) left out"
    else:
        fact = "no camera ids: " + ("nothing is left out" if split else "only the query itself is left out")
    return CARD.listing(
        "folder",
        _labelled(root, query, numbers, named, 0),
        _labelled(root, gallery, numbers, named, len(query) if split else 0),
        fact,
    )


def train_folders(path: str) -> TrainingListing:
    """``PATH/train/PERSON/*`` where there is such a folder, else ``PATH/PERSON/*``.

    Raises:
        DatasetError: no images, or queries and a gallery without a training part.
    """
    root = _root(path)
    if (root / "train").is_dir():
        paths = _images(root / "train")
    elif (root / "query").is_dir() or (root / "gallery").is_dir():
        raise DatasetError(f"{root} holds queries and a gallery but no folder train: it has no training part")
    else:
        paths = _images(root)
    named = _all_named(paths)
    fact = "cameras from the file names" if named else "no camera ids: every image counts as a camera of its own"
    return CARD.training("folder", _labelled(root, paths, _numbers(paths), named, 0), fact)


def _root(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DatasetError(f"no folder {root}")
    return root


def _images(root: Path) -> list[Path]:
    people = sorted(place for place in root.iterdir() if place.is_dir() and not place.name.startswith("."))
    paths = [path for person in people for path in pictures(person)]
    if not paths:
        raise DatasetError(f"{root} holds no folders with images ({', '.join(sorted(SUFFIXES))})")
    return paths


def _numbers(paths: list[Path]) -> dict[str, int]:
    return {name: i + 1 for i, name in enumerate(sorted({path.parent.name for path in paths}))}


def _all_named(paths: list[Path]) -> bool:
    return all(_CAMERA.search(path.stem) for path in paths)


def _labelled(root: Path, paths: list[Path], numbers: dict[str, int], named: bool, first_camera: int) -> ImageSet:
    people = [numbers[path.parent.name] for path in paths]
    if named:
        cameras = [int(found[1]) for path in paths if (found := _CAMERA.search(path.stem))]
    else:
        cameras = list(range(first_camera, first_camera + len(paths)))
    return files(paths, root, people, cameras)
