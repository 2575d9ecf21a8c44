"""The amplifying of T-MSPR (2025): a random part of the padded image, magnified to the size of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.simulator import Options, Ratios, Shares

_ATTEMPTS = 10


class AmplifyOptions(Options):
    """T-MSPR's values; its padding of 30 pixels at 256 x 128 is given in shares of the sides."""

    pad: tuple[float, float] = Field(default=(30 / 256, 30 / 128), description="black border, of height and of width")
    area: Shares = Field(default=(0.08, 1.0), description="of the crop, as a share of the padded image: from, to")
    ratio: Ratios = Field(default=(3 / 4, 4 / 3), description="width over height of the crop, drawn by its logarithm")


@dataclass(frozen=True)
class Amplify:
    """Pads with black, crops at random and enlarges: what is seen is nearer, and the rest is cut off."""

    options: AmplifyOptions
    Options: ClassVar = AmplifyOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """The sample moved by one warp, labels and key-points alike; ``other`` is not looked at."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        height, width = sample.size
        pad_y, pad_x = round(options.pad[0] * height), round(options.pad[1] * width)
        rows, columns = height + 2 * pad_y, width + 2 * pad_x
        tall, wide = self._crop(rows, columns, random)
        top, left = int(random.integers(rows - tall + 1)) - pad_y, int(random.integers(columns - wide + 1)) - pad_x
        down, across = height / tall, width / wide
        # Pixel centres: x + 0.5 pixels from the crop's left edge, magnified, and back to a centre.
        matrix = np.array([[across, 0, (0.5 - left) * across - 0.5], [0, down, (0.5 - top) * down - 0.5]])
        return sample.warp(matrix, border="black")

    def _crop(self, rows: int, columns: int, random: np.random.Generator) -> tuple[int, int]:
        """Height and width; after ten crops that do not fit, the largest of an allowed ratio."""
        low, high = self.options.ratio
        for _ in range(_ATTEMPTS):
            area = random.uniform(*self.options.area) * rows * columns
            ratio = math.exp(random.uniform(math.log(low), math.log(high)))
            tall, wide = max(1, round(math.sqrt(area / ratio))), max(1, round(math.sqrt(area * ratio)))
            if tall <= rows and wide <= columns:
                return tall, wide
        if columns < low * rows:
            return min(rows, max(1, round(columns / low))), columns
        if columns > high * rows:
            return rows, min(columns, max(1, round(rows * high)))
        return rows, columns
