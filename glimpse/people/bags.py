"""Backpacks, shoulder bags, totes and handbags, drawn on a skeleton."""

from __future__ import annotations

import math

import numpy as np

from glimpse.people.surface import Float32, Patch, flat, mix
from glimpse.people.tailor import ROUND, Ring, Tailor
from glimpse.people.view import ARMS, UPPER

_PACK: list[Ring] = [
    (0.8, 0.045, 0.03),
    (0.785, 0.078, 0.042),
    (0.7, 0.088, 0.05),
    (0.6, 0.09, 0.052),
    (0.57, 0.08, 0.045),
]
_SHOULDER_BAG: list[Ring] = [(0.53, 0.028, 0.05), (0.52, 0.034, 0.062), (0.42, 0.036, 0.064), (0.405, 0.03, 0.058)]
_TOTE: list[Ring] = [(0.64, 0.02, 0.066), (0.55, 0.026, 0.072), (0.43, 0.028, 0.07), (0.42, 0.024, 0.066)]


def draw_backpack(tailor: Tailor) -> None:
    """A pack on the back, if there is one: to be drawn before the trunk from the front, after it from behind."""
    look = tailor.appearance.upper
    if look.bag != "backpack":
        return
    patch = tailor.loft(_PACK, z=-0.085 * (0.35 + 0.65 * tailor.appearance.body.build))
    planes = flat(look.bag_colour.array(), patch)
    around = np.abs(patch.angle(tailor.yaw + math.pi)) * 0.07
    pocket = np.minimum(0.052 - around, 0.05 - np.abs(patch.along - 0.16))
    mix(planes, look.bag_colour.array() * 0.72, tailor.edge(pocket))
    mix(planes, look.inner.array(), tailor.edge(0.005 - np.abs(patch.along - 0.08)))
    tailor.paint(patch, planes, UPPER, folds=0.02)


def draw_side_bag(tailor: Tailor, behind: bool) -> None:
    """A shoulder bag at the right hip or a tote under the left arm, if it is on the asked side of the body."""
    look, body = tailor.appearance.upper, tailor.appearance.body
    if look.bag == "shoulder":
        x, rings, flap = -0.12 * body.hips, _SHOULDER_BAG, 0.035
    elif look.bag == "tote":
        x, rings, flap = 0.135 * body.shoulders, _TOTE, 0.02
    else:
        return
    if (-x * tailor.skeleton.sin < -0.03) != behind:
        return
    patch = tailor.loft(rings, x=x)
    planes = flat(look.bag_colour.array(), patch)
    mix(planes, look.inner.array(), 0.8 * tailor.edge(0.006 - np.abs(patch.along - flap)))
    tailor.paint(patch, planes, UPPER, folds=0.02)


def draw_straps(tailor: Tailor, planes: Float32, patch: Patch, angle: Float32) -> None:
    """The straps of a backpack or shoulder bag across the trunk's planes, in place."""
    look = tailor.appearance.upper
    if look.bag == "backpack":
        strap = np.minimum(0.13 - np.abs(np.abs(angle) - 0.62), 1.3 - 6.5 * patch.along)
        mix(planes, look.bag_colour.array() * 0.9, tailor.edge(strap * ROUND))
    elif look.bag == "shoulder":
        # From the left shoulder to the right hip, on the front and on the back alike.
        off = np.abs(np.sin(angle) - (0.75 - 6.0 * patch.along))
        mix(planes, look.bag_colour.array() * 0.85, tailor.edge(0.012 - 0.075 * off))


def draw_handbag(tailor: Tailor) -> None:
    """A handbag below the right hand, if there is one."""
    look, skeleton = tailor.appearance.upper, tailor.skeleton
    if look.bag != "handbag":
        return
    x, y = tailor.joints("right_hand")[0]
    wide = math.hypot(0.026 * skeleton.cos, 0.066 * skeleton.sin) + 0.008
    levels = np.array([(x, y + down, wide * share, 0.02) for down, share in ((0.02, 0.7), (0.03, 1.0), (0.11, 1.1))])
    patch = tailor.canvas.loft(levels.astype(np.float32), tailor.tilt)
    planes = flat(look.bag_colour.array(), patch)
    mix(planes, look.inner.array(), tailor.edge(0.006 - np.abs(patch.along - 0.03)))
    tailor.paint(patch, planes, ARMS)
