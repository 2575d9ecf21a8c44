"""Photographs for training: decoded once into a cache, with what pose, parsing and a teacher say of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people import PARTS
from glimpse.preprocessing import Preprocessing
from trainer.data.annotated import UNKNOWN
from trainer.data.cache import Arrays, cache_folder, cached
from trainer.data.listing import DatasetError, TrainingListing
from trainer.data.training import Source
from trainer.pose import AnnotationStore

_LEAST_PERSON = 0.03
"""Share of the picture below which a parsing model found nobody."""
_LEAST_PART = 0.004


def decode(
    name: str,
    listing: TrainingListing,
    preprocessing: Preprocessing,
    annotations: Path | None = None,
    *,
    copies: int = 1,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Source, str]:
    """The images of a listing at network resolution, and the key of their pixels in the cache.

    Args:
        name: of the source, in facts and shares.
        annotations: folder of `glimpse datasets annotate`: regions and key-points. An image it lacks counts as
            unknown and is named in the facts.
        copies: see `Source`.

    Raises:
        DatasetError: an image that cannot be decoded, by name; annotations of other images.
    """
    images = listing.images
    store = None if annotations is None else AnnotationStore(annotations)
    count, size = len(images), (preprocessing.height, preprocessing.width)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((count, *size, 3), np.uint8),
        "regions": ((count, *size), np.uint8),
        "extent": ((count, len(PARTS)), np.float32),
        "points": ((count, 17, 3), np.float32),
    }

    def fill(arrays: Arrays) -> None:
        for row in range(count):
            image = images.load(row)
            arrays["images"][row] = preprocessing(image)
            regions = None if store is None else store.regions(images.ids[row])
            arrays["regions"][row], arrays["extent"][row] = _parsed(regions, size)
            arrays["points"][row] = given_points(store, images.ids[row], image.shape[:2], size)
            if progress and (row + 1 == count or row % 64 == 0):
                progress(row + 1, count)

    key = hashlib.sha256(
        json.dumps(
            {
                "format": 2,
                "ids": images.ids,
                "files": None if images.paths is None else [_state(path) for path in images.paths],
                "facts": listing.facts,
                "preprocessing": preprocessing.model_dump(),
                "annotations": None if store is None else store.fingerprint,
            }
        ).encode()
    )
    folder = (cache or cache_folder()) / "photos" / f"{name}-{key.hexdigest()[:16]}"
    arrays: dict[str, Any] = dict(cached(folder, shapes, fill))
    facts = list(listing.facts)
    if store is not None:
        unknown = int((arrays["regions"][:, 0, 0] == UNKNOWN).sum())
        facts.append(f"regions and key-points by {store.describe}; {unknown} of {count} images without a person found")
    if copies > 1:
        facts.append(f"{copies} copies: from the second on in other colours, as people of their own")
    source = Source(name, people=images.people, cameras=images.cameras, facts=tuple(facts), copies=copies, **arrays)
    return source, folder.name


def _state(path: Path) -> tuple[str, int, int]:
    """What changes when a file does: where it is, its size, and when it was written. DatasetError if it is missing."""
    try:
        found = path.stat()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})") from error
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def _parsed(regions: NDArray[np.uint8] | None, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A region map at network resolution and what is known of the extent of each part.

    What is found counts as wholly seen: a photograph does not tell what its obstacles hide. A part that is not found
    counts as hidden, but not for sure.
    """
    height, width = size
    if regions is not None:
        shown = np.asarray(cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        counts = np.bincount(shown.ravel(), minlength=256)[: len(PARTS)].astype(np.float32)
        counts[0] = counts[1:].sum()
        if counts[0] >= _LEAST_PERSON * height * width:
            counts[1:][counts[1:] < _LEAST_PART * height * width] = np.inf
            return shown, counts
    return np.full(size, UNKNOWN, np.uint8), np.full(len(PARTS), np.nan, np.float32)


def given_points(
    store: AnnotationStore | None, name: str, old: tuple[int, int], new: tuple[int, int]
) -> NDArray[np.float32]:
    """COCO key-points at network resolution, ``(17, 3)``; confidence 0 where there are none."""
    found = None if store is None else store.keypoints(name)
    if found is None:
        return np.zeros((17, 3), np.float32)
    points = found.to_coco17().points.astype(np.float32)
    scale = np.array([new[1] / old[1], new[0] / old[0]], np.float32)
    return np.concatenate([(points[:, :2] + 0.5) * scale - 0.5, np.clip(points[:, 2:], 0, 1)], axis=1)
