"""Market-1501's layout, which half of the field copied: ``bounding_box_train``, ``bounding_box_test`` and ``query``.

Person and camera are in every file name; which names a data set has is its own pattern.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.listing import DatasetError, ImageSet, files
from trainer.data.pictures import SUFFIXES

TRAIN, GALLERY, QUERY = "bounding_box_train", "bounding_box_test", "query"


@dataclass(frozen=True)
class BoxFolders:
    """How one data set fills that layout."""

    title: str
    pattern: re.Pattern[str]
    """Of whole file names; group 1 is the person, group 2 the camera."""
    example: str
    names: tuple[str, ...]
    """What the data set's own folder is called, where the one above it was given."""

    def find_root(self, path: str | Path, *needed: str) -> Path:
        """The folder that holds ``needed``: ``path`` or one of ``names`` in it; DatasetError where there is none."""
        given = Path(path).expanduser()
        places = [given, *(given / name for name in self.names)]
        for place in places:
            if all((place / folder).is_dir() for folder in needed):
                return place
        place = next((place for place in places if any((place / f).is_dir() for f in (TRAIN, GALLERY, QUERY))), given)
        wanted = f"folders {' and '.join(needed)}" if len(needed) > 1 else f"a folder {needed[0]}"
        held = "" if given.is_dir() else "; there is no such folder"
        raise DatasetError(
            f"{self.title} was looked for in {place}: expected {wanted}{held or ', or one of ' + str(list(self.names))}"
        )

    def read(self, root: Path, folder: str) -> ImageSet:
        """The images of one folder, sorted by name.

        Raises:
            DatasetError: no images, or an image whose name is not this data set's.
        """
        paths = pictures(root / folder)
        if not paths:
            raise DatasetError(f"{self.title}: {root / folder} holds no images")
        people, cameras = [], []
        for path in paths:
            person, camera = self.labels(path)
            people.append(person)
            cameras.append(camera)
        return files(paths, root, people, cameras)

    def labels(self, path: Path) -> tuple[int, int]:
        """Person and camera of a file name."""
        found = self.pattern.fullmatch(path.name)
        if not found:
            raise DatasetError(f"{path.parent.name}/{path.name}: expected a name like {self.example}")
        return int(found[1]), int(found[2])


def pictures(folder: Path, suffixes: Sequence[str] = tuple(SUFFIXES)) -> list[Path]:
    """Image files directly in a folder, sorted by name; hidden files and everything else (Thumbs.db) is ignored."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and os.path.splitext(entry.name)[1].lower() in suffixes
                and entry.is_file()
            ]
    except FileNotFoundError:
        raise DatasetError(f"no folder {folder}") from None
    return [folder / name for name in sorted(names)]
