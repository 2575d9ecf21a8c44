"""The head: face, hair, hats, glasses, beard and scarf."""

from __future__ import annotations

import math

import numpy as np

from glimpse.people.surface import Float32, Floats, Patch, flat, mix
from glimpse.people.tailor import Ring, Tailor
from glimpse.people.view import HEAD

_WIDE, _DEEP, _TALL = 0.0485, 0.057, 0.068
_ANGLES = np.linspace(0.0, math.pi, 13)
# Down to which height (1 crown, -1 chin) hair grows, at these angles from the face: front, temple, ear, nape.
_AROUND = np.array([0.0, 0.75, 1.05, 1.5, math.pi])
_HAIRLINES = {
    "cropped": np.array([0.48, 0.42, 0.1, -0.05, -0.4]),
    "short": np.array([0.4, 0.34, 0.0, -0.2, -0.55]),
    "bob": np.array([0.3, 0.3, -0.75, -0.95, -1.0]),
    "long": np.array([0.4, 0.35, -0.9, -1.1, -1.1]),
    "bun": np.array([0.45, 0.4, 0.1, -0.2, -0.6]),
    "ponytail": np.array([0.45, 0.4, 0.1, -0.2, -0.6]),
    "afro": np.array([0.35, 0.3, -0.2, -0.5, -0.7]),
}
_HAIR_SWELL = {"cropped": 1.02, "short": 1.07, "bob": 1.13, "long": 1.1, "bun": 1.05, "ponytail": 1.05, "afro": 1.34}
_HAT_SWELL = {"cap": 1.1, "beanie": 1.14, "brim": 1.12, "headscarf": 1.12, "hood": 1.26}
_HAT_LINE = {"cap": 0.32, "beanie": 0.16, "brim": 0.36}
_HAT_FOLD = {"beanie": 0.3, "brim": 0.2}
_NECK: list[Ring] = [(0.885, 0.028, 0.03), (0.84, 0.03, 0.032), (0.825, 0.034, 0.034)]
_SCARF: list[Ring] = [(0.872, 0.04, 0.044), (0.855, 0.052, 0.055), (0.83, 0.058, 0.06), (0.81, 0.05, 0.055)]
_VEIL: list[Ring] = [(0.93, 0.055, 0.05), (0.86, 0.06, 0.05), (0.8, 0.085, 0.05), (0.775, 0.08, 0.05)]
_LONG_HAIR: list[Ring] = [(0.93, 0.053, 0.03), (0.86, 0.058, 0.034), (0.79, 0.055, 0.034), (0.745, 0.04, 0.028)]
_PONYTAIL: list[Ring] = [(0.95, 0.016, 0.02), (0.88, 0.024, 0.024), (0.81, 0.02, 0.022), (0.775, 0.01, 0.012)]
_DARK = np.array([32.0, 30.0, 32.0], np.float32)


def draw_head(tailor: Tailor) -> None:
    """Neck, scarf, face, hair and hat."""
    look = tailor.appearance.head
    neck = tailor.loft(_NECK)
    tailor.paint(neck, flat(look.skin.array() * 0.86, neck), HEAD)
    if look.scarf is not None:
        scarf = tailor.loft(_SCARF)
        tailor.paint(scarf, flat(look.scarf.array(), scarf), HEAD, folds=0.08)
    yaw = tailor.yaw + tailor.skeleton.pose.head_turn
    skull = _skull(tailor, 1.0)
    planes = flat(look.skin.array(), skull)
    _draw_face(tailor, planes, skull, yaw)
    tailor.paint(skull, planes, HEAD)
    if look.hair != "bald":
        _draw_hair(tailor, yaw)
    if look.hat:
        _draw_hat(tailor, yaw)


def draw_falling_hair(tailor: Tailor) -> None:
    """What hangs down behind the head: long hair, a pony tail or a headscarf."""
    look = tailor.appearance.head
    if look.hat == "headscarf":
        colour, rings, back = look.hat_colour, _VEIL, -0.035
    elif look.hair == "long":
        colour, rings, back = look.hair_colour, _LONG_HAIR, -0.035
    elif look.hair == "ponytail":
        colour, rings, back = look.hair_colour, _PONYTAIL, -0.07
    else:
        return
    patch = tailor.loft(rings, z=back)
    planes = flat(colour.array(), patch)
    planes *= 1.0 + 0.1 * np.sin(patch.side * 14.0)
    tailor.paint(patch, planes, HEAD)


def _skull(tailor: Tailor, swell: float) -> Patch:
    """The head's ellipsoid, ``swell`` times its size and narrower at the jaw."""
    size = tailor.appearance.body.head * swell
    yaw = tailor.yaw + tailor.skeleton.pose.head_turn
    girth = math.hypot(_WIDE * math.cos(yaw), _DEEP * math.sin(yaw)) * size
    x, y = tailor.joints("head")[0]
    up = np.cos(_ANGLES)
    jaw = np.where(up > -0.1, 1.0, 1.0 + 0.13 * (up + 0.1))
    levels = np.zeros((len(_ANGLES), 4), np.float32)
    levels[:, 0], levels[:, 1], levels[:, 2] = x, y - up * _TALL * size, girth * np.sin(_ANGLES) * jaw
    return tailor.canvas.loft(levels, 0.0)


def _height(tailor: Tailor, patch: Patch, swell: float) -> Float32:
    """1 at the crown to -1 at the chin; a raised camera sees more of the crown."""
    size = tailor.appearance.body.head * swell
    height: Float32 = 1.0 - patch.along / (_TALL * size) + 0.5 * tailor.tilt * np.sqrt(1.0 - patch.side * patch.side)
    return height


def _blob(x: Floats, y: Floats, wide: float, tall: float, most: float) -> Float32:
    """A soft ellipse around (0, 0): ``most`` inside, falling to 0."""
    mask: Float32 = np.clip(1.6 - (x / wide) ** 2 - (y / tall) ** 2, 0.0, most)
    return mask


def _draw_face(tailor: Tailor, planes: Float32, patch: Patch, yaw: float) -> None:
    look = tailor.appearance.head
    angle, height = patch.angle(yaw), _height(tailor, patch, 1.0)
    aside = np.abs(angle)
    skin, hair = look.skin.array(), look.hair_colour.array()
    if look.beard:
        mouth_gap = 0.25 * ((aside < 0.3) & (height > -0.62))
        edge = np.minimum(-0.3 - height - mouth_gap, 1.3 - aside)
        mix(planes, hair, np.clip(edge * 8.0, 0.0, 0.85))
    mix(planes, _DARK, _blob(aside - 0.4, height - 0.06, 0.17, 0.1, 0.85))  # eyes
    mix(planes, hair * 0.8, _blob(aside - 0.4, height - 0.25, 0.26, 0.06, 0.6))  # brows
    mix(planes, skin * np.array([0.72, 0.5, 0.5], np.float32), _blob(angle, height + 0.52, 0.3, 0.07, 0.8))  # mouth
    mix(planes, skin * 0.8, _blob(angle - 0.05, height + 0.18, 0.13, 0.2, 0.5))  # the nose's shadow
    if look.glasses:
        lens = np.maximum(np.abs(aside - 0.42) / 0.34, np.abs(height - 0.06) / 0.2)
        mix(planes, _DARK, np.clip((1.1 - lens) * 6.0, 0.0, 0.8))
        temples = np.minimum(1.5 - aside, 0.07 - np.abs(height - 0.12))
        mix(planes, _DARK, np.clip(temples * 12.0, 0.0, 0.9))


def _draw_hair(tailor: Tailor, yaw: float) -> None:
    look = tailor.appearance.head
    swell = _HAIR_SWELL[look.hair]
    patch = _skull(tailor, swell)
    height, aside = _height(tailor, patch, swell), np.abs(patch.angle(yaw))
    line = np.interp(aside, _AROUND, _HAIRLINES[look.hair]).astype(np.float32)
    planes = flat(look.hair_colour.array(), patch)
    planes *= 1.0 + 0.12 * np.sin(aside * 23.0 + height * 5.0)  # strands
    tailor.paint(patch, planes, HEAD, coverage=patch.coverage * tailor.edge((height - line) * _TALL))
    if look.hair == "bun" and not look.hat:
        x, y = tailor.joints("head")[0]
        x -= 0.03 * math.sin(yaw)
        bun = tailor.canvas.limb([(x, y - 0.072), (x, y - 0.084)], [0.027, 0.025], [0.012])
        tailor.paint(bun, flat(look.hair_colour.array(), bun), HEAD)


def _draw_hat(tailor: Tailor, yaw: float) -> None:
    look = tailor.appearance.head
    swell = _HAT_SWELL[look.hat]
    patch = _skull(tailor, swell)
    height, aside = _height(tailor, patch, swell), np.abs(patch.angle(yaw))
    colour = look.hat_colour.array()
    planes = flat(colour, patch)
    if look.hat in ("headscarf", "hood"):
        around_face = np.maximum(aside / 0.85, np.abs(height + 0.12) / 0.68) - 1.0
        mask = tailor.edge(around_face * 0.05)
        if look.hat == "hood":
            mix(planes, colour * 0.6, np.clip(1.5 - np.abs(around_face - 0.08) * 12.0, 0.0, 1.0))
    else:
        line = _HAT_LINE[look.hat]
        mask = tailor.edge((height - line) * _TALL)
        if look.hat in _HAT_FOLD:
            mix(planes, colour * 0.72, tailor.edge((line + _HAT_FOLD[look.hat] - height) * _TALL))
    tailor.paint(patch, planes, HEAD, folds=0.03, coverage=patch.coverage * mask)
    _draw_brim(tailor, yaw)


def _draw_brim(tailor: Tailor, yaw: float) -> None:
    """The brim all round, or the peak of a cap where the face is not turned away."""
    look, size = tailor.appearance.head, tailor.appearance.body.head
    x, y = tailor.joints("head")[0]
    cos, sin = math.cos(yaw), math.sin(yaw)
    if look.hat == "brim":
        y -= 0.028 * size
        half = 0.075 * size
    elif look.hat == "cap" and cos > -0.45:
        x, y = x + 0.08 * sin * size, y - 0.024 * size + 0.05 * cos * tailor.tilt
        half = 0.032 * abs(cos) + 0.03 * abs(sin)
    else:
        return
    brim = tailor.canvas.limb([(x - half, y), (x + half, y)], [0.011, 0.011], [2 * half])
    tailor.canvas.paint(brim, flat(look.hat_colour.array() * 0.8, brim), HEAD)
