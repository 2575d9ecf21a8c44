"""Anyone's own crops: a folder a person."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.data.listing import DatasetError, ImageSet, Listing, files

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_CAMERA = re.compile(r"(?:^|_)c(\d+)(?=\D|$)", re.IGNORECASE)


def list_folders(path: str) -> Listing:
    """Two layouts.

    ``PATH/query/PERSON/*`` and ``PATH/gallery/PERSON/*``: as they stand. ``PATH/PERSON/*``: every image is a query
    against all others. The camera is read from a file name such as ``c2_0001.jpg`` or ``0001_c2s1.jpg``; where any
    name lacks it, every image counts as a camera of its own, so that a query leaves out nothing but itself.

    Raises:
        DatasetError: no such folder, or no images in it.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise DatasetError(f"no folder {root}")
    split = (root / "query").is_dir() and (root / "gallery").is_dir()
    query = _images(root / "query" if split else root)
    gallery = _images(root / "gallery" if split else root)
    numbers = {name: i + 1 for i, name in enumerate(sorted({path.parent.name for path in query + gallery}))}
    named = all(_CAMERA.search(path.stem) for path in query + gallery)
    facts = [f"{len(query)} queries, {len(gallery)} gallery images, {len(numbers)} people"]
    if named:
        facts.append("same person and same camera (from the file names) left out")
    else:
        facts.append("no camera ids: " + ("nothing is left out" if split else "only the query itself is left out"))

    def labelled(paths: list[Path], first_camera: int) -> ImageSet:
        people = [numbers[path.parent.name] for path in paths]
        if named:
            cameras = [int(_CAMERA.search(path.stem)[1]) for path in paths]  # type: ignore[index]
        else:
            cameras = list(range(first_camera, first_camera + len(paths)))
        return files(paths, root, people, cameras)

    return Listing("folder", labelled(query, 0), labelled(gallery, len(query) if split else 0), tuple(facts))


def _images(root: Path) -> list[Path]:
    paths = sorted(path for path in root.glob("*/*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DatasetError(f"{root} holds no folders with images ({', '.join(sorted(SUFFIXES))})")
    return paths
