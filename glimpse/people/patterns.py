"""Cloth patterns and chest prints, as functions of the place on the body.

``around`` and ``along`` are body heights across and down the piece; every pattern returns how much of the second and
of the third colour a place shows. Edges are anti-aliased to ``crisp`` pixels per body height.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glimpse.people.surface import Float32, step
from glimpse.people.wardrobe import Fabric

Weights = tuple[Float32, Float32 | None]
Pattern = Callable[[Float32, Float32, float, float], Weights]


def wave(place: Float32, period: float, share: float, crisp: float) -> Float32:
    """Stripes of width ``share * period``, centred on multiples of ``period``."""
    offset = place * (1.0 / period)
    offset -= np.rint(offset)
    np.abs(offset, out=offset)
    return step((share / 2 - offset) * period, crisp)


def _stripes(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return wave(along, period, 0.5, crisp), None


def _triple(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return wave(along, period * 2.2, 0.36, crisp), wave(along + (period * 0.75), period * 2.2, 0.2, crisp)


def _vertical(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return wave(around, period * 0.9, 0.45, crisp), None


def _pinstripe(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return wave(around, period * 0.7, 0.2, crisp), None


def _gingham(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return 0.5 * (wave(around, period, 0.5, crisp) + wave(along, period, 0.5, crisp)), None


def _plaid(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    wide = 0.5 * (wave(around, period * 1.4, 0.5, crisp) + wave(along, period * 1.4, 0.5, crisp))
    shift = period * 0.7
    thin = np.maximum(wave(around + shift, period * 1.4, 0.13, crisp), wave(along + shift, period * 1.4, 0.13, crisp))
    return wide, thin


def _dots(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return _spots(around, along, period * 0.9, 0.3, crisp), None


def _floral(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    shift = period * 0.5
    return (
        _spots(around, along, period * 1.15, 0.33, crisp),
        _spots(around + shift, along + (0.22 * period), period * 1.15, 0.2, crisp),
    )


def _spots(around: Float32, along: Float32, period: float, radius: float, crisp: float) -> Float32:
    row = np.rint(along * (1.0 / period))
    u = around * (1.0 / period) + 0.5 * (row % 2)  # every other row is shifted by half a period
    u -= np.rint(u)
    v = along * (1.0 / period) - row
    return step((radius - np.sqrt(u * u + v * v)) * period, crisp)


def _diagonal(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return wave((around + along) * 0.7071, period, 0.5, crisp), None


def _chevron(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    zigzag = around * (1.0 / period)
    zigzag = np.abs(zigzag - np.rint(zigzag)) * period
    return wave(along + zigzag, period * 1.1, 0.5, crisp), None


def _argyle(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    p, q = around * 1.3 + along, around * 1.3 - along
    lines = np.maximum(wave(p, period * 1.6, 0.1, crisp), wave(q, period * 1.6, 0.1, crisp))
    shift = period * 0.8
    return wave(p + shift, period * 1.6, 0.5, crisp) * wave(q + shift, period * 1.6, 0.5, crisp), lines


def _camouflage(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    u, v = around * (5.0 / period), along * (4.0 / period)
    first = np.sin(u + 1.7 * np.sin(0.7 * v)) + np.sin(0.8 * v + 1.3 * np.sin(0.9 * u))
    second = np.sin(0.6 * u + 2.0 * np.sin(0.5 * v) + 2.0) + np.sin(0.9 * v - 1.1 * np.sin(0.8 * u) + 1.0)
    return np.clip((first - 0.4) * 4.0, 0.0, 1.0), np.clip((second - 0.6) * 4.0, 0.0, 1.0)


def _two_tone(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return step(along - (0.05 + 1.8 * period), crisp), None


def _yoke(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    edge = (0.04 + 0.9 * period) - along
    return step(edge, crisp), step(0.008 - np.abs(edge), crisp)


def _band(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    middle = np.abs(along - (0.06 + 1.4 * period))
    return step(0.034 - middle, crisp), step(0.012 - middle, crisp)


def _split(around: Float32, along: Float32, period: float, crisp: float) -> Weights:
    return step(around, crisp), None


_PATTERNS: dict[str, Pattern] = {
    "stripes": _stripes,
    "triple": _triple,
    "vertical": _vertical,
    "pinstripe": _pinstripe,
    "gingham": _gingham,
    "plaid": _plaid,
    "dots": _dots,
    "floral": _floral,
    "diagonal": _diagonal,
    "chevron": _chevron,
    "argyle": _argyle,
    "camouflage": _camouflage,
    "two_tone": _two_tone,
    "yoke": _yoke,
    "band": _band,
    "split": _split,
}


def weave(fabric: Fabric, around: Float32, along: Float32, crisp: float) -> Float32:
    """The colours of a cloth at these places, float32 planes ``(3, h, w)``, unshaded."""
    first, second, third = (colour.rgb for colour in fabric.colours)
    planes = np.empty((3, *along.shape), np.float32)
    if fabric.pattern == "plain":
        planes[:] = np.array(first, np.float32)[:, None, None]
        return planes
    # Patterns finer than two pixels would alias: they fade to their mean instead, as in a camera.
    some, more = _PATTERNS[fabric.pattern](around, along, fabric.period, crisp)
    for channel in range(3):
        plane = planes[channel]
        np.multiply(some, (second[channel] - first[channel]), out=plane)
        plane += first[channel]
        if more is not None:
            plane += (third[channel] - plane) * more
    return planes


def print_mask(kind: str, around: Float32, along: Float32, size: float, crisp: float) -> Float32:
    """Where a chest print inks the cloth: a shape of half width ``size`` centred on (0, 0); float32 ``(h, w)``."""
    x, y = np.abs(around), np.abs(along)
    if kind == "disc":
        return step(size - np.hypot(x, y), crisp)
    if kind == "ring":
        return step(0.28 * size - np.abs(np.hypot(x, y) - 0.75 * size), crisp)
    if kind == "square":
        return step(0.85 * size - np.maximum(x, y), crisp)
    if kind == "diamond":
        return step((1.15 * size - x - y) * 0.7, crisp)
    if kind == "triangle":
        return step(np.minimum(0.8 * size - along, (along + size) * 0.5 - x * 0.87), crisp)
    if kind == "cross":
        reach = size - np.maximum(x, y)
        return step(np.minimum(reach, (0.33 * size) - np.minimum(x, y)), crisp)
    if kind == "bars":
        inside = step(np.minimum(1.2 * size - x, size - y), crisp)
        return inside * wave(along, size * 0.7, 0.5, crisp)
    if kind == "letters":
        inside = step(np.minimum(1.4 * size - x, 0.42 * size - y), crisp)
        strokes = np.maximum(wave(around, size * 0.5, 0.35, crisp), wave(along + (0.4 * size), size * 0.8, 0.3, crisp))
        return inside * strokes
    raise ValueError(
        f"unknown chest print {kind!r}; allowed: disc, ring, square, diamond, triangle, cross, bars, letters"
    )
