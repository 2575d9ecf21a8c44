"""Random erasing (Zhong et al., AAAI 2020), of labels and key-points too.

ISP's public code erases its label map, which is four times smaller than the image, with the image's coordinates; here
both are erased before anything is down-sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.patch import IMAGENET_MEAN, noise, paste, random_box
from trainer.occlusion.simulator import Options, Ratios, Shares


class ErasingOptions(Options):
    """The values of the strong baseline (Luo et al., CVPRW 2019), which erases with probability 0.5."""

    area: Shares = Field(default=(0.02, 0.4), description="of the box, as a share of the image: from, to")
    aspect: Ratios = Field(default=(0.3, 1 / 0.3), description="height over width of the box: from, to")
    fill: Literal["mean", "image", "noise", "colour"] = Field(
        default="mean", description="ImageNet's mean, this image's mean (ISP), noise, or one random colour"
    )


@dataclass(frozen=True)
class RandomErasing:
    """A random box that shows nothing."""

    options: ErasingOptions
    Options: ClassVar = ErasingOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample with the box erased, if it happens; ``other`` is not looked at."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        box = random_box(sample.size, options.area, options.aspect, random)
        if options.fill == "mean":
            pixels = IMAGENET_MEAN
        elif options.fill == "image":
            pixels = np.rint(sample.image.mean(axis=(0, 1))).astype(np.uint8)
        elif options.fill == "noise":
            pixels = noise(box.height, box.width, random)
        else:
            pixels = random.integers(0, 256, 3).astype(np.uint8)
        return paste(sample, box, pixels)
