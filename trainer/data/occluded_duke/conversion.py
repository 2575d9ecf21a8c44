"""Occluded-DukeMTMC from DukeMTMC-reID, a folder or a zip: copied, linked, or only checked."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN, pictures
from trainer.data.dukemtmc import BOXES
from trainer.data.listing import DatasetError
from trainer.data.occluded_duke.lists import PARTS, read_list

Mode = Literal["copy", "link", "list"]
FOLDERS = (TRAIN, GALLERY, QUERY)


@dataclass(frozen=True)
class Converted:
    """What became of the images."""

    images: Mapping[str, int]
    """Part -> images."""
    moved: Mapping[str, int]
    """Part -> images that come from DukeMTMC-reID's ``bounding_box_test`` instead of the folder of that part."""
    written: str
    """``copied``, ``hard-linked``, ``linked`` or nothing, where they were only checked."""


class _Source(Protocol):
    """DukeMTMC-reID: which files it holds, and how one of them is brought to its place."""

    @property
    def names(self) -> Mapping[str, frozenset[str]]:
        """Folder -> file names."""

    def put(self, folder: str, name: str, target: Path) -> str: ...

    def close(self) -> None: ...


def convert(
    source: Path,
    target: Path | None,
    mode: Mode = "copy",
    *,
    lists: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[], None] | None = None,
) -> Converted:
    """Writes ``target`` with ``bounding_box_train``, ``bounding_box_test`` and ``query``.

    Everything is checked before anything is written, and it is written beside the target first, so that an interrupted
    conversion leaves no half of one.

    Args:
        source: DukeMTMC-reID: its folder, the one above, or a zip of it.
        target: must not exist or be empty; unused in mode ``list``.
        mode: ``copy``; ``link``: hard links, symbolic ones to another disk; ``list``: nothing is written, and
            ``occluded-duke:SOURCE`` reads the folder as it is.
        lists: part -> names, the published ones unless given.
        progress: called once an image.

    Raises:
        DatasetError: the source is not DukeMTMC-reID, lacks listed images, or is a zip to be linked; the target is
            not empty.
    """
    names = {part: tuple(read_list(part)) for part in PARTS} if lists is None else lists
    with closing(_open(source, mode)) as opened:
        return _convert(opened, source, target, mode, names, progress or _nothing)


def _convert(
    opened: _Source,
    source: Path,
    target: Path | None,
    mode: Mode,
    names: Mapping[str, Sequence[str]],
    progress: Callable[[], None],
) -> Converted:
    places = {part: _place(opened, part, names[part], source) for part in names}
    moved = {part: sum(folder != PARTS[part] for folder in places[part].values()) for part in places}
    images = {part: len(place) for part, place in places.items()}
    if mode == "list":
        return Converted(images, moved, "")
    if target is None:
        raise DatasetError(f"mode {mode} needs a target folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetError(f"{target} is not empty; give a folder that does not exist yet")
    staging = target.with_name(f"{target.name}.partial-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    ways = set()
    try:
        for part, place in places.items():
            (staging / PARTS[part]).mkdir(parents=True)
            for name, folder in place.items():
                ways.add(opened.put(folder, name, staging / PARTS[part] / name))
                progress()
        if target.exists():
            target.rmdir()
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Converted(images, moved, " and ".join(sorted(ways)))


def _place(source: _Source, part: str, names: Sequence[str], where: Path) -> dict[str, str]:
    """Image -> the folder of DukeMTMC-reID it is taken from."""
    own = PARTS[part]
    missing = [name for name in names if name not in source.names[own] and name not in source.names[GALLERY]]
    if missing:
        raise DatasetError(
            f"{where} lacks {len(missing):,} of the {len(names):,} images of the {part} list, the first is "
            f"{missing[0]}: looked for in {own} and {GALLERY}"
        )
    return {name: own if name in source.names[own] else GALLERY for name in names}


def _open(source: Path, mode: Mode) -> _Source:
    if source.is_file():
        if mode == "link":
            raise DatasetError(
                f"{source} is a file, and nothing can link into a zip; use mode copy, or unpack it first"
            )
        return _Zip(source)
    return _Folder(BOXES.find_root(source, *FOLDERS), "link" if mode == "link" else "copy")


class _Folder:
    def __init__(self, root: Path, mode: Literal["copy", "link"]) -> None:
        self.root, self.mode = root.resolve(), mode
        self.names: Mapping[str, frozenset[str]] = {
            folder: frozenset(path.name for path in pictures(root / folder)) for folder in FOLDERS
        }

    def put(self, folder: str, name: str, target: Path) -> str:
        image = self.root / folder / name
        if self.mode == "copy":
            shutil.copy2(image, target)
            return "copied"
        try:
            os.link(image, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP):
                raise
            target.symlink_to(image)
            return "linked"
        return "hard-linked"

    def close(self) -> None:
        pass


class _Zip:
    def __init__(self, path: Path) -> None:
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DatasetError(f"{path} is neither a folder nor a zip: {error}") from error
        self.path = path
        self.entries: dict[tuple[str, str], zipfile.ZipInfo] = {}
        for entry in self.archive.infolist():
            place = PurePosixPath(entry.filename)
            if place.parent.name in FOLDERS and "__MACOSX" not in place.parts and not place.name.startswith("."):
                self.entries[place.parent.name, place.name] = entry
        self.names: Mapping[str, frozenset[str]] = {
            folder: frozenset(name for f, name in self.entries if f == folder) for folder in FOLDERS
        }
        lacking = [folder for folder in FOLDERS if not self.names[folder]]
        if lacking:
            raise DatasetError(f"{path} is no zip of DukeMTMC-reID: it holds no folder {lacking[0]}")

    def put(self, folder: str, name: str, target: Path) -> str:
        try:
            with self.archive.open(self.entries[folder, name]) as data, target.open("wb") as out:
                shutil.copyfileobj(data, out)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise DatasetError(f"{self.path}: {folder}/{name} is damaged: {error}") from error
        return "copied"

    def close(self) -> None:
        self.archive.close()


def _nothing() -> None:
    pass
