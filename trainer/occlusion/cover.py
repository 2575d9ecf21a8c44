"""The covering of T-MSPR (2025): a crop of another training image over a whole side, then random erasing with noise.

The public code pastes a patch of [0, 1] colours into an image that is normalised already. Here everything happens
before normalisation, so the patch keeps its colours. It also reads its crops from Occluded-Duke whatever it trains on;
here they come from the set that is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.colour import jitter
from trainer.occlusion.library import span_a_side
from trainer.occlusion.patch import noise, paste, placed, random_box, stretched
from trainer.occlusion.simulator import Options, Ratios, Shares


class CoverOptions(Options):
    """T-MSPR's values; those of the erasing are timm's."""

    crop: Shares = Field(default=(0.25, 0.5), description="height and width of the crop, as shares of the other image")
    tall: float = Field(default=2.0, gt=0, description="a crop with a larger height over width stands upright")
    width: Shares = Field(default=(0.25, 0.5), description="of an upright crop, which is as high as the image")
    height: Shares = Field(default=(0.25, 0.5), description="of any other, which is as wide as the image")
    colour: float = Field(default=0.5, ge=0, lt=1, description="colour jitter of the crop")
    flip: float = Field(default=0.5, ge=0, le=1, description="how often the crop is mirrored")
    erase: float = Field(default=1.0, ge=0, le=1, description="how often a box of noise follows")
    area: Shares = Field(default=(0.02, 1 / 3), description="of the noise, as a share of the image")
    aspect: Ratios = Field(default=(0.3, 1 / 0.3), description="height over width of the noise, drawn by its logarithm")


@dataclass(frozen=True)
class Cover:
    """A crop of the other image, anywhere along one direction, and a box of noise."""

    options: CoverOptions
    Options: ClassVar = CoverOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample behind both, if it happens."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        rows, columns = other.shape[:2]
        shares = random.uniform(*options.crop, 2)
        crop = placed((rows, columns), max(1, round(rows * shares[0])), max(1, round(columns * shares[1])), random)
        patch = other[crop.slices]
        height, width = span_a_side(sample.size, patch, options.tall, options.width, options.height, random)
        patch = jitter(stretched(patch, height, width), options.colour, random)
        if random.random() < options.flip:
            patch = patch[:, ::-1]
        sample = paste(sample, placed(sample.size, height, width, random), patch)
        if random.random() >= options.erase:
            return sample
        box = random_box(sample.size, options.area, options.aspect, random, logarithmic=True)
        return paste(sample, box, noise(box.height, box.width, random))
