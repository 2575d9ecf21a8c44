"""The shrinking of T-MSPR (2025): the whole image smaller in its middle, its border repeated outwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.simulator import Options, Ratios


class ShrinkOptions(Options):
    """T-MSPR's values."""

    scale: Ratios = Field(default=(0.8, 1.0), description="size of what is shown: from, to")


@dataclass(frozen=True)
class Shrink:
    """The person seems farther away."""

    options: ShrinkOptions
    Options: ClassVar = ShrinkOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """The sample moved by one warp, labels and key-points alike; ``other`` is not looked at."""
        if not self.options.happens(random, progress):
            return sample
        height, width = sample.size
        scale = random.uniform(*self.options.scale)
        x, y = (width - 1) * (1 - scale) / 2, (height - 1) * (1 - scale) / 2
        return sample.warp(np.array([[scale, 0, x], [0, scale, y]]))
