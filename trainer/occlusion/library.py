"""Occluders from a library: how FED (Wang et al., CVPR 2022) makes the occluded copy of an image.

Sizes are those of the public code at 256 x 128, as shares of the image. The labels that belong to it are in
`trainer.occlusion.coverage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.colour import jitter
from trainer.occlusion.occluders import OccluderLibrary
from trainer.occlusion.patch import Box, paste, stretched
from trainer.occlusion.simulator import Options, Shares


class LibraryOptions(Options):
    """FED's own values."""

    tall: float = Field(default=2.0, gt=0, description="a patch with a larger height over width stands upright")
    width: Shares = Field(default=(0.25, 0.5), description="of an upright patch, which is as high as the image")
    height: Shares = Field(default=(0.25, 0.5), description="of any other, which is as wide as the image")
    flip: float = Field(default=0.5, ge=0, le=1, description="how often a patch is mirrored")
    colour: float = Field(default=0.5, ge=0, lt=1, description="colour jitter of patches that lie")


@dataclass(frozen=True)
class LibraryPaste:
    """A patch of the library in one of the four corners: left or right at full height, top or bottom at full width."""

    options: LibraryOptions
    library: OccluderLibrary
    Options: ClassVar = LibraryOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample behind the patch, if it happens; ``other`` is not looked at."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        patch = self.library.draw(random)
        height, width = span_a_side(sample.size, patch, options.tall, options.width, options.height, random)
        if height < sample.size[0]:
            patch = jitter(patch, options.colour, random)
        if random.random() < options.flip:
            patch = patch[:, ::-1]
        top = (sample.size[0] - height) * int(random.integers(2))
        left = (sample.size[1] - width) * int(random.integers(2))
        pixels = stretched(np.ascontiguousarray(patch), height, width)
        return paste(sample, Box(top, left, height, width), pixels)


def span_a_side(
    size: tuple[int, int],
    patch: NDArray[np.uint8],
    tall: float,
    wide: tuple[float, float],
    high: tuple[float, float],
    random: np.random.Generator,
) -> tuple[int, int]:
    """Height and width a patch is given: an upright one spans the image's height, any other its width."""
    height, width = size
    share = random.uniform(*(wide if patch.shape[0] > tall * patch.shape[1] else high))
    if patch.shape[0] > tall * patch.shape[1]:
        return height, max(1, round(width * share))
    return max(1, round(height * share)), width
