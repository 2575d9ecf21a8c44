"""A data set as training and evaluation see it: labelled images, and the facts of a protocol. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from glimpse.images import Image, ImageError
from trainer.data.pictures import decode_picture

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
    paths: tuple[Path, ...] | None = None
    """The N files, where there are any; a set that changes images as it loads them still names what it changes."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.people) == len(self.cameras):
            raise ValueError(f"{len(self.ids)} ids, {len(self.people)} people and {len(self.cameras)} cameras differ")
        if self.paths is not None and len(self.paths) != len(self.ids):
            raise ValueError(f"{len(self.ids)} ids and {len(self.paths)} files differ")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Int64) -> ImageSet:
        """Some of the images, in the given order."""
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            people=self.people[rows],
            cameras=self.cameras[rows],
            load=_Taken(self.load, rows),
            hidden=None if self.hidden is None else self.hidden[rows],
            paths=None if self.paths is None else tuple(self.paths[row] for row in rows),
        )


@dataclass(frozen=True)
class Shots:
    """Queries of several images each: which images make a query, and how their distances become one."""

    sets: Int64
    """int64 ``(N,)``: the query, from 0, that each of the N query images belongs to; every number is used."""
    pool: Literal["min", "mean"]


@dataclass(frozen=True)
class Listing:
    """Queries and gallery of one protocol."""

    name: str
    query: ImageSet
    gallery: ImageSet
    facts: tuple[str, ...]
    """What a reader must know beside a figure: what is left out, whether cameras are used, extra inputs."""
    shots: Shots | None = None
    """Set where a query is several images: `trainer.data.shots` pools their distances."""

    def limited(self, queries: int | None) -> Listing:
        """The same with at most so many queries, evenly spread; the gallery stays whole."""
        count = len(self.query) if self.shots is None else int(self.shots.sets.max()) + 1
        if queries is None or queries >= count:
            return self
        chosen = np.linspace(0, count - 1, queries).astype(np.int64)
        facts = (*self.facts, f"only {queries} of {count} queries, evenly spread")
        if self.shots is None:
            return replace(self, query=self.query.take(chosen), facts=facts)
        rows = np.flatnonzero(np.isin(self.shots.sets, chosen))
        shots = replace(self.shots, sets=np.searchsorted(chosen, self.shots.sets[rows]).astype(np.int64))
        return replace(self, query=self.query.take(rows), facts=facts, shots=shots)


@dataclass(frozen=True)
class TrainingListing:
    """What a data set offers for training. People and cameras keep their numbers; the loop counts them from 0."""

    name: str
    images: ImageSet
    """Without junk, copies and distractors."""
    facts: tuple[str, ...]


def files(paths: Sequence[Path], root: Path, people: Sequence[int], cameras: Sequence[int]) -> ImageSet:
    """An `ImageSet` of image files; ids are paths below ``root``, or whole paths of files elsewhere.

    An image that cannot be read or decoded is a DatasetError naming it when it is loaded.
    """
    ids = tuple((path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths)
    kept = tuple(paths)
    return ImageSet(ids, np.array(people, np.int64), np.array(cameras, np.int64), _Files(kept, ids), paths=kept)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """All images of several sets, one set after another; ``hidden`` and ``paths`` only where all have them."""
    hidden = [images.hidden for images in sets if images.hidden is not None]
    paths = [images.paths for images in sets if images.paths is not None]
    return ImageSet(
        tuple(name for images in sets for name in images.ids),
        np.concatenate([images.people for images in sets]),
        np.concatenate([images.cameras for images in sets]),
        _Joined(tuple(images.load for images in sets), np.cumsum([0, *map(len, sets)])),
        np.concatenate(hidden) if len(hidden) == len(sets) else None,
        tuple(path for some in paths for path in some) if len(paths) == len(sets) else None,
    )


# Classes rather than closures: a loader's worker process gets them pickled.
@dataclass(frozen=True)
class _Files:
    paths: tuple[Path, ...]
    ids: tuple[str, ...]

    def __call__(self, i: int) -> Image:
        try:
            return decode_picture(self.paths[i].read_bytes())
        except ImageError as error:
            raise DatasetError(f"{self.ids[i]}: {error}") from error
        except OSError as error:
            raise DatasetError(f"{self.ids[i]}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Taken:
    load: Callable[[int], Image]
    rows: Int64

    def __call__(self, i: int) -> Image:
        return self.load(int(self.rows[i]))


@dataclass(frozen=True)
class _Joined:
    loads: tuple[Callable[[int], Image], ...]
    starts: Int64

    def __call__(self, i: int) -> Image:
        part = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self.loads[part](int(i - self.starts[part]))
