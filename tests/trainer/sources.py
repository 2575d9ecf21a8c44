"""Sources of training images that cost nothing: flat people in bands of their own colours, with whole annotations."""

from __future__ import annotations

import numpy as np

from glimpse.people import PARTS
from trainer.data.listing import ImageSet, Listing
from trainer.data.training import Source

HEIGHT, WIDTH = 64, 32
CAMERAS = 3


def banded_people(
    identities: int = 12, views: int = 4, *, name: str = "banded", first: int = 0, counts: tuple[int, ...] = ()
) -> Source:
    """People whose colours tell them apart; ``counts`` are images of each identity where they differ."""
    sizes = counts or (views,) * identities
    rows = [(first + i, shot) for i, count in enumerate(sizes) for shot in range(count)]
    people = np.array([who for who, _ in rows], np.int64)
    regions = np.stack([_regions()] * len(rows)) if rows else np.zeros((0, HEIGHT, WIDTH), np.uint8)
    images = [_image(who, shot) for who, shot in rows]
    counted = np.bincount(_regions().ravel(), minlength=len(PARTS)).astype(np.float32)
    counted[0] = counted[1:].sum()
    points = np.zeros((len(rows), 17, 3), np.float32)
    points[..., 0], points[..., 1], points[..., 2] = WIDTH / 2, np.linspace(8, HEIGHT - 8, 17), 1.0
    return Source(
        name,
        np.stack(images) if images else np.zeros((0, HEIGHT, WIDTH, 3), np.uint8),
        regions,
        np.tile(counted, (len(rows), 1)),
        points,
        people,
        np.array([shot % CAMERAS for _, shot in rows], np.int64),
        facts=("flat colours",),
    )


def banded_listing(identities: int = 6, *, first: int = 1000) -> Listing:
    """Held-out people of the same kind: one query, two gallery images each."""
    people = range(first, first + identities)
    query = [(who, 0) for who in people]
    gallery = [(who, shot) for who in people for shot in (1, 2)]
    return Listing("banded held out", _set(query), _set(gallery), ("held out of nothing",))


def _set(rows: list[tuple[int, int]]) -> ImageSet:
    return ImageSet(
        tuple(f"{who}_{shot}" for who, shot in rows),
        np.array([who for who, _ in rows], np.int64),
        np.array([shot % CAMERAS for _, shot in rows], np.int64),
        lambda row: _image(*rows[row]),
    )


def _regions() -> np.ndarray:
    """Every region is a band of the middle half."""
    regions = np.zeros((HEIGHT, WIDTH), np.uint8)
    for part, rows in enumerate(np.array_split(np.arange(HEIGHT), len(PARTS) - 1), start=1):
        regions[rows, WIDTH // 4 : -WIDTH // 4] = part
    return regions


def _image(who: int, shot: int) -> np.ndarray:
    clothes = np.random.default_rng(who).integers(0, 256, (len(PARTS), 3))
    noise = np.random.default_rng((who, shot)).normal(0, 12, (HEIGHT, WIDTH, 3))
    clothes[0] = 60 * (shot % CAMERAS)  # the backdrop is the camera's
    return np.clip(clothes[_regions()] + noise, 0, 255).astype(np.uint8)
