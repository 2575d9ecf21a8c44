"""The training set: images of identities at network resolution, read from memory-mapped arrays.

Sources are drawn or decoded once into a cache (`trainer.data.rendered`, `trainer.data.decoded`); every draw changes
them anew. A sample is decided by its row, its draw and the seed alone, so a resumed run sees what an unbroken one
would have seen, however many workers load it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people import PARTS
from trainer.data.annotated import UNKNOWN, Annotated
from trainer.data.augmentation import ORDERS, augment, reordered
from trainer.data.batch import Sample, Version
from trainer.occlusion import OccluderLibrary, Simulator, build_simulator
from trainer.recipe import AugmentationRecipe, OcclusionRecipe

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """N images of one origin, all at one size."""

    name: str
    images: NDArray[np.uint8]
    """``(N, H, W, 3)`` RGB."""
    regions: NDArray[np.uint8]
    """``(N, H, W)``: 1..K on the visible pixels of each region, `UNKNOWN` throughout an image nobody annotated."""
    extent: NDArray[np.float32]
    """``(N, 1 + K)``: pixels of the person and of each region before anything hid them; NaN where unknown, infinite
    for a region that was not found in the picture."""
    points: NDArray[np.float32]
    """``(N, 17, 3)`` COCO key-points in pixels of ``images``; confidence 0 where there are none."""
    people: Int64
    """``(N,)``, any numbers."""
    cameras: Int64
    """``(N,)``, any numbers."""
    facts: tuple[str, ...] = ()
    teacher: NDArray[np.float16] | None = None
    """``(N * copies, T)``: a teacher's features of the untouched images."""
    copies: int = 1
    """The images, and so many less one sets of them in other colours: image ``i`` of a source of N is image ``i % N``
    with its channels in order ``i // N``, and shows another person than image ``i % N``."""

    def __len__(self) -> int:
        return len(self.images) * self.copies

    @property
    def identities(self) -> Int64:
        """``(N * copies,)`` from 0."""
        names, numbers = np.unique(self.people, return_inverse=True)
        return np.concatenate([numbers + copy * len(names) for copy in range(self.copies)])

    def image(self, i: int) -> NDArray[np.uint8]:
        """The untouched image ``(H, W, 3)``."""
        copy, row = divmod(i, len(self.images))
        image = np.asarray(self.images[row])
        return image if copy == 0 else reordered(image, copy)


@dataclass(frozen=True)
class Population:
    """What a method must know of the data before it is built."""

    identities: int
    cameras: int


@dataclass
class TrainingSet:
    """Sources as one map-style dataset of ``(row, draw)``; identities and cameras count through from 0.

    Raises:
        ValueError: no images, or sources of different sizes.
    """

    sources: Sequence[Source]
    augmentation: AugmentationRecipe
    occlusion: OcclusionRecipe
    seed: int = 0
    draws: int = 1
    """Draws of the whole training: where in it a draw stands is the simulators' ``progress``."""
    group: int = 1
    """Images of one identity in a batch (K): that many consecutive draws share their colours."""
    small_draws: int = 0
    """Draws below this number come at two thirds of height and width."""
    pseudo: NDArray[np.uint8] | None = None
    """``(N, h, w)``: labels a method made for itself; see `trainer.methods.Context`."""
    identities: Int64 = field(init=False)
    cameras: Int64 = field(init=False)

    def __post_init__(self) -> None:
        sizes = {source.images.shape[1:] for source in self.sources}
        if len(sizes) != 1 or not sum(map(len, self.sources)):
            raise ValueError(
                f"a training set needs images of one size, got {len(self)} images of sizes {sizes or '{}'}"
            )
        self._starts = np.cumsum([0, *(len(source) for source in self.sources)]).tolist()
        self.identities = _counted([source.identities for source in self.sources])
        self.cameras = _counted([np.tile(source.cameras, source.copies) for source in self.sources])
        self._ordered = -1, 0
        library = OccluderLibrary.open(self.occlusion.library)
        self._training = [
            (step.probability, build_simulator(step.simulator, step.options, library))
            for step in self.occlusion.training
        ]
        self._views: dict[str, list[tuple[float, Simulator]]] = {
            name: [(step.probability, build_simulator(step.simulator, step.options, library)) for step in steps]
            for name, steps in self.occlusion.views.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @property
    def population(self) -> Population:
        """Identities and cameras."""
        return Population(int(self.identities.max()) + 1, int(self.cameras.max()) + 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.sources[0].images.shape[1:3]
        return int(height), int(width)

    def image(self, row: int) -> NDArray[np.uint8]:
        """The untouched image ``(H, W, 3)``."""
        source, i = self._find(row)
        return source.image(i)

    def annotated(self, row: int) -> Annotated:
        """The untouched image with everything known of it."""
        source, i = self._find(row)
        maps = {"regions": np.asarray(source.regions[i % len(source.images)])}
        if self.pseudo is not None:
            height, width = self.size
            labels = cv2.resize(self.pseudo[row], (width, height), interpolation=cv2.INTER_NEAREST)
            maps["pseudo"] = np.asarray(labels, np.uint8)
        return Annotated(source.image(i), maps, np.asarray(source.points[i % len(source.images)]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, draw = key
        random = np.random.default_rng((self.seed, draw))
        other = self.image(int(random.integers(len(self))))
        sample = self.annotated(row)
        order = self._order(draw // self.group)
        if order:
            sample = sample.with_image(reordered(sample.image, order))
        sample = augment(sample, other, self.augmentation, random)
        progress = min(1.0, draw / max(1, self.draws))
        # Views first: they show the image before the base's own occluders.
        views = {
            name: self._simulated(sample, steps, np.random.default_rng((self.seed, draw, 2 + i)), progress)
            for i, (name, steps) in enumerate(self._views.items())
        }
        base = self._simulated(sample, self._training, random, progress)
        source, i = self._find(row)
        small = draw < self.small_draws
        extent = source.extent[i % len(source.images)]
        return Sample(
            row,
            int(self.identities[row]),
            int(self.cameras[row]),
            _version(base, extent, small),
            {name: _version(view, extent, small) for name, view in views.items()},
            order == 0,
            None if source.teacher is None else np.asarray(source.teacher[i], np.float32),
        )

    def _simulated(
        self,
        sample: Annotated,
        steps: Sequence[tuple[float, Simulator]],
        random: np.random.Generator,
        progress: float,
    ) -> Annotated:
        for probability, simulate in steps:
            if random.random() < probability:
                sample = simulate(sample, self.image(int(random.integers(len(self)))), random, progress)
        return sample

    def _order(self, group: int) -> int:
        """The order of the channels, of `ORDERS`, in all draws of a group. Remembered: they follow each other."""
        if self._ordered[0] != group:
            random = np.random.default_rng((self.seed, group, 1))
            other = random.random() < self.augmentation.recolour
            self._ordered = group, int(random.integers(1, len(ORDERS))) if other else 0
        return self._ordered[1]

    def _find(self, row: int) -> tuple[Source, int]:
        i = bisect_right(self._starts, row) - 1
        return self.sources[i], int(row) - self._starts[i]


def _version(sample: Annotated, extent: NDArray[np.float32], small: bool) -> Version:
    if small:
        sample = sample.resize(sample.size[0] * 2 // 3, sample.size[1] * 2 // 3)
    regions, covered = sample.maps["regions"], sample.mask
    visibility, certain = visible_shares(regions, extent * sample.growth, covered)
    points = np.zeros((17, 3), np.float32) if sample.points is None else sample.points
    pseudo = sample.maps.get("pseudo")
    return Version(
        np.ascontiguousarray(sample.image),
        np.ascontiguousarray(regions),
        visibility,
        certain,
        np.ascontiguousarray(covered),
        np.ascontiguousarray(points, np.float32),
        np.full(sample.size, UNKNOWN, np.uint8) if pseudo is None else np.ascontiguousarray(pseudo),
    )


def visible_shares(
    regions: NDArray[np.uint8], extent: NDArray[np.float32], covered: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The visible share of the person and of each region, and whether it is known; both ``(1 + K,)``.

    Args:
        regions: ``(H, W)`` visible pixels of each region, `UNKNOWN` where nobody knows.
        extent: ``(1 + K,)`` pixels of each before anything hid them. NaN where unknown: the share is then what no
            simulator covered of the picture. Infinite for what was not found in the picture: the share is 0, and
            not certain, since a parsing model overlooks small parts.
        covered: ``(H, W)``.
    """
    seen = cv2.calcHist([regions], [0], None, [len(PARTS)], [0, len(PARTS)]).ravel().astype(np.float64)
    seen[0] = seen[1:].sum()
    shares = np.minimum(seen / np.maximum(extent, 1), 1).astype(np.float32)
    known = np.isfinite(extent)
    if not known.all():
        shares[np.isnan(extent)] = 1.0 - np.count_nonzero(covered) / covered.size
    return shares, known


def shares_of(sources: Sequence[Source], shares: Mapping[str, float]) -> NDArray[np.float64] | None:
    """How often each identity is drawn, ``(C,)`` summing to 1; None where no shares are asked for.

    ``shares`` names sources; those left out share the rest by their number of identities.

    Raises:
        ValueError: a share names no source, or they sum to more than 1.
    """
    if not shares:
        return None
    unknown = sorted(set(shares) - {source.name for source in sources})
    total = sum(shares.values())
    if unknown or total > 1 + 1e-6 or (total < 1 - 1e-6 and len(shares) == len(sources)):
        raise ValueError(
            f"data.shares {dict(shares)} must name sources among {[source.name for source in sources]} and sum to 1"
        )
    counts = [len(np.unique(source.people)) * source.copies for source in sources]
    rest = sum(count for count, source in zip(counts, sources, strict=True) if source.name not in shares)
    weights = []
    for count, source in zip(counts, sources, strict=True):
        each = shares[source.name] / count if source.name in shares else (1 - total) / max(1, rest)
        weights.append(np.full(count, each))
    return np.concatenate(weights)


def _counted(columns: Sequence[Int64]) -> Int64:
    """Labels of several sources as numbers from 0, no two sources sharing one, in sorted order within a source."""
    counted, start = [], 0
    for column in columns:
        names, numbers = np.unique(column, return_inverse=True)
        counted.append(numbers + start)
        start += len(names)
    return np.concatenate(counted).astype(np.int64)
