"""A side, a box or an ellipse behind a piece of another image or one colour: Glimpse's own occluder for training.

Unlike `strip` it takes any piece of the other image, people included, so that neither straight edges nor "shows a
person" tell what hides something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.patch import Box, paste, placed, stretched
from trainer.occlusion.simulator import Options, Shares
from trainer.occlusion.strip import SIDES, side_box


class SideOrBoxOptions(Options):
    """How much, and how often which."""

    ratio: Shares = Field(default=(0.2, 0.6), description="covered share of the side, or of height and width")
    side: float = Field(default=0.5, ge=0, le=1, description="how often a whole side instead of a box")
    ellipse: float = Field(default=0.3, ge=0, le=1, description="how often it is rounded to an ellipse")
    piece: float = Field(default=0.7, ge=0, le=1, description="how often a piece of the other image, else one colour")


@dataclass(frozen=True)
class SideOrBox:
    """A side (the bottom twice as likely as top, left or right) or a box, perhaps rounded, is hidden."""

    options: SideOrBoxOptions
    Options: ClassVar = SideOrBoxOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample with the occluder, if it happens."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        height, width = sample.size
        share = random.uniform(*options.ratio)
        if random.random() < options.side:
            box = side_box(sample.size, str(random.choice(SIDES)), share)
        else:
            tall, wide = round(height * share), round(width * random.uniform(*options.ratio))
            box = placed(sample.size, tall, wide, random)
        if not box.height or not box.width:
            return sample
        shape = _ellipse(box) if random.random() < options.ellipse else None
        if random.random() < options.piece:
            place = placed(sample.size, box.height, box.width, random)
            pixels = stretched(other, height, width)[place.slices]
        else:
            pixels = random.integers(0, 256, 3).astype(np.uint8)
        return paste(sample, box, pixels, shape)


def _ellipse(box: Box) -> NDArray[np.bool_]:
    """The ellipse that fills a box; ``(height, width)``."""
    shape = np.zeros((box.height, box.width), np.uint8)
    middle = (box.width // 2, box.height // 2)
    cv2.ellipse(shape, middle, middle, 0, 0, 360, 1, -1)
    return shape.astype(np.bool_)
