"""Trousers, skirts, socks and shoes, drawn on a skeleton."""

from __future__ import annotations

import math

import numpy as np

from glimpse.people.patterns import wave, weave
from glimpse.people.skeleton import ANKLE_Y, HIP_Y, SHIN, THIGH
from glimpse.people.surface import Float32, Floats, Patch, flat, mix
from glimpse.people.tailor import ROUND, Tailor
from glimpse.people.view import FEET, LEGS

_AROUND = 0.05  # radius that turns an angle around a leg into body heights
_SKIN = (0.054, 0.037, 0.024)  # radii at hip, knee and ankle
_RADII = {
    "trousers": (0.059, 0.045, 0.036),
    "jeans": (0.058, 0.042, 0.031),
    "leggings": (0.055, 0.038, 0.026),
    "wide": (0.061, 0.055, 0.055),
    "shorts": (0.062, 0.056, 0.050),
    "bermudas": (0.062, 0.055, 0.048),
}
_SKIRTS = ("skirt", "long_skirt", "dress")
_SHAFT = {"boots": 0.10, "high_tops": 0.045, "pumps": -0.012}  # how far a shoe reaches above the ankle
_WAIST = 0.575


def draw_leg(tailor: Tailor, side: str) -> None:
    """Skin, sock, shoe and trouser leg of the ``"left"`` or ``"right"`` side."""
    look, feet = tailor.appearance.legs, tailor.appearance.feet
    joints, lengths = tailor.joints(f"{side}_hip", f"{side}_knee", f"{side}_ankle"), [THIGH, SHIN]
    thick = 0.5 + 0.5 * tailor.appearance.body.build
    full = THIGH + SHIN
    if not look.covers:
        patch = tailor.canvas.limb(joints, [radius * thick for radius in _SKIN], lengths)
        planes = flat(tailor.appearance.head.skin.array(), patch)
        if feet.sock:
            mix(planes, feet.sock_colour.array(), tailor.edge(patch.along - (full - feet.sock * SHIN)))
        tailor.paint(patch, planes, LEGS)
    boots_outside = feet.kind == "boots" and look.kind not in ("trousers", "wide")
    if not boots_outside:
        _draw_shoe(tailor, side)
    if look.kind not in _SKIRTS:
        patch = tailor.canvas.limb(joints, [radius * thick for radius in _RADII[look.kind]], lengths)
        planes = weave(look.fabric, patch.turn(tailor.yaw) * _AROUND, patch.along, tailor.canvas.scale)
        end = look.reach * full
        _draw_trim(tailor, planes, patch, 1.0 if side == "left" else -1.0, end)
        tailor.paint(patch, planes, LEGS, folds=0.04, coverage=patch.coverage * tailor.edge(end - patch.along))
    if boots_outside:
        _draw_shoe(tailor, side)


def _draw_trim(tailor: Tailor, planes: Float32, patch: Patch, sign: float, end: float) -> None:
    """Faded thighs, stripes, cuffs, pockets, knees or a lower panel, in place; ``sign`` 1 for the left leg."""
    look, along = tailor.appearance.legs, patch.along
    if look.kind == "jeans":
        planes += 26.0 * np.exp(-(((along - 0.13) / 0.09) ** 2)) * np.sqrt(1.0 - patch.side * patch.side)
    if look.trim == "none":
        return
    outer = np.abs(patch.angle(tailor.yaw + sign * math.pi / 2)) * _AROUND
    distance: Floats
    if look.trim == "side_stripe":
        distance = 0.022 - outer
    elif look.trim == "double_stripe":
        distance = 0.009 - np.abs(outer - 0.018)
    elif look.trim == "cuffs":
        distance = along - (end - 0.035)
    elif look.trim == "pockets":
        distance = np.minimum(0.04 - outer, 0.035 - np.abs(along - 0.17))
    elif look.trim == "knees":
        front = np.abs(patch.angle(tailor.yaw)) * _AROUND
        distance = np.minimum(0.06 - front, 0.04 - np.abs(along - THIGH))
    else:
        distance = along - 0.27
    mix(planes, look.trim_colour.array(), tailor.edge(distance))


def _draw_shoe(tailor: Tailor, side: str) -> None:
    look, skeleton = tailor.appearance.feet, tailor.skeleton
    shaft = _SHAFT.get(look.kind, 0.0)
    knee, ankle = skeleton.joints[f"{side}_knee"], skeleton.joints[f"{side}_ankle"]
    top = skeleton.project(ankle + (knee - ankle) * (shaft / SHIN))[:2]
    heel, toe = tailor.joints(f"{side}_heel", f"{side}_toe")
    collar, length = shaft + 0.02, 0.1
    patch = tailor.canvas.limb(
        [top, heel, toe], [0.034 if look.kind == "boots" else 0.029, 0.029, 0.0225], [collar, length]
    )
    planes = flat(look.colour.array(), patch)
    # The sole is what lies below the foot's own axis on the screen, whichever way the foot points.
    rows = np.arange(patch.y, patch.y + len(patch.coverage), dtype=np.float32)[:, None]
    way = np.clip((patch.along - collar) / length, 0.0, 1.0)
    start, end = tailor.canvas.place(*heel)[1], tailor.canvas.place(*toe)[1]
    below = (rows - (start + way * (end - start))) / tailor.canvas.scale
    if look.kind in ("runners", "sneakers", "high_tops"):
        flash = np.minimum(0.017 - np.abs(patch.along - (collar + 0.045)), below + 0.02)
        mix(planes, look.sole.array(), 0.9 * tailor.edge(flash))
    if look.kind == "runners":
        mix(planes, look.sock_colour.array(), tailor.edge(0.02 - patch.along))
    mix(planes, look.sole.array(), tailor.edge(below - 0.011) * (patch.along > 0.01))
    tailor.paint(patch, planes, FEET)


def draw_pelvis(tailor: Tailor) -> None:
    """The seat of trousers, or the skirt that hides the thighs."""
    look, scale = tailor.appearance.legs, tailor.canvas.scale
    if look.kind not in _SKIRTS:
        patch = tailor.loft(tailor.trunk_rings(_WAIST, 0.465))
        tailor.paint(patch, weave(look.fabric, patch.turn(tailor.yaw) * ROUND, patch.along, scale), LEGS, folds=0.04)
        return
    hem = HIP_Y - look.reach * (HIP_Y - ANKLE_Y)
    flare = 0.012 if look.kind == "long_skirt" else 0.03
    rings = tailor.trunk_rings(_WAIST, 0.47, 0.004)
    rings.append((hem, max(rings[-1][1] + flare, 0.09), rings[-1][2] + flare + 0.01))
    patch = tailor.loft(rings, reach=tailor.leg_reach(hem) + 0.012)
    turn = patch.turn(tailor.yaw)
    planes = weave(look.fabric, turn * ROUND, patch.along, scale)
    planes *= 1.0 - 0.1 * wave(turn, 0.5, 0.3, 0.05 * scale) * np.clip(patch.along * 8.0, 0.0, 1.0)  # pleats
    if look.trim != "none":
        mix(planes, look.trim_colour.array(), tailor.edge(0.014 - np.abs(patch.along - (_WAIST - hem - 0.03))))
    tailor.paint(patch, planes, LEGS, folds=0.04)
