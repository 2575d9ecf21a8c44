"""Places behind people: a backdrop above a ground, one pair per camera, other kinds in train and test."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.palette import Wardrobe

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Painter = Callable[[np.random.Generator, int, int], Float32]


def mottle(rng: np.random.Generator, height: int, width: int, cell: float, amount: float) -> Float32:
    """Smooth random brightness around 1, float32 ``(height, width, 1)``; ``cell`` in pixels."""
    rows, columns = max(2, int(height / cell) + 2), max(2, int(width / cell) + 2)
    coarse = rng.normal(1.0, amount, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)[..., None]


def _tone(rng: np.random.Generator, base: tuple[float, float, float], spread: float = 14.0) -> Float32:
    return np.clip(np.array(base) * rng.uniform(0.75, 1.2) + rng.normal(0, spread, 3), 10, 245).astype(np.float32)


def _filled(height: int, width: int, colour: Float32) -> Float32:
    image = np.empty((height, width, 3), np.float32)
    image[:] = colour
    return image


def _plaster(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (196, 188, 172), 18))
    image *= mottle(rng, height, width, 40, 0.06) * mottle(rng, height, width, 4, 0.025)
    for _ in range(int(rng.integers(1, 4))):
        _panel(rng, image, _tone(rng, (120, 120, 120), 50))
    return image


def _panel(rng: np.random.Generator, image: Float32, colour: Float32) -> None:
    height, width = image.shape[:2]
    w, h = int(width * rng.uniform(0.12, 0.35)), int(height * rng.uniform(0.3, 0.7))
    x, y = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
    image[y : y + h, x : x + w] = colour * 0.55
    image[y + 2 : y + h - 2, x + 2 : x + w - 2] = colour


def _bricks(rng: np.random.Generator, height: int, width: int) -> Float32:
    base = _tone(rng, (156, 94, 74), 16)
    image = _filled(height, width, base * 0.72 + 40)
    tall = max(4, int(height / rng.uniform(14, 22)))
    long = int(tall * 2.6)
    for row, y in enumerate(range(0, height, tall)):
        for x in range(-(row % 2) * long // 2, width, long):
            image[y : y + tall - 1, max(0, x) : max(0, x + long - 1)] = base * (1 + rng.normal(0, 0.08))
    return image * mottle(rng, height, width, 30, 0.05)


def _hedge(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (66, 100, 52), 10))
    image *= (
        mottle(rng, height, width, 28, 0.18)
        * mottle(rng, height, width, 9, 0.2)
        * mottle(rng, height, width, 3.5, 0.22)
    )
    return image


def _shopfront(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (92, 108, 120), 14))
    image *= np.linspace(1.25, 0.8, height, dtype=np.float32)[:, None, None] * mottle(rng, height, width, 36, 0.12)
    frame = _tone(rng, (70, 66, 62), 20)
    step = int(width / rng.uniform(3, 6))
    for x in range(int(rng.integers(0, step)), width, step):
        image[:, x : x + max(3, step // 12)] = frame
        shown = _tone(rng, (150, 130, 110), 60)
        image[int(height * 0.45) :, x + step // 4 : x + step // 2] = shown
    image[: int(height * 0.12)] = _tone(rng, (140, 60, 60), 60)
    return image


def _stone(rng: np.random.Generator, height: int, width: int) -> Float32:
    base = _tone(rng, (150, 144, 134), 10)
    image = _filled(height, width, base * 0.7)
    tall = max(8, int(height / rng.uniform(5, 9)))
    for y in range(0, height, tall):
        x = -int(rng.integers(0, tall))
        while x < width:
            long = int(tall * rng.uniform(1.0, 2.2))
            image[y + 1 : y + tall - 1, max(0, x + 1) : max(0, x + long - 1)] = base * (1 + rng.normal(0, 0.1))
            x += long
    return image * mottle(rng, height, width, 5, 0.05)


def _shutter(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (130, 134, 140), 30))
    pitch = max(4.0, height / rng.uniform(18, 30))
    image *= (1 + 0.14 * np.sin(np.arange(height, dtype=np.float32) * (2 * np.pi / pitch)))[:, None, None]
    if rng.random() < 0.7:  # graffiti
        for _ in range(int(rng.integers(3, 7))):
            points = np.cumsum(rng.normal(0, width / 9, (7, 2)), axis=0) + rng.uniform(0.2, 0.8, 2) * (width, height)
            cv2.polylines(
                image,
                [points.astype(np.int32)],
                False,
                _tone(rng, (140, 110, 140), 70).tolist(),
                int(rng.integers(3, 8)),
            )
    return image


def _woodland(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (128, 142, 110), 14)) * mottle(rng, height, width, 12, 0.15)
    for _ in range(int(rng.integers(6, 12))):
        x, wide = int(rng.integers(0, width)), int(rng.integers(3, max(4, width // 16)))
        image[:, x : x + wide] = (
            _tone(rng, (92, 76, 60), 12) * mottle(rng, height, wide, 4, 0.12)[:, : image[:, x : x + wide].shape[1]]
        )
    return image


def _tiles(rng: np.random.Generator, height: int, width: int) -> Float32:
    base, other = _tone(rng, (190, 200, 200), 24), _tone(rng, (110, 140, 160), 40)
    image = _filled(height, width, base)
    side = max(6, int(height / rng.uniform(8, 14)))
    rows, columns = np.indices((height, width)) // side
    image[(rows % 4) == 1] = other
    image *= (1 + 0.03 * ((rows * 7 + columns * 13) % 5 - 2))[..., None].astype(np.float32)
    grid = ((np.indices((height, width)) % side) == 0).any(axis=0)
    image[grid] *= 0.75
    return image


def _ground_plane(rng: np.random.Generator, height: int, width: int) -> tuple[Float32, Float32]:
    """Coordinates across and away on a floor that recedes upward, each ``(height, width)``."""
    row = np.arange(1, height + 1, dtype=np.float32)[:, None] / height
    away = 1.0 / (row + 0.35)
    across = (np.arange(width, dtype=np.float32)[None, :] / width - rng.uniform(0.2, 0.8)) * away
    return across.astype(np.float32), np.broadcast_to(away, (height, width)).astype(np.float32)


def _asphalt(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (104, 104, 106), 8))
    image *= mottle(rng, height, width, 2.5, 0.07) * mottle(rng, height, width, 50, 0.06)
    if rng.random() < 0.5:
        y = int(height * rng.uniform(0.1, 0.6))
        image[y : y + max(2, height // 25)] = _tone(rng, (214, 210, 196), 8)
    return image


def _slabs(rng: np.random.Generator, height: int, width: int) -> Float32:
    across, away = _ground_plane(rng, height, width)
    tiles_x, tiles_y = np.floor(across * rng.uniform(4, 8)), np.floor(away * rng.uniform(4, 7))
    image = _filled(height, width, _tone(rng, (164, 156, 146), 12))
    checker = ((tiles_x * 3 + tiles_y * 5) % 7) / 7.0
    image *= (0.88 + 0.2 * checker)[..., None].astype(np.float32) * mottle(rng, height, width, 3, 0.04)
    return image


def _crossing(rng: np.random.Generator, height: int, width: int) -> Float32:
    across, _ = _ground_plane(rng, height, width)
    image = _asphalt(rng, height, width)
    stripes = (np.floor(across * rng.uniform(3.5, 6)) % 2 == 0)[..., None]
    return np.where(stripes, image * 0.3 + 165, image).astype(np.float32)


def _planks(rng: np.random.Generator, height: int, width: int) -> Float32:
    _, away = _ground_plane(rng, height, width)
    boards = np.floor(away * rng.uniform(8, 14))
    image = _filled(height, width, _tone(rng, (150, 112, 78), 12))
    image *= (0.85 + 0.06 * (boards * 3 % 6))[..., None].astype(np.float32) * mottle(rng, height, width, 6, 0.06)
    return image


def _grass(rng: np.random.Generator, height: int, width: int) -> Float32:
    image = _filled(height, width, _tone(rng, (98, 128, 64), 10))
    image *= mottle(rng, height, width, 3, 0.14) * mottle(rng, height, width, 30, 0.1)
    return image


def _lobby(rng: np.random.Generator, height: int, width: int) -> Float32:
    across, away = _ground_plane(rng, height, width)
    pattern = (np.floor(across * rng.uniform(5, 9)) + np.floor(away * rng.uniform(5, 9))) % 2
    light, dark = _tone(rng, (200, 196, 186), 10), _tone(rng, (96, 84, 80), 20)
    image = np.where(pattern[..., None] > 0, light, dark).astype(np.float32)
    return image * np.linspace(0.95, 1.08, height, dtype=np.float32)[:, None, None]


_BACKDROPS: dict[str, tuple[Painter, ...]] = {
    "train": (_plaster, _bricks, _hedge, _shopfront),
    "test": (_stone, _shutter, _woodland, _tiles),
}
_GROUNDS: dict[str, tuple[Painter, ...]] = {
    "train": (_asphalt, _slabs, _crossing),
    "test": (_planks, _grass, _lobby),
}


def draw_scene(rng: np.random.Generator, wardrobe: Wardrobe, height: int, width: int) -> UInt8:
    """An empty place, uint8 RGB ``(height, width, 3)``: a backdrop, the ground it stands on, uneven light."""
    backdrops = _BACKDROPS["train"] + _BACKDROPS["test"] if wardrobe == "all" else _BACKDROPS[wardrobe]
    grounds = _GROUNDS["train"] + _GROUNDS["test"] if wardrobe == "all" else _GROUNDS[wardrobe]
    horizon = int(height * rng.uniform(0.42, 0.68))
    above = backdrops[int(rng.integers(len(backdrops)))](rng, horizon, width)
    below = grounds[int(rng.integers(len(grounds)))](rng, height - horizon, width)
    image = np.concatenate([above, below])
    kerb = max(2, height // 60)
    image[horizon - kerb : horizon] *= 0.62
    image[horizon : horizon + 3 * kerb] *= np.linspace(0.75, 1.0, 3 * kerb, dtype=np.float32)[:, None, None]
    image *= mottle(rng, height, width, height / 3, 0.1)
    # Streets are duller than clothes.
    grey = image.mean(axis=2, keepdims=True)
    image = grey + 0.7 * (image - grey)
    image = image.mean() + 0.8 * (image - image.mean())
    return np.asarray(np.clip(image, 0, 255), np.uint8)
