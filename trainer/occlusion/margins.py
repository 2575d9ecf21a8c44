"""Where an image of a person shows background: its outer margins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.occlusion.patch import stretched

UInt8 = NDArray[np.uint8]


def side_margin(image: UInt8, share: float, random: np.random.Generator) -> UInt8:
    """The left or right margin, ``share`` of the width wide and as high as the image; a view."""
    wide = _part(image.shape[1], share)
    return image[:, :wide] if random.random() < 0.5 else image[:, image.shape[1] - wide :]


def background(image: UInt8, height: int, width: int, share: float, random: np.random.Generator) -> UInt8:
    """A background patch ``(height, width, 3)``: a random crop from a side margin or an upper corner, enlarged.

    A corner is twice as wide as a margin and square with it: beside the head there is more room than beside the arms.
    The crop has the aspect of the patch, as far as the margin allows, and half to all of the size that fits.
    """
    source = side_margin(image, share, random)
    if random.random() < 0.5:
        wide = _part(image.shape[1], 2 * share)
        corner = image[: min(wide, image.shape[0])]
        source = corner[:, :wide] if random.random() < 0.5 else corner[:, image.shape[1] - wide :]
    rows, columns = source.shape[:2]
    scale = min(rows / height, columns / width) * random.uniform(0.5, 1.0)
    tall, wide = min(rows, max(1, round(height * scale))), min(columns, max(1, round(width * scale)))
    y, x = int(random.integers(rows - tall + 1)), int(random.integers(columns - wide + 1))
    return stretched(source[y : y + tall, x : x + wide], height, width)


def _part(length: int, share: float) -> int:
    return min(length, max(1, round(length * share)))
