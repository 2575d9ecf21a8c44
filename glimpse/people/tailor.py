"""The tailor's tools: shaded round pieces placed on a skeleton. What is made with them is in `garments`, `legs`, ...

A *ring* is an ellipse around the spine: height, half width and half depth in body heights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from glimpse.people.skeleton import Skeleton
from glimpse.people.surface import Canvas, Float32, Floats, Patch, step
from glimpse.people.wardrobe import Appearance

Ring = tuple[float, float, float]

ROUND = 0.09
"""Radius that turns an angle around the trunk into body heights."""

# Height, half width, half depth of the trunk; which factor of the body scales the width.
_TRUNK = (
    (0.850, 0.030, 0.032, "neck"),
    (0.838, 0.056, 0.042, "shoulders"),
    (0.824, 0.092, 0.052, "shoulders"),
    (0.802, 0.112, 0.060, "shoulders"),
    (0.765, 0.112, 0.067, "chest"),
    (0.720, 0.106, 0.070, "chest"),
    (0.670, 0.098, 0.067, "chest"),
    (0.615, 0.091, 0.063, "waist"),
    (0.560, 0.095, 0.065, "hips"),
    (0.500, 0.100, 0.068, "hips"),
    (0.440, 0.098, 0.066, "hips"),
)


def _draw_creases() -> Float32:
    """Soft folds of cloth, float32 ``(128, 64)`` about 0, that tile: wider than high, of unit deviation."""
    rng = np.random.default_rng(20)
    rough = np.tile(rng.normal(0.0, 1.0, (128, 64)).astype(np.float32), (3, 3))
    smooth = cv2.GaussianBlur(rough, (0, 0), sigmaX=7.0, sigmaY=3.2) * 2.0 + cv2.GaussianBlur(rough, (0, 0), 2.6)
    middle = np.asarray(smooth[128:256, 64:128], np.float32)
    return np.asarray((middle - middle.mean()) / middle.std(), np.float32)


_CREASES = _draw_creases()


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from: ``angle`` 0 behind the camera, positive from the right (radians)."""

    angle: float
    ambient: float
    strength: float


class Tailor:
    """Places and paints round pieces on one person's skeleton.

    ``yaw`` is the body's direction within [-pi, pi]; ``tilt`` the sine of the camera's pitch.
    """

    def __init__(self, canvas: Canvas, skeleton: Skeleton, appearance: Appearance, light: Light) -> None:
        self.canvas, self.skeleton, self.appearance = canvas, skeleton, appearance
        self.yaw = math.remainder(skeleton.pose.yaw, 2 * math.pi)
        self.tilt = skeleton.tilt_sin
        self._light = light
        self._drape = 32.0 + 20.0 * skeleton.pose.phase  # cloth falls differently in every shot
        self._cos, self._sin = math.cos(light.angle), math.sin(light.angle)

    # Places

    def joints(self, *names: str) -> list[tuple[float, float]]:
        """Screen places of joints."""
        return [self.skeleton.project(self.skeleton.joints[name])[:2] for name in names]

    def loft(self, rings: list[Ring], x: float = 0.0, z: float = 0.0, reach: float = 0.0) -> Patch:
        """A piece through rings around a line beside (``x``) or before (``z``) the spine.

        The lowest ring is at least ``reach`` wide on the screen.
        """
        skeleton = self.skeleton
        cos, sin = skeleton.cos, skeleton.sin
        rows = []
        for y, wide, deep in rings:
            point = (x + skeleton.sway_at(y), y - skeleton.drop, z + skeleton.lean_at(y))
            across, down, _ = skeleton.project(np.array(point, np.float32))
            rows.append((across, down, math.hypot(wide * cos, deep * sin), math.hypot(wide * sin, deep * cos)))
        levels = np.array(rows, np.float32)
        levels[-1, 2] = max(float(levels[-1, 2]), reach)
        return self.canvas.loft(levels, self.tilt)

    def trunk_rings(self, top: float, bottom: float, extra: float = 0.0) -> list[Ring]:
        """The trunk between two heights, ``extra`` thicker all round."""
        body = self.appearance.body
        wide = 0.4 + 0.6 * body.build
        factors = {"neck": 1.0, "shoulders": body.shoulders * wide, "chest": (body.shoulders + body.build) / 2}
        factors |= {"waist": body.build * 0.98, "hips": body.hips * wide}
        ys = np.array([ring[0] for ring in _TRUNK])[::-1]
        widths = np.array([ring[1] * factors[ring[3]] for ring in _TRUNK])[::-1]
        depths = np.array([ring[2] * (0.35 + 0.65 * body.build) for ring in _TRUNK])[::-1]
        heights = [top, *(ring[0] for ring in _TRUNK if bottom < ring[0] < top), bottom]
        return [(y, float(np.interp(y, ys, widths)) + extra, float(np.interp(y, ys, depths)) + extra) for y in heights]

    def leg_reach(self, y: float) -> float:
        """Half the width across the screen that the two legs take at a height."""
        skeleton = self.skeleton
        places = []
        for side in ("left", "right"):
            points = np.array([skeleton.joints[f"{side}_{name}"] for name in ("ankle", "knee", "hip")])
            x, z = (float(np.interp(y - skeleton.drop, points[:, 1], points[:, axis])) for axis in (0, 2))
            places.append(x * skeleton.cos + z * skeleton.sin)
        return abs(places[0] - places[1]) / 2 + 0.045

    # Paint

    def edge(self, distance: Floats) -> Float32:
        """An anti-aliased mask: 1 where ``distance`` (body heights) is positive, 0 where negative."""
        return step(distance, self.canvas.scale)

    def shade(self, planes: Float32, patch: Patch, folds: float = 0.0) -> None:
        """Light planes ``(3, h, w)`` in place as a round surface; ``folds`` adds soft creases of that depth."""
        facing = np.sqrt(1.0 - patch.side * patch.side) * self._cos + patch.side * self._sin
        np.maximum(facing, 0.0, out=facing)
        facing *= self._light.strength
        facing += self._light.ambient
        if folds:
            rows = (patch.along * 260.0).astype(np.intp) & 127
            columns = (patch.side * 20.0 + self._drape).astype(np.intp) & 63
            facing += folds * _CREASES[rows, columns]
        planes *= facing
        np.minimum(planes, 255.0, out=planes)

    def paint(
        self, patch: Patch, planes: Float32, part: int, folds: float = 0.0, coverage: Float32 | None = None
    ) -> None:
        """Shade planes and lay them on the canvas as ``part``; ``coverage`` replaces the patch's own."""
        self.shade(planes, patch, folds)
        self.canvas.paint(patch, planes, part, coverage)
