"""Joint changes of an image and its map of visible regions, on uint8 arrays with OpenCV.

They keep the two aligned: a pixel that moves takes its region along, and one that is covered or leaves the frame is
no longer visible.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.recipe import AugmentationRecipe

Image = NDArray[np.uint8]


def augment(
    image: Image, regions: NDArray[np.uint8], other: Image, recipe: AugmentationRecipe, random: np.random.Generator
) -> tuple[Image, NDArray[np.uint8], float]:
    """A changed copy of an image and its regions, and the factor by which areas grew.

    Args:
        image: uint8 ``(H, W, 3)``.
        regions: uint8 ``(H, W)``, 1..K on the visible pixels of the person, else 0.
        other: another image of the same size, which occluders are cut from.
        recipe: how much of each change.
        random: draws everything.
    """
    image, regions, growth = _move(image, regions, recipe, random)
    if random.random() < recipe.backdrop:
        image = replace_backdrop(image, regions, other, random)
    if random.random() < recipe.cover:
        image, regions = cover(image, regions, other, random)
    if recipe.colour > 0:
        image = _tint(image, recipe.colour, random)
    if random.random() < recipe.blur:
        image = _lose_resolution(image, random)
    return np.ascontiguousarray(image), np.ascontiguousarray(regions), growth


def cover(
    image: Image, regions: NDArray[np.uint8], other: Image, random: np.random.Generator
) -> tuple[Image, NDArray[np.uint8]]:
    """Hides a side or a box of the image behind a piece of ``other`` or one colour.

    Half of the time a strip of 20 to 60 % of one side (the bottom twice as likely as top, left or right), else a box
    of 20 to 60 % of height and of width; three in ten are rounded to an ellipse.
    """
    height, width = regions.shape
    share = random.uniform(0.2, 0.6)
    top, left, bottom, right = 0, 0, height, width
    if random.random() < 0.5:
        side = random.choice(["bottom", "bottom", "top", "left", "right"])
        if side == "bottom":
            top = round(height * (1 - share))
        elif side == "top":
            bottom = round(height * share)
        elif side == "left":
            right = round(width * share)
        else:
            left = round(width * (1 - share))
    else:
        tall, wide = round(height * share), round(width * random.uniform(0.2, 0.6))
        top, left = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
        bottom, right = top + tall, left + wide
    shape = np.ones((bottom - top, right - left), np.uint8)
    if random.random() < 0.3:
        shape[:] = 0
        middle, half = (shape.shape[1] // 2, shape.shape[0] // 2), (shape.shape[1] // 2, shape.shape[0] // 2)
        cv2.ellipse(shape, middle, half, 0, 0, 360, 1, -1)
    image, regions = image.copy(), regions.copy()
    if random.random() < 0.7:
        y = int(random.integers(0, height - (bottom - top) + 1))
        x = int(random.integers(0, width - (right - left) + 1))
        piece = other[y : y + bottom - top, x : x + right - left]
    else:
        piece = np.broadcast_to(random.integers(0, 256, 3).astype(np.uint8), (bottom - top, right - left, 3))
    covered = shape.astype(bool)
    image[top:bottom, left:right][covered] = piece[covered]
    regions[top:bottom, left:right][covered] = 0
    return image, regions


def replace_backdrop(image: Image, regions: NDArray[np.uint8], other: Image, random: np.random.Generator) -> Image:
    """Puts everything that is not the person, occluders included, behind a magnified piece of ``other``."""
    height, width = regions.shape
    share = random.uniform(0.2, 0.6)
    tall, wide = round(height * share), round(width * share)
    y, x = int(random.integers(0, height - tall + 1)), int(random.integers(0, width - wide + 1))
    behind = cv2.resize(other[y : y + tall, x : x + wide], (width, height), interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.5:
        behind = 255 - behind
    # A soft edge, so that the cut itself does not tell where the person is.
    alpha = cv2.GaussianBlur((regions > 0).astype(np.float32), (5, 5), 1.0)[..., None]
    return np.asarray(alpha * image + (1 - alpha) * behind, np.uint8)


def recolour(image: Image, random: np.random.Generator) -> Image:
    """The image with its colour channels in another order: the same person in clothes of other colours."""
    orders = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    return np.ascontiguousarray(image[..., orders[int(random.integers(len(orders)))]])


def _move(
    image: Image, regions: NDArray[np.uint8], recipe: AugmentationRecipe, random: np.random.Generator
) -> tuple[Image, NDArray[np.uint8], float]:
    """Flip, shift and zoom in one warp; the frame is filled up with the border's pixels."""
    height, width = regions.shape
    zoom = random.uniform(1 - recipe.shift, 1 + recipe.shift)
    flip = random.random() < recipe.flip
    across = -zoom if flip else zoom
    x = width / 2 - across * width / 2 + random.uniform(-recipe.shift, recipe.shift) * width
    y = height / 2 - zoom * height / 2 + random.uniform(-recipe.shift, recipe.shift) * height
    matrix = np.array([[across, 0, x - flip], [0, zoom, y]])
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    regions = cv2.warpAffine(regions, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return np.asarray(moved, np.uint8), np.asarray(regions, np.uint8), zoom * zoom


def _tint(image: Image, most: float, random: np.random.Generator) -> Image:
    """Another exposure and white balance, by a table a channel."""
    gain = (1 + random.uniform(-most, most)) * (1 + random.uniform(-most, most, 3) / 2)
    offset = random.uniform(-most, most) * 64
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def _lose_resolution(image: Image, random: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    share = random.uniform(0.35, 0.8)
    small = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
