"""Where to put an occluder so that it hides just the share asked for: a search over the measured share."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.occluders import Entry
from glimpse.people.sprites import Rect, Sprite

UInt8 = NDArray[np.uint8]

_COARSE = 9
_REFINE = 9


def slide(
    sprite: Sprite,
    entry: Entry,
    spans: bool,
    person: Rect,
    height: int,
    width: int,
    stretch: float,
    rng: np.random.Generator,
) -> Callable[[float], Rect]:
    """The path of an occluder: 0 beside the person, 1 all the way over; ``person`` is the box that can be hidden."""
    aspect = sprite.aspect * stretch
    drift = float(rng.uniform(-0.22, 0.22)) * width
    middle = person.x + person.width / 2 + drift
    foot = max(person.y + person.height, height * 0.97) + float(rng.uniform(0.01, 0.1)) * height
    spill = float(rng.uniform(0.0, 0.3)) * width

    def across(y: float, tall: float) -> Rect:
        if spans:
            return Rect(-spill, y, width + 2 * spill, tall)
        wide = aspect * tall
        return Rect(middle - wide / 2, y, wide, tall)

    if entry == "bottom":
        start, end = person.y + person.height + 2, person.y - 0.03 * height
        if sprite.kind == "person":  # somebody close to the camera: cut off at the chest or the waist
            wide = float(rng.uniform(0.9, 1.4)) * width
            return lambda t: Rect(middle - wide / 2, start + t * (end - start), wide, wide / aspect)

        def rise(t: float) -> Rect:
            y = start + t * (end - start)
            return across(y, max(foot - y, 0.12 * height))

        return rise
    if entry == "top":
        start, end = person.y - 2, person.y + person.height
        top = -float(rng.uniform(0.0, 0.12)) * height
        natural = float(rng.uniform(1.0, 1.7)) * width / aspect

        def sink(t: float) -> Rect:
            low = start + t * (end - start)
            if sprite.kind == "umbrella":  # its size is what it is: it slides down as a whole
                return across(low - natural, natural)
            return across(min(top, low - natural), low - min(top, low - natural))

        return sink
    if entry == "middle":
        centre = person.y + person.height * float(rng.uniform(0.3, 0.72))
        return lambda t: across(centre - t * person.height * 0.6, max(2.0, t * person.height * 1.2))
    if sprite.kind == "person":
        tall = person.height * float(rng.uniform(0.92, 1.3))
        y = foot - tall
    elif entry in ("left", "right") and (spans or sprite.kind in ("trunk", "pillar")):
        tall, y = height * float(rng.uniform(1.05, 1.3)), -float(rng.uniform(0.01, 0.05)) * height
    else:
        tall = person.height * float(rng.uniform(0.6, 1.05))
        y = foot - tall if sprite.kind != "umbrella" else person.y - 0.1 * height
    wide = aspect * tall if not spans else width * 1.2
    right = person.x + person.width
    if entry == "left":
        return lambda t: Rect(person.x - 2 + t * (person.width + 4) - wide, y, wide, tall)
    return lambda t: Rect(right + 2 - t * (person.width + 4), y, wide, tall)


def find(
    sprite: Sprite, path: Callable[[float], Rect], mirrored: bool, seen: UInt8, wanted: tuple[float, float, float]
) -> Rect | None:
    """The place on ``path`` where the occluder covers about ``wanted[1]`` pixels of ``seen``.

    Args:
        seen: uint8 ``(H, W)``, 255 where the person can be seen now.
        wanted: fewest, best and most pixels to cover.

    Returns:
        A place that covers between the fewest and the most pixels, or None when this path has none.
    """
    height, width = seen.shape
    fewest, best, most = wanted

    def covered(t: float) -> int:
        mask = sprite.mask(path(t), height, width, mirrored)
        return int(cv2.countNonZero(cv2.bitwise_and(seen, cv2.compare(mask, 127, cv2.CMP_GT))))

    low, high = 0.0, None
    for index in range(1, _COARSE + 1):
        t = index / _COARSE
        if covered(t) >= best:
            high = t
            break
        low = t
    if high is None:
        return path(1.0) if fewest <= covered(1.0) <= most else None
    for _ in range(_REFINE):
        t = 0.5 * (low + high)
        count = covered(t)
        if fewest <= count <= most:
            return path(t)
        low, high = (t, high) if count < best else (low, t)
    return path(high) if fewest <= covered(high) <= most else None
