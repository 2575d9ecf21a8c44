"""Background patches: the occlusion simulator of AFPB (Zhuo et al., ICME 2018).

The paper's figure shows rectangles of background, about half the width and a third of the height, over the body. Its
probability, area and aspect are in no public source, so here they are settings with defaults of our own; the growing
probability is how the authors' later work (arXiv 1907.03253) describes its simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainer.data.annotated import Annotated
from trainer.occlusion.margins import background
from trainer.occlusion.patch import paste, random_box
from trainer.occlusion.simulator import Options, Ratios, Shares


class BackgroundOptions(Options):
    """Not from the paper, which does not say."""

    area: Shares = Field(default=(0.1, 0.4), description="of the patch, as a share of the image: from, to")
    aspect: Ratios = Field(default=(0.3, 3.3), description="height over width of the patch: from, to")
    margin: float = Field(default=0.2, gt=0, le=0.5, description="share of the width taken for background, a side")


@dataclass(frozen=True)
class BackgroundPatch:
    """A rectangle of background from another image's margins, anywhere in this one."""

    options: BackgroundOptions
    Options: ClassVar = BackgroundOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample with the patch, if it happens."""
        options = self.options
        if not options.happens(random, progress):
            return sample
        box = random_box(sample.size, options.area, options.aspect, random)
        return paste(sample, box, background(other, box.height, box.width, options.margin, random))
