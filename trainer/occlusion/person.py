"""Somebody else in front: the non-target pedestrian of FED (Wang et al., CVPR 2022), here drawn into the image itself.

FED mixes features of other identities instead; that part is the method's. This gives any method the case in pixels,
with exact labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glimpse.people.placement import find, slide
from glimpse.people.sprites import Rect, Sprite, over
from glimpse.people.stage import PEOPLE
from trainer.data.annotated import UNKNOWN, Annotated
from trainer.occlusion.occluders import stage
from trainer.occlusion.simulator import Options, Shares, SimulatorError

_ATTEMPTS = 6
_TOLERANCE = 0.02
_STEPS = 12
_NOMINAL = (0.05, 0.97, 0.2, 0.8)


class PersonOptions(Options):
    """Who, and how much of the target they hide."""

    overlap: Shares = Field(default=(0.2, 0.6), description="share of the visible person that is hidden: from, to")
    source: Literal["generated", "other"] = Field(
        default="generated", description="drawn passers-by, or the cut-out in the alpha channel of the other image"
    )
    map: str = Field(default="regions", description="label map that says where the person can be seen")
    seed: int = Field(default=0, ge=0, description="of the drawn passers-by; there are 40 for each seed")


@dataclass(frozen=True)
class OtherPerson:
    """A person's cut-out, slid in from the left or the right until it hides the share that was drawn.

    Without a label map (or where it knows nothing) the person is taken to be the middle 60 % of the width and all but
    a margin of the height. A figure too thin to hide the share is drawn again; the sixth stays where it hides the
    share most nearly.
    """

    options: PersonOptions
    Options: ClassVar = PersonOptions

    def __call__(
        self, sample: Annotated, other: NDArray[np.uint8], random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A sample with somebody in front, if it happens.

        ``other`` is looked at with ``source="other"`` only; then it is uint8 ``(h, w, 4)``, alpha 255 on the person.

        Raises:
            SimulatorError: ``source="other"`` and no alpha channel, or nobody in it.
        """
        if not self.options.happens(random, progress):
            return sample
        low, high = self.options.overlap
        share = low + (high - low) * float(random.random())
        height, width = sample.size
        seen = self._seen(sample)
        count = cv2.countNonZero(seen)
        if share == 0 or count < 2:  # of one pixel no share can be hidden
            return sample
        wanted = (max(1.0, (share - _TOLERANCE) * count), share * count, (share + _TOLERANCE) * count)
        person = Rect(*(float(value) for value in cv2.boundingRect(seen)))
        for _ in range(_ATTEMPTS):
            figure = self._figure(other, random)
            mirrored = bool(random.random() < 0.5)
            entry: Literal["left", "right"] = "left" if random.random() < 0.5 else "right"
            stretch = float(random.uniform(0.95, 1.1))
            path = slide(figure, entry, False, person, height, width, stretch, random)
            place = find(figure, path, mirrored, seen, wanted)
            if place is not None:
                break
        else:
            places = [path(step / _STEPS) for step in range(_STEPS + 1)]
            shown = [figure.mask(rect, height, width, mirrored) for rect in places]
            hidden = [int(np.count_nonzero((mask > 127) & (seen > 0))) for mask in shown]
            place = places[int(np.argmin([abs(pixels - share * count) for pixels in hidden]))]
        layer = figure.layer(place, height, width, mirrored)
        return sample.cover(layer[..., 3] > 127, over(sample.image, layer))

    def _seen(self, sample: Annotated) -> NDArray[np.uint8]:
        """uint8 ``(H, W)``, 255 where the person can be seen."""
        labels = sample.maps.get(self.options.map)
        if labels is not None:
            seen = (labels > 0) & (labels != UNKNOWN)
            if seen.any():
                return np.where(seen, np.uint8(255), np.uint8(0))
        height, width = sample.size
        top, bottom, left, right = _NOMINAL
        nominal = np.zeros((height, width), np.uint8)
        nominal[int(top * height) : max(1, int(bottom * height)), int(left * width) : max(1, int(right * width))] = 255
        return nominal

    def _figure(self, other: NDArray[np.uint8], random: np.random.Generator) -> Sprite:
        if self.options.source == "generated":
            return stage(self.options.seed, "train").passer_by(int(random.integers(PEOPLE)))
        if other.ndim != 3 or other.shape[2] != 4:
            raise SimulatorError(f"simulator 'person' with source 'other' needs images (h, w, 4), got {other.shape}")
        alpha = other[..., 3]
        if not (alpha > 127).any():
            raise SimulatorError("simulator 'person' with source 'other' got an image without a person in its alpha")
        x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
        cut = other[y : y + height, x : x + width]
        premultiplied = cut[..., :3] * (cut[..., 3:] / 255.0)
        return Sprite("person", np.dstack([np.rint(premultiplied).astype(np.uint8), cut[..., 3]]))
