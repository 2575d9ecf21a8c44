"""`KeyPoints`: the joints of one person, in one of two layouts.

A joint that was not found has confidence 0; its coordinates then mean nothing. Any coordinate is legal, 0 too: public
code of the field takes x = 0 for "missing" and so loses joints at the border of a crop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Layout = Literal["openpose18", "coco17"]

COCO17: tuple[str, ...] = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow",
    "right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle",
    "right ankle",
)  # fmt: skip
OPENPOSE18: tuple[str, ...] = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle", "right eye", "left eye",
    "right ear", "left ear",
)  # fmt: skip
LAYOUTS: dict[Layout, tuple[str, ...]] = {"openpose18": OPENPOSE18, "coco17": COCO17}

GAMMA = 0.2
"""A joint counts when its confidence is above this (Miao et al. 2019: best near 0.2)."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyPoints:
    """One person's joints.

    Attributes:
        points: float32 ``(J, 3)``: x and y in pixels of the image (whole numbers are centres of pixels, y down) and a
            confidence of at least 0, which may exceed 1 (AlphaPose's go up to 6). Nothing keeps a joint inside the
            image.
        layout: the joints' order, a key of `LAYOUTS`.

    Raises:
        ValueError: another dtype, shape or layout, a value that is not finite, or a negative confidence.
    """

    points: NDArray[np.float32]
    layout: Layout

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"unknown key-point layout {self.layout!r}; choose from {list(get_args(Layout))}")
        expected = (len(LAYOUTS[self.layout]), 3)
        if self.points.dtype != np.float32 or self.points.shape != expected:
            raise ValueError(
                f"{self.layout} key-points are float32 {expected}: x, y, confidence; "
                f"got {self.points.dtype} {self.points.shape}"
            )
        finite = np.isfinite(self.points)
        if not finite.all():
            raise ValueError(f"key-points must be finite; {self._first(np.asarray(~finite.all(axis=1)))}")
        if (self.points[:, 2] < 0).any():
            raise ValueError(f"confidences are at least 0; {self._first(self.points[:, 2] < 0)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The joints' names, in the order of ``points``."""
        return LAYOUTS[self.layout]

    def kept(self, gamma: float = GAMMA) -> NDArray[np.bool_]:
        """Which joints have a confidence above ``gamma``; bool ``(J,)``."""
        return self.points[:, 2] > gamma

    def to_openpose18(self) -> KeyPoints:
        """The same joints as ``openpose18``.

        The neck is the mean of the shoulders, confidence included, as AlphaPose writes it; it is missing when a
        shoulder is.
        """
        if self.layout == "openpose18":
            return self
        shoulders = self.points[[COCO17.index("left shoulder"), COCO17.index("right shoulder")]]  # [2, 3]
        neck = shoulders.mean(axis=0) if (shoulders[:, 2] > 0).all() else np.zeros(3, np.float32)
        points = [neck if name == "neck" else self.points[COCO17.index(name)] for name in OPENPOSE18]
        return KeyPoints(np.array(points, np.float32), "openpose18")

    def to_coco17(self) -> KeyPoints:
        """The same joints as ``coco17``, which has no neck."""
        if self.layout == "coco17":
            return self
        return KeyPoints(self.points[[OPENPOSE18.index(name) for name in COCO17]], "coco17")

    def _first(self, wrong: NDArray[np.bool_]) -> str:
        joint = int(np.flatnonzero(wrong)[0])
        return f"the {self.names[joint]} is {tuple(self.points[joint].tolist())}"


def target(people: Iterable[KeyPoints], gamma: float = GAMMA) -> KeyPoints | None:
    """The person a crop is about: the detection with the most joints above ``gamma``.

    Of equals the first wins, which is the detector's most confident one. None when nobody has any such joint: an
    image without a person has no pose, and never that of the image before.
    """
    best, most = None, 0
    for person in people:
        count = int(person.kept(gamma).sum())
        if count > most:
            best, most = person, count
    return best
