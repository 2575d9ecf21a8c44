"""An image with all that is known of its pixels, changed together so that nothing comes apart.

Every change of a training image goes through `Annotated.warp`, `Annotated.cover` or `Annotated.with_image`: a pixel
that moves takes its label along, and one that is covered or leaves the frame shows nothing of the person any more.
Coordinates are those of pixel centres, x to the right and y down. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
UNKNOWN = 255
"""Label of a pixel about which nothing is known."""


@dataclass(frozen=True)
class Annotated:
    """One image and its annotations, all at the image's resolution."""

    image: UInt8
    """``(H, W, 3)`` RGB."""
    maps: Mapping[str, UInt8] = field(default_factory=dict)
    """Label maps ``(H, W)`` by name, for example ``regions``: 0 where nothing of the person is seen, `UNKNOWN` where
    nobody knows."""
    points: NDArray[np.float32] | None = None
    """Key-points ``(J, 3)``: x, y in pixels and a confidence; confidence 0 is a point that cannot be seen."""
    covered: NDArray[np.bool_] | None = None
    """``(H, W)``: pixels that an occluder was drawn over; None for none."""
    growth: float = 1.0
    """By how much areas grew since the original image."""

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be uint8 (H, W, 3), got {self.image.dtype} {self.image.shape}")
        for name, labels in self.maps.items():
            if labels.shape != size or labels.dtype != np.uint8:
                raise ValueError(f"map {name!r} must be uint8 {size} as the image, got {labels.dtype} {labels.shape}")
        if self.points is not None and (self.points.ndim != 2 or self.points.shape[1] != 3):
            raise ValueError(f"points must be (J, 3): x, y, confidence; got {self.points.shape}")
        if self.covered is not None and (self.covered.shape != size or self.covered.dtype != np.bool_):
            found = f"{self.covered.dtype} {self.covered.shape}"
            raise ValueError(f"covered must be bool {size} as the image, got {found}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``covered``, or no pixel at all; ``(H, W)``."""
        return np.zeros(self.size, np.bool_) if self.covered is None else self.covered

    def with_image(self, image: UInt8) -> Annotated:
        """Other pixels at the same places: colours, blur, noise."""
        return self._changed(image, self.maps, self.points, self.covered)

    def _changed(
        self,
        image: UInt8,
        maps: Mapping[str, UInt8],
        points: NDArray[np.float32] | None,
        covered: NDArray[np.bool_] | None,
        growth: float = 1.0,
    ) -> Annotated:
        """What a change made of it, which is not checked again: a training image goes through half a dozen."""
        made = object.__new__(Annotated)
        made.__dict__.update(image=image, maps=maps, points=points, covered=covered, growth=self.growth * growth)
        return made

    def warp(
        self,
        matrix: NDArray[np.float64],
        size: tuple[int, int] | None = None,
        *,
        border: Literal["replicate", "black"] = "replicate",
    ) -> Annotated:
        """Moved by a 2 x 3 affine matrix from old to new coordinates; ``size`` is the new height and width.

        What comes in from beyond the frame is labelled 0; where it repeats an occluder's pixels, it is covered too.
        """
        height, width = size or self.size
        mode = cv2.BORDER_REPLICATE if border == "replicate" else cv2.BORDER_CONSTANT
        # OpenCV warps four channels in half the time of three.
        four = cv2.cvtColor(self.image, cv2.COLOR_RGB2RGBA)
        four = cv2.warpAffine(four, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=mode)
        image = cv2.cvtColor(four, cv2.COLOR_RGBA2RGB)

        def moved(labels: UInt8, beyond: int = cv2.BORDER_CONSTANT) -> UInt8:
            flags = cv2.INTER_NEAREST
            return np.asarray(cv2.warpAffine(labels, matrix, (width, height), flags=flags, borderMode=beyond), np.uint8)

        points = self.points
        if points is not None:
            xy = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]  # [J, 2]
            points = _seen_within(xy, points[:, 2], height, width)
        return self._changed(
            np.asarray(image, np.uint8),
            {name: moved(labels) for name, labels in self.maps.items()},
            points,
            None if self.covered is None else moved(self.covered.astype(np.uint8), mode).astype(np.bool_),
            abs(float(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])),
        )

    def flip(self) -> Annotated:
        """Mirrored left to right, exactly; left and right key-points keep their places in ``points``."""
        points = self.points
        if points is not None:
            points = points * np.array([-1, 1, 1], np.float32) + np.array([self.size[1] - 1, 0, 0], np.float32)
        return self._changed(
            np.asarray(cv2.flip(self.image, 1), np.uint8),
            {name: np.asarray(cv2.flip(labels, 1), np.uint8) for name, labels in self.maps.items()},
            points,
            None if self.covered is None else np.ascontiguousarray(self.covered[:, ::-1]),
        )

    def resize(self, height: int, width: int) -> Annotated:
        """At another size: image by area, labels by the pixel nearest to the centre of the new one."""
        if (height, width) == self.size:
            return self
        old_height, old_width = self.size
        shrink = height * width < old_height * old_width
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        points = self.points
        if points is not None:
            scale = np.array([width / old_width, height / old_height], np.float32)
            xy = (points[:, :2] + 0.5) * scale - 0.5
            points = np.concatenate([xy, points[:, 2:]], axis=1).astype(np.float32)

        def sized(labels: UInt8) -> UInt8:
            # Plain INTER_NEAREST takes each cell's top left pixel: half a stride away from where image and points are.
            return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

        return self._changed(
            np.asarray(image, np.uint8),
            {name: sized(labels) for name, labels in self.maps.items()},
            points,
            None if self.covered is None else sized(self.covered.astype(np.uint8)).astype(np.bool_),
            (height * width) / (old_height * old_width),
        )

    def cover(self, mask: NDArray[np.bool_], pixels: UInt8) -> Annotated:
        """Hidden behind ``pixels`` ``(H, W, 3)`` where ``mask`` ``(H, W)`` is true."""
        if mask.shape != self.size or pixels.shape != self.image.shape:
            raise ValueError(f"mask {mask.shape} and pixels {pixels.shape} do not fit an image of {self.image.shape}")
        # The image's own copy, then the pixels of the mask: much faster than a choice by NumPy.
        image = np.asarray(cv2.copyTo(pixels, mask.view(np.uint8), self.image.copy()), np.uint8)
        points = self.points
        if points is not None:
            last = np.array([self.size[1] - 1, self.size[0] - 1], np.float32)
            x, y = np.minimum(np.maximum(np.rint(points[:, :2]), 0), last).astype(np.intp).T
            points = points.copy()
            points[mask[y, x], 2] = 0
        maps = {name: np.multiply(labels, ~mask) for name, labels in self.maps.items()}
        return self._changed(image, maps, points, mask if self.covered is None else self.covered | mask)


def _seen_within(
    places: NDArray[np.float64], confidence: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Key-points at ``places`` ``(J, 2)``; those outside the frame lose their confidence."""
    points = np.empty((len(places), 3), np.float32)
    points[:, :2] = places
    size = np.array([width, height], np.float32)
    outside = np.abs(points[:, :2] - (size - 1) / 2) >= size / 2
    points[:, 2] = np.where(outside[:, 0] | outside[:, 1], 0, confidence)
    return points
