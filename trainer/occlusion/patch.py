"""Boxes, the pixels that fill them, and pasting them into a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.annotated import Annotated

UInt8 = NDArray[np.uint8]
IMAGENET_MEAN = np.array([124, 116, 104], np.uint8)
"""ImageNet's mean colour (0.485, 0.456, 0.406), which is 0 after the usual normalisation."""
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Box:
    """A box in whole pixels; may be empty."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, for indexing."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def random_box(
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    random: np.random.Generator,
    *,
    logarithmic: bool = False,
) -> Box:
    """A box of a random area (share of the image) and aspect (height over width) at a random place.

    As in random erasing (Zhong et al., AAAI 2020) a box that does not fit is drawn again; after 20 attempts, which
    only very long images need, it is cut to the image instead.
    """
    height, width = size
    tall = wide = 1
    for _ in range(_ATTEMPTS):
        pixels = random.uniform(*area) * height * width
        if logarithmic:
            ratio = math.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1])))
        else:
            ratio = random.uniform(*aspect)
        tall, wide = max(1, round(math.sqrt(pixels * ratio))), max(1, round(math.sqrt(pixels / ratio)))
        if tall <= height and wide <= width:
            break
    return placed(size, min(tall, height), min(wide, width), random)


def placed(size: tuple[int, int], tall: int, wide: int, random: np.random.Generator) -> Box:
    """A box of that height and width at a random place within the image."""
    top, left = int(random.integers(size[0] - tall + 1)), int(random.integers(size[1] - wide + 1))
    return Box(top, left, tall, wide)


def stretched(piece: UInt8, height: int, width: int) -> UInt8:
    """``piece`` at another size, by area where it shrinks."""
    if piece.shape[:2] == (height, width):
        return piece
    shrinks = height * width < piece.shape[0] * piece.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(piece, (width, height), interpolation=how), np.uint8)


def noise(height: int, width: int, random: np.random.Generator) -> UInt8:
    """``(height, width, 3)``: what N(0, 1) after a normalisation by mean and deviation 0.5 is before it."""
    return np.clip(random.normal(127.5, 127.5, (height, width, 3)), 0, 255).astype(np.uint8)


def paste(sample: Annotated, box: Box, pixels: UInt8, shape: NDArray[np.bool_] | None = None) -> Annotated:
    """The sample behind ``pixels`` ``(height, width, 3)``, or one colour ``(3,)``, in a box.

    ``shape`` ``(height, width)`` says which pixels of the box are really covered; left out: all.
    """
    if not box.height or not box.width:
        return sample
    mask = np.zeros(sample.size, np.bool_)
    mask[box.slices] = True if shape is None else shape
    layer = np.zeros_like(sample.image)
    layer[box.slices] = pixels
    return sample.cover(mask, layer)
