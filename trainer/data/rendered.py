"""Generated people for training: drawn once into a cache, then read from memory-mapped arrays.

Drawing a person costs more than a training step has time for, so the views (clean and occluded) are drawn
beforehand, and every epoch sees them with other augmentations. The cache key holds everything that decides a pixel,
the source of `glimpse.people` included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import glimpse.people
from glimpse.people import PARTS, PeopleGenerator
from glimpse.preprocessing import Preprocessing
from trainer.data.cache import Arrays, cache_folder, cached
from trainer.data.training import Source
from trainer.recipe import DataRecipe

_PIECE = 8  # identities a worker draws at a time


def render(
    data: DataRecipe,
    preprocessing: Preprocessing,
    *,
    cache: Path | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Source, str]:
    """The training views of a recipe, drawn by ``workers`` processes unless the cache holds them; and their key there.

    ``progress(done, all)`` is called in identities.
    """
    count, size = data.identities * data.views, (preprocessing.height, preprocessing.width)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((count, *size, 3), np.uint8),
        "regions": ((count, *size), np.uint8),
        "extent": ((count, len(PARTS)), np.float32),
        "points": ((count, 17, 3), np.float32),
        "people": ((count,), np.int64),
        "cameras": ((count,), np.int64),
    }

    def fill(arrays: Arrays) -> None:
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

    folder = (cache or cache_folder()) / "people" / _key(data, preprocessing)
    facts = (
        f"{data.identities} generated identities, {data.views} views each by {data.cameras} cameras, wardrobe 'train', "
        f"seed {data.seed}; no image of a real person",
    )
    arrays: dict[str, Any] = dict(cached(folder, shapes, fill))
    return Source("generated", facts=facts, **arrays), folder.name


def _draw(task: tuple[Sequence[int], DataRecipe, Preprocessing]) -> dict[str, NDArray[np.generic]]:
    """Draws the views of a few identities."""
    cv2.setNumThreads(1)
    people, data, preprocessing = task
    generator = PeopleGenerator(data.seed, wardrobe="train")
    size = (preprocessing.width, preprocessing.height)
    drawn: dict[str, list[object]] = {
        name: [] for name in ("images", "regions", "extent", "points", "people", "cameras")
    }
    for identity in people:
        random = np.random.default_rng((data.seed, identity))
        for shot in range(data.views):
            # Neighbouring identities meet different cameras, so that a camera tells nothing about an identity.
            camera = (identity * 5 + shot) % data.cameras
            occlusion = data.occlusion if random.random() < data.occluded else None
            view = generator.view(identity, camera, shot, occlusion=occlusion)
            shown = cv2.resize(view.parts * view.visible, size, interpolation=cv2.INTER_NEAREST)
            scale = np.array(size, np.float32) / view.parts.shape[::-1]
            points = np.concatenate(
                [(view.keypoints[:, :2] + 0.5) * scale - 0.5, view.keypoints[:, 2:] == 2], axis=1, dtype=np.float32
            )
            drawn["images"].append(preprocessing(view.image))
            drawn["regions"].append(shown)
            drawn["extent"].append(view.extent * (shown.size / view.parts.size))
            drawn["points"].append(points)
            drawn["people"].append(identity)
            drawn["cameras"].append(camera)
    return {name: np.stack(values) for name, values in drawn.items()}  # type: ignore[arg-type]


def _key(data: DataRecipe, preprocessing: Preprocessing) -> str:
    deciding = {"identities", "views", "cameras", "occluded", "occlusion", "seed"}
    fields = data.model_dump(include=deciding) | {"preprocessing": preprocessing.model_dump(), "format": 2}
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for source in sorted(Path(glimpse.people.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
