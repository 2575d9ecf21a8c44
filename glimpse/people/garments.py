"""What covers trunk and arms, drawn on a skeleton."""

from __future__ import annotations

import math

import numpy as np

from glimpse.people.bags import draw_handbag, draw_straps
from glimpse.people.patterns import print_mask, wave, weave
from glimpse.people.skeleton import FOREARM, UPPER_ARM
from glimpse.people.surface import Float32, Patch, flat, mix
from glimpse.people.tailor import ROUND, Tailor
from glimpse.people.view import ARMS, UPPER

_COLLAR = 0.85
_CHEST = 0.142  # from the collar down to a print's centre
_PRINT = 0.043  # half its width
_LIMB = 0.036  # radius that turns the way around a sleeve into body heights
_HEM = {"tee": 0.49, "sweater": 0.485, "hoodie": 0.475, "open_jacket": 0.47, "shirt": 0.48, "gilet": 0.49, "coat": 0.29}
_DRESS_WAIST = 0.555
_THICKNESS = {"open_jacket": 0.008, "coat": 0.009, "hoodie": 0.006, "gilet": 0.01, "sweater": 0.004}
_SLEEVE_WIDTH = {"coat": 1.25, "hoodie": 1.2, "open_jacket": 1.2, "sweater": 1.15}


def draw_trunk(tailor: Tailor) -> None:
    """The top garment from the shoulders to its hem, with what is printed and worn on it."""
    look = tailor.appearance.upper
    bottom = _DRESS_WAIST if look.garment == "dress" else _HEM[look.garment] + look.length
    rings = tailor.trunk_rings(_COLLAR, max(bottom, 0.47), _THICKNESS.get(look.garment, 0.001))
    reach = 0.0
    if look.garment == "coat":
        rings.append((bottom, rings[-1][1], rings[-1][2] + 0.012))
        reach = tailor.leg_reach(bottom) + 0.012
    patch = tailor.loft(rings, reach=reach)
    planes = weave(look.fabric, patch.turn(tailor.yaw) * ROUND, patch.along, tailor.canvas.scale)
    if look.garment == "gilet":
        planes *= 1.0 - 0.18 * wave(patch.along, 0.036, 0.22, tailor.canvas.scale)
    angle = patch.angle(tailor.yaw)
    _draw_front(tailor, planes, patch, angle)
    draw_straps(tailor, planes, patch, angle)
    tailor.paint(patch, planes, UPPER, folds=0.035 if look.garment in ("gilet", "coat") else 0.05)


def _draw_front(tailor: Tailor, planes: Float32, patch: Patch, angle: Float32) -> None:
    """Print, opening, buttons, neckline, pocket and belt: what tells the front of a garment from its back."""
    look, edge, along = tailor.appearance.upper, tailor.edge, patch.along
    aside = np.abs(angle)
    inner, dark = look.inner.array(), look.fabric.colours[0].array() * 0.6
    if look.chest:
        mask = print_mask(look.chest, angle * ROUND, along - _CHEST, _PRINT, tailor.canvas.scale)
        mix(planes, look.chest_colour.array(), mask)
    if look.garment in ("open_jacket", "coat"):
        # A V that widens upward; the coat closes below the chest.
        opening = 0.42 - along * (0.3 if look.garment == "open_jacket" else 2.4) - aside
        mix(planes, dark, edge((opening + 0.05) * ROUND))
        mix(planes, inner, edge(opening * ROUND))
    if look.garment in ("shirt", "coat", "gilet"):
        mix(planes, dark, edge((0.035 - aside) * ROUND))
    if look.garment == "shirt":
        mix(planes, inner, edge(0.02 - along))
    if look.garment in ("tee", "dress", "sweater"):
        deep = 0.02 if look.garment == "sweater" else 0.045
        deep *= max(0.0, math.cos(tailor.yaw)) ** 6  # a neckline seen from the side is a thin line
        neckline = (0.5 - aside) * (deep / 0.5) - along
        mix(planes, inner if look.garment == "sweater" else dark, edge(neckline + 0.008))
        mix(planes, tailor.appearance.head.skin.array(), edge(neckline))
    if look.garment == "hoodie":
        pocket = np.minimum(0.075 - aside * ROUND, 0.035 - np.abs(along - 0.29))
        mix(planes, dark, 0.55 * edge(0.004 - np.abs(pocket)))
        mix(planes, dark, edge(0.022 - along))
        mix(planes, inner, edge(np.minimum(0.005 - np.abs(aside - 0.28) * ROUND, 0.09 - along)))
    if look.garment == "dress":
        mix(planes, inner, edge(0.012 - np.abs(along - 0.235)))


def draw_arm(tailor: Tailor, side: str) -> None:
    """Hand, forearm and sleeve of the ``"left"`` or ``"right"`` arm, and the handbag that hangs from the right one."""
    look, skin = tailor.appearance.arms, tailor.appearance.head.skin.array()
    hand = tailor.canvas.limb(tailor.joints(f"{side}_wrist", f"{side}_hand"), [0.019, 0.015], [0.05])
    tailor.paint(hand, flat(look.gloves.array() if look.gloves else skin, hand), ARMS)
    joints, lengths = tailor.joints(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), [UPPER_ARM, FOREARM]
    thick = 0.55 + 0.45 * tailor.appearance.body.build
    shoulder, elbow, wrist = (radius * thick for radius in (0.033, 0.0255, 0.0185))
    if not look.covers:
        arm = tailor.canvas.limb(joints, [shoulder, elbow, wrist], lengths)
        tailor.paint(arm, flat(skin, arm), ARMS)
    loose = _SLEEVE_WIDTH.get(tailor.appearance.upper.garment, 1.1)
    radii = [shoulder * (0.5 + 0.5 * loose), elbow * loose * 1.06, wrist * loose * 1.2]
    sleeve = tailor.canvas.limb(joints, radii, lengths)
    planes = weave(look.fabric, sleeve.side * _LIMB, sleeve.along, tailor.canvas.scale)
    end = look.reach * sum(lengths)
    if look.style == "contrast":
        mix(planes, look.trim.array(), np.ones_like(sleeve.along))
    elif look.style == "raglan":
        mix(planes, look.trim.array(), tailor.edge(0.075 - sleeve.along))
    elif look.style == "cuffs":
        mix(planes, look.trim.array(), tailor.edge(sleeve.along - (end - 0.028)))
    elif look.style == "bands":
        mix(planes, look.trim.array(), wave(sleeve.along - 0.05, 0.085, 0.34, tailor.canvas.scale))
    coverage = sleeve.coverage if look.covers else sleeve.coverage * tailor.edge(end - sleeve.along)
    tailor.paint(sleeve, planes, ARMS, folds=0.05, coverage=coverage)
    if side == "right":
        draw_handbag(tailor)
