"""Draws one dressed person: every limb, garment and bag as a shaded round surface, far pieces first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glimpse.people.bags import draw_backpack, draw_side_bag
from glimpse.people.garments import draw_arm, draw_trunk
from glimpse.people.heads import draw_falling_hair, draw_head
from glimpse.people.legs import draw_leg, draw_pelvis
from glimpse.people.skeleton import KEYPOINTS, Pose, Skeleton
from glimpse.people.surface import Canvas, Float32
from glimpse.people.tailor import Light, Tailor
from glimpse.people.view import ARMS, FEET, HEAD, LEGS, UPPER
from glimpse.people.wardrobe import Appearance

_ABOVE, _BELOW, _BESIDE = 1.09, 0.06, 0.44  # the canvas around the point between the feet, in body heights


@dataclass(frozen=True, slots=True)
class Sketch:
    """A person alone on a transparent canvas.

    ``planes`` float32 ``(4, h, w)``, premultiplied RGB in [0, 255] and alpha in [0, 1]; ``parts`` uint8 ``(h, w)``;
    ``keypoints`` float32 ``(17, 3)`` x, y in pixels of the canvas and 2 (seen) or 1 (behind the own body).
    """

    planes: Float32
    parts: NDArray[np.uint8]
    keypoints: Float32
    scale: float
    origin: tuple[float, float]


def draw_person(appearance: Appearance, pose: Pose, scale: float, light: Light, stretch: float = 1.0) -> Sketch:
    """Draw a person ``scale`` pixels tall (before the camera's pitch), on a canvas just big enough.

    ``stretch`` widens the figure, as resizing a crop to a fixed aspect does.
    """
    height, width = int((_ABOVE + _BELOW) * scale) + 2, int(2 * _BESIDE * scale * stretch) + 2
    canvas = Canvas(height, width, scale, (_BESIDE * scale * stretch, _ABOVE * scale), stretch)
    if appearance.upper.bag == "handbag":
        pose = replace(pose, arms="swing")  # it hangs from a hand
    skeleton = Skeleton(appearance.body, pose)
    tailor = Tailor(canvas, skeleton, appearance, light)

    sides = ("left", "right")
    arm_depth = {side: skeleton.depth(f"{side}_elbow") + skeleton.depth(f"{side}_wrist") for side in sides}
    leg_depth = {side: skeleton.depth(f"{side}_knee") + skeleton.depth(f"{side}_ankle") for side in sides}
    arms = sorted(sides, key=arm_depth.__getitem__)
    far_arms = [side for side in arms if arm_depth[side] < -0.06]
    from_behind = skeleton.cos < 0
    for side in far_arms:
        draw_arm(tailor, side)
    if not from_behind:
        draw_backpack(tailor)
    draw_side_bag(tailor, behind=True)
    for side in sorted(sides, key=leg_depth.__getitem__):
        draw_leg(tailor, side)
    draw_pelvis(tailor)
    if not from_behind:
        draw_falling_hair(tailor)
    draw_trunk(tailor)
    draw_side_bag(tailor, behind=False)
    draw_head(tailor)
    if from_behind:
        draw_falling_hair(tailor)
        draw_backpack(tailor)
    for side in arms[len(far_arms) :]:
        draw_arm(tailor, side)
    return Sketch(canvas.planes, canvas.parts, _keypoints(skeleton, canvas), scale, canvas.origin)


_ALLOWED: dict[str, tuple[int, ...]] = {
    "shoulder": (UPPER, ARMS),
    "elbow": (ARMS,),
    "wrist": (ARMS,),
    "hip": (UPPER, LEGS),
    "knee": (LEGS,),
    "ankle": (FEET, LEGS),
}


def _keypoints(skeleton: Skeleton, canvas: Canvas) -> Float32:
    points = np.zeros((len(KEYPOINTS), 3), np.float32)
    facing = skeleton.depth("head")
    for index, name in enumerate(KEYPOINTS):
        x, y, depth = skeleton.project(skeleton.joints[name])
        column, row = canvas.place(x, y)
        seen = _hit(canvas, column, row)
        if index < 5:
            shown = seen == HEAD and depth > facing - 0.015
        else:
            side, joint = name.split("_")
            other = skeleton.project(skeleton.joints[f"{'right' if side == 'left' else 'left'}_{joint}"])
            crossed = math.hypot(other[0] - x, other[1] - y) < 0.03 and other[2] > depth + 0.02
            shown = seen in _ALLOWED[joint] and not crossed
        points[index] = column, row, 2.0 if shown else 1.0
    return points


def _hit(canvas: Canvas, x: float, y: float) -> int:
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    inside = 0 <= column < canvas.width and 0 <= row < canvas.height
    return int(canvas.parts[row, column]) if inside else 0
