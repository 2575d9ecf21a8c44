"""A data set as evaluation sees it: queries, a gallery, and the facts of its protocol. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glimpse.images import Image, ImageError, decode_image

Int64 = NDArray[np.int64]


class DatasetError(ValueError):
    """A data set that is missing or broken; the message says where it was looked for and what is wrong."""


@dataclass(frozen=True)
class ImageSet:
    """N images with their labels; ``load(i)`` decodes or draws the i-th."""

    ids: tuple[str, ...]
    people: Int64
    """int64 ``(N,)``; -1 is junk, and 0 a distractor without a person where the data set says so."""
    cameras: Int64
    """int64 ``(N,)``."""
    load: Callable[[int], Image]
    hidden: NDArray[np.float32] | None = None
    """float32 ``(N,)``: share of the person that is hidden, where it is known."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.people) == len(self.cameras):
            raise ValueError(f"{len(self.ids)} ids, {len(self.people)} people and {len(self.cameras)} cameras differ")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64) -> ImageSet:
        """Some of the images, in the given order."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            people=self.people[rows],
            cameras=self.cameras[rows],
            load=lambda i: self.load(int(rows[i])),
            hidden=None if self.hidden is None else self.hidden[rows],
        )


@dataclass(frozen=True)
class Listing:
    """Queries and gallery of one protocol."""

    name: str
    query: ImageSet
    gallery: ImageSet
    facts: tuple[str, ...]
    """What a reader must know beside a figure: what is left out, whether cameras are used, extra inputs."""

    def limited(self, queries: int | None) -> Listing:
        """The same with at most so many queries, evenly spread; the gallery stays whole."""
        if queries is None or queries >= len(self.query):
            return self
        rows = np.linspace(0, len(self.query) - 1, queries).astype(np.int64)
        facts = (*self.facts, f"only {queries} of {len(self.query)} queries, evenly spread")
        return replace(self, query=self.query.take(rows), facts=facts)


def files(paths: Sequence[Path], root: Path, people: Sequence[int], cameras: Sequence[int]) -> ImageSet:
    """An `ImageSet` of image files; ids are paths below ``root``."""

    def load(i: int) -> Image:
        try:
            return decode_image(paths[i].read_bytes())
        except ImageError as error:
            raise DatasetError(f"{paths[i].relative_to(root)}: {error}") from error

    ids = tuple(path.relative_to(root).as_posix() for path in paths)
    return ImageSet(ids, np.array(people, np.int64), np.array(cameras, np.int64), load)
