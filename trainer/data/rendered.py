"""Generated people for training: drawn once into a cache, then read from memory-mapped arrays.

Drawing a person costs more than a training step has time for, so the views (clean and occluded) are drawn
beforehand, and every epoch sees them with other augmentations. The cache key holds everything that decides a pixel,
the source of `glimpse.people` included.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import glimpse.people
from glimpse.people import PARTS, PeopleGenerator
from glimpse.preprocessing import Preprocessing
from trainer.data.augmentation import augment, recolour
from trainer.data.batch import Sample
from trainer.recipe import AugmentationRecipe, DataRecipe

_PIECE = 8  # identities a worker draws at a time


def cache_folder() -> Path:
    """``$GLIMPSE_CACHE``, else ``glimpse`` in the user's cache folder."""
    own = os.environ.get("GLIMPSE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "glimpse"


@dataclass(frozen=True)
class RenderedPeople:
    """Views of generated identities at network resolution; use as a map-style dataset of ``(row, draw)``."""

    images: NDArray[np.uint8]
    """``(N, H, W, 3)``."""
    regions: NDArray[np.uint8]
    """``(N, H, W)``: 1..K on the visible pixels of each region."""
    extent: NDArray[np.float64]
    """``(N, 1 + K)``: pixels of the person and of each region before anything hid them."""
    identities: NDArray[np.int64]
    augmentation: AugmentationRecipe
    seed: int
    views: int = 1
    """Images of one identity in a batch (K): that many consecutive draws share their colours."""
    small_draws: int = 0
    """Draws below this number come at two thirds of height and width."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        row, draw = key
        random = np.random.default_rng((self.seed, draw))
        shared = np.random.default_rng((self.seed, draw // self.views, 1))
        image, other = self.images[row], self.images[random.integers(len(self))]
        known = shared.random() >= self.augmentation.recolour
        if not known:
            image = recolour(image, shared)
        image, regions, growth = augment(image, self.regions[row], other, self.augmentation, random)
        visibility = self._visibility(regions, row, growth)
        if draw < self.small_draws:
            size = (image.shape[1] * 2 // 3, image.shape[0] * 2 // 3)
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            regions = np.asarray(cv2.resize(regions, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return Sample(image, int(self.identities[row]), regions, visibility, known)

    def _visibility(self, regions: NDArray[np.uint8], row: int, growth: float) -> NDArray[np.float32]:
        seen = np.bincount(regions.ravel(), minlength=len(PARTS)).astype(np.float64)
        seen[0] = seen[1:].sum()
        share = seen / np.maximum(self.extent[row] * growth, 1)
        return np.asarray(np.clip(share, 0, 1), np.float32)


def render(
    data: DataRecipe,
    preprocessing: Preprocessing,
    augmentation: AugmentationRecipe,
    *,
    seed: int,
    views: int = 1,
    small_draws: int = 0,
    cache: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> RenderedPeople:
    """The training views of a recipe, drawn by ``workers`` processes unless the cache holds them.

    ``views`` and ``small_draws`` are those of `RenderedPeople`; ``progress(done, all)`` is called in identities.
    """
    folder = (cache or cache_folder()) / "people" / _key(data, preprocessing)
    if not (folder / "done").exists():
        _draw_all(folder, data, preprocessing, workers, progress)
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "regions", "extent", "identities")
    }
    return RenderedPeople(**arrays, augmentation=augmentation, seed=seed, views=views, small_draws=small_draws)


def _draw_all(
    folder: Path,
    data: DataRecipe,
    preprocessing: Preprocessing,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    staging = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    count, size = data.identities * data.views, (preprocessing.height, preprocessing.width)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((count, *size, 3), np.uint8),
        "regions": ((count, *size), np.uint8),
        "extent": ((count, len(PARTS)), np.float64),
        "identities": ((count,), np.int64),
    }
    arrays = {
        name: np.lib.format.open_memmap(staging / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in shapes.items()
    }
    pieces = [range(i, min(i + _PIECE, data.identities)) for i in range(0, data.identities, _PIECE)]
    # "spawn": a forked child inherits the thread pools of torch and OpenCV in an unusable state.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for people, drawn in zip(
            pieces, pool.map(_draw, [(people, data, preprocessing) for people in pieces]), strict=True
        ):
            rows = slice(people.start * data.views, people.stop * data.views)
            for name, values in drawn.items():
                arrays[name][rows] = values
            if progress:
                progress(people.stop, data.identities)
    for array in arrays.values():
        array.flush()
    (staging / "done").touch()
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)


def _draw(task: tuple[Sequence[int], DataRecipe, Preprocessing]) -> dict[str, NDArray[np.generic]]:
    """Draws the views of a few identities."""
    cv2.setNumThreads(1)
    people, data, preprocessing = task
    generator = PeopleGenerator(data.seed, wardrobe="train")
    size = (preprocessing.width, preprocessing.height)
    images, regions, extents, identities = [], [], [], []
    for identity in people:
        random = np.random.default_rng((data.seed, identity))
        for shot in range(data.views):
            # Neighbouring identities meet different cameras, so that a camera tells nothing about an identity.
            camera = (identity * 5 + shot) % data.cameras
            occlusion = data.occlusion if random.random() < data.occluded else None
            view = generator.view(identity, camera, shot, occlusion=occlusion)
            shown = cv2.resize(view.parts * view.visible, size, interpolation=cv2.INTER_NEAREST)
            images.append(preprocessing(view.image))
            regions.append(shown)
            extents.append(view.extent * (shown.size / view.parts.size))
            identities.append(identity)
    return {
        "images": np.stack(images),
        "regions": np.stack(regions),
        "extent": np.stack(extents),
        "identities": np.array(identities),
    }


def _key(data: DataRecipe, preprocessing: Preprocessing) -> str:
    fields = data.model_dump(exclude={"validation_identities"}) | {"preprocessing": preprocessing.model_dump()}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for source in sorted(Path(glimpse.people.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
