"""The folder of segment files: their names, what is opened at start, and what has no business there."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glimpse.parts import PartSchema
from server.galleries.segments.container import UNFINISHED, SegmentError, flush_folder
from server.galleries.segments.sealed import SealedSegment

FOLDER = "segments"
OPENED_AT_ONCE = 4
_NAME = re.compile(r"(\d+)-(\d+)\.seg")

_log = logging.getLogger(__name__)


class SegmentFolder:
    """The files ``<gallery>-<number>.seg`` below a data folder; a number is never used twice while the process lives.

    Files that cannot be opened are removed, for the store has all that they held.
    """

    def __init__(self, data: Path) -> None:
        self.path = data / FOLDER
        self.path.mkdir(mode=0o700, exist_ok=True)
        self._last: dict[int, int] = {}

    def tidy(self, galleries: Collection[int]) -> None:
        """Removes what a killed process left unfinished, and the files of galleries that are gone."""
        for path in sorted(self.path.iterdir()):
            name = path.name.removesuffix(UNFINISHED)
            found = _NAME.fullmatch(name)
            if found and (name != path.name or int(found[1]) not in galleries):
                self.remove(path)

    def open(
        self, gallery: int, schema: PartSchema, facts: Mapping[str, Any], *, exact: bool, fast: bool
    ) -> list[SealedSegment]:
        """The gallery's sound segments, oldest first."""

        def opened(path: Path) -> SealedSegment | None:
            try:
                return SealedSegment(path, schema, facts, exact=exact, fast=fast, fresh=False)
            except SegmentError as error:
                _log.warning("segment file %s is left out and its items are indexed anew: %s", path.name, error)
                self.remove(path)
                return None

        files = self._files(gallery)
        self._last[gallery] = max((number for number, _ in files), default=0)
        with ThreadPoolExecutor(OPENED_AT_ONCE) as threads:  # checking is done by the processor, reading by the disk
            return [segment for segment in threads.map(opened, (path for _, path in files)) if segment]

    def next(self, gallery: int) -> Path:
        """The path of a new file."""
        number = self._last.get(gallery, 0) + 1
        self._last[gallery] = number
        return self.path / f"{gallery}-{number}.seg"

    def remove(self, path: Path) -> None:
        """Removes a file, if it is there; those who have it open keep it until they let go."""
        try:
            path.unlink(missing_ok=True)
            flush_folder(self.path)
        except OSError as error:  # a folder of that name, or no permission: nothing that a search would notice
            _log.warning("segment file %s cannot be removed: %s", path.name, error.strerror)

    def forget(self, gallery: int) -> None:
        """Removes all files of a gallery."""
        for _, path in self._files(gallery):
            self.remove(path)

    def _files(self, gallery: int) -> list[tuple[int, Path]]:
        matches = [(_NAME.fullmatch(path.name), path) for path in self.path.iterdir()]
        return sorted((int(found[2]), path) for found, path in matches if found and int(found[1]) == gallery)
