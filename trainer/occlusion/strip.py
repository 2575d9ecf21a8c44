"""One side of the image behind background of another image: what the occluded protocols do to their queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.margins import side_margin
from trainer.occlusion.patch import Box, paste, stretched
from trainer.occlusion.simulator import Options, Shares

SIDES = ("bottom", "bottom", "top", "left", "right")
"""Drawn with equal chances: the bottom, where cars and bags stand, is twice as likely as any other."""


class StripOptions(Options):
    """Those of ``market1501-occluded``."""

    ratio: Shares = Field(default=(0.3, 0.6), description="covered share of the side: from, to")
    margin: float = Field(default=0.2, gt=0, le=0.5, description="share of the width taken for background, a side")


@dataclass(frozen=True)
class Strip:
    """A strip along one side: a margin of another image, stretched across it to fill the strip."""

    options: StripOptions
    Options: ClassVar = StripOptions

    def draw(self, random: np.random.Generator) -> tuple[str, float]:
        """A side, and which share of it to cover."""
        low, high = self.options.ratio
        return str(random.choice(SIDES)), low + (high - low) * float(random.random())

    def hide(
        self, sample: Annotated, other: NDArray[np.uint8], side: str, share: float, random: np.random.Generator
    ) -> Annotated:
        """The sample with ``share`` of it covered from ``side``; a share below half a pixel covers nothing."""
        box = side_box(sample.size, side, share)
        if not box.height or not box.width:
            return sample
        margin = side_margin(other, self.options.margin, random)
        # Rows keep their scale: a strip of half the height shows half of the margin's rows.
        rows = max(1, round(len(margin) * box.height / sample.size[0]))
        top = int(random.integers(len(margin) - rows + 1))
        return paste(sample, box, stretched(margin[top : top + rows], box.height, box.width))

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample with the strip, if it happens."""
        if not self.options.happens(random, progress):
            return sample
        side, share = self.draw(random)
        return self.hide(sample, other, side, share, random)


def side_box(size: tuple[int, int], side: str, share: float) -> Box:
    """The box that covers ``share`` of the image from one side, to the nearest pixel."""
    height, width = size
    if side in ("bottom", "top"):
        tall = round(height * share)
        return Box(height - tall if side == "bottom" else 0, 0, tall, width)
    wide = round(width * share)
    return Box(0, width - wide if side == "right" else 0, height, wide)
