"""Things that hide people: each kind is drawn from a random generator, and knows from where it enters the picture.

The train split never sees a kind of the test split; only people (in other clothes) are in both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from glimpse.people.palette import RGB, Wardrobe, clothing
from glimpse.people.sprites import Board, Sprite

Entry = Literal["bottom", "left", "right", "top", "middle"]


@dataclass(frozen=True, slots=True)
class OccluderKind:
    """A kind of occluder: where it enters, whether it spans the picture, and how it is drawn.

    ``stretch`` is how much wider or narrower than drawn it may appear.
    """

    entries: tuple[Entry, ...]
    spans: bool
    draw: Callable[[np.random.Generator, dict[str, RGB]], Sprite] | None
    stretch: tuple[float, float] = (0.85, 1.2)


def _paint(rng: np.random.Generator, palette: dict[str, RGB]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    names = list(palette)
    colour = np.array(palette[names[int(rng.integers(len(names)))]], np.float32)
    return np.clip(colour + rng.normal(0, 10, 3), 12, 246).astype(np.float32)


def _car(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(150, 360)
    paint = _paint(rng, palette)
    van = rng.random() < 0.35
    roof = 0.03 if van else 0.06
    front, back = (0.2, 0.95) if van else (0.24, 0.82)
    board.ellipse(0.5, 0.96, 0.47, 0.04, (30, 30, 32))
    board.polygon(
        [(0.02, 0.52), (0.16, 0.44), (0.96, 0.4), (0.99, 0.56), (0.98, 0.86), (0.02, 0.86), (0.005, 0.7)], paint
    )
    board.polygon([(0.13, 0.46), (front + 0.06, roof), (back - 0.06, roof), (min(back + 0.1, 0.98), 0.44)], paint)
    glass = np.array([70, 92, 108], np.float32)
    pillar = 0.5 * (front + back)
    board.polygon([(0.19, 0.44), (front + 0.08, 0.11), (pillar - 0.015, 0.11), (pillar - 0.015, 0.43)], glass)
    board.polygon(
        [(pillar + 0.015, 0.43), (pillar + 0.015, 0.11), (back - 0.08, 0.11), (min(back + 0.05, 0.93), 0.42)], glass
    )
    board.polygon([(0.22, 0.4), (front + 0.1, 0.13), (front + 0.14, 0.13), (0.28, 0.4)], glass * 1.5)
    board.shade(np.linspace(1.14, 0.72, 300, dtype=np.float32)[:, None] * np.ones((1, 720), np.float32))
    board.line(0.02, 0.6, 0.98, 0.57, 0.012, paint * 0.62)
    board.line(pillar, 0.44, pillar, 0.82, 0.012, paint * 0.6)
    board.rectangle(pillar + 0.03, 0.52, pillar + 0.08, 0.54, paint * 0.5)
    board.rectangle(0.02, 0.8, 0.98, 0.88, (34, 34, 36))
    board.ellipse(0.03, 0.58, 0.022, 0.05, (250, 240, 200))
    board.ellipse(0.975, 0.53, 0.014, 0.06, (200, 30, 30))
    for x in (0.2, 0.78):
        board.ellipse(x, 0.83, 0.078, 0.165, (26, 26, 28))
        board.ellipse(x, 0.83, 0.045, 0.1, (150, 152, 156))
        board.ellipse(x, 0.83, 0.014, 0.03, (60, 60, 64))
    return board.cut("car")


def _bush(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(200, 260)
    green = np.array([56, 98, 42], np.float32) * rng.uniform(0.7, 1.3) + rng.normal(0, 12, 3)
    shape = rng.uniform(-0.06, 0.06, 4)
    for layer in range(4):  # dark masses inside, small bright leaves outside
        size = (0.075, 0.04, 0.024, 0.016)[layer]
        for _ in range((90, 220, 500, 700)[layer]):
            x = rng.uniform(0.05, 0.95)
            dome = 0.1 + 0.5 * (2 * x - 1) ** 4 + float(np.interp(x, (0.1, 0.4, 0.6, 0.9), shape))
            y = dome + (1 - dome) * rng.beta(1.1, 1.2)
            tone = green * (0.42 + 0.2 * layer + rng.normal(0, 0.1)) * (1.3 - 0.6 * y)
            wide = size * rng.uniform(0.7, 1.3)
            board.ellipse(x, y, wide, wide * rng.uniform(0.6, 1.1), np.clip(tone, 6, 220).astype(np.float32))
    return board.cut("bush")


def _branches(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    crown = _bush(rng, palette).pixels[::-1]
    return Sprite("branches", np.ascontiguousarray(crown))


def _wall(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(200, 240)
    bricks = rng.random() < 0.55
    base = np.array([150, 82, 62] if bricks else [156, 152, 144], np.float32) * rng.uniform(0.7, 1.25)
    board.rectangle(0, 0, 1, 1, base * 0.8)
    rows, columns = (16, 9) if bricks else (5, 4)
    for row in range(rows):
        for column in range(-1, columns + 1):
            x = (column + 0.5 * (row % 2)) / columns
            tone = base * (1 + rng.normal(0, 0.07))
            board.rectangle(x + 0.006, (row + 0.08) / rows, x + 1 / columns - 0.006, (row + 0.92) / rows, tone)
    board.grain(rng, 0.06, 10)
    board.rectangle(0, 0, 1, 0.035, base * 1.25)
    board.rectangle(0, 0.035, 1, 0.05, base * 0.55)
    return board.cut("wall")


def _railing(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(200, 240)
    paint = _paint(rng, palette) if rng.random() < 0.4 else np.array([60, 64, 70], np.float32) * rng.uniform(0.5, 2.6)
    count = int(rng.integers(9, 15))
    thick = rng.uniform(0.45, 0.68) / count
    for index in range(count + 1):
        x = index / count
        board.rectangle(x - thick / 2, 0.02, x + thick / 2, 1.0, paint * (0.95 + 0.1 * (index % 2)))
        board.rectangle(x - thick / 2, 0.02, x - thick / 5, 1.0, paint * 1.2)
    for y, tall in ((0.0, 0.055), (0.5, 0.03), (0.93, 0.04)):
        board.rectangle(0, y, 1, y + tall, paint * 1.1)
        board.rectangle(0, y + 0.7 * tall, 1, y + tall, paint * 0.7)
    return board.cut("railing")


def _boxes(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(220, 200)
    levels = int(rng.integers(2, 5))
    for level in range(levels):
        y0, y1 = 1 - (level + 1) / levels, 1 - level / levels
        left = rng.uniform(0.0, 0.16)
        right = 1.0 - rng.uniform(0.0, 0.16)
        cuts = [left, *sorted(rng.uniform(left + 0.25, right - 0.2, int(rng.integers(0, 2))).tolist()), right]
        for x0, x1 in itertools.pairwise(cuts):
            cardboard = np.array([182, 140, 94], np.float32) * rng.uniform(0.75, 1.15)
            tone = cardboard if rng.random() < 0.7 else _paint(rng, palette)
            board.rectangle(x0, y0, x1, y1, tone * 0.78)
            board.rectangle(x0 + 0.008, y0 + 0.01, x1 - 0.008, y1 - 0.008, tone)
            middle = 0.5 * (x0 + x1)
            board.rectangle(middle - 0.03, y0 + 0.01, middle + 0.03, y1 - 0.008, tone * 1.12)
            board.rectangle(x0 + 0.05, y1 - 0.08, x0 + 0.15, y1 - 0.04, (238, 234, 226))
    board.grain(rng, 0.04, 14)
    return board.cut("boxes")


def _trunk(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(260, 90)
    bark = np.array([96, 76, 58], np.float32) * rng.uniform(0.6, 1.4) + rng.normal(0, 8, 3)
    bend = rng.uniform(-0.08, 0.08)
    left = [(0.14 + bend * math.sin(3 * y), y) for y in np.linspace(0, 0.9, 12)]
    right = [(0.86 + bend * math.sin(3 * y), y) for y in np.linspace(0.9, 0, 12)]
    board.polygon([*left, (0.0, 1.0), (1.0, 1.0), *right], bark.astype(np.float32))
    grooves = rng.normal(1.0, 0.22, (26, 60)).astype(np.float32)
    board.shade(np.asarray(cv2.resize(grooves, (180, 520), interpolation=cv2.INTER_CUBIC), np.float32))
    board.grain(rng, 0.08, 5)
    across = np.linspace(-1, 1, 180, dtype=np.float32)
    board.shade(np.sqrt(np.maximum(0.15, 1.1 - (across - 0.25) ** 2))[None, :] * np.ones((520, 1), np.float32))
    return board.cut("trunk")


def _sign(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(260, 150)
    paint, ink = _paint(rng, palette), _paint(rng, palette)
    board.rectangle(0.46, 0.5, 0.54, 1.0, (110, 112, 116))
    board.rectangle(0.02, 0.0, 0.98, 0.68, paint * 0.6)
    board.rectangle(0.05, 0.015, 0.95, 0.665, paint)
    for row in range(int(rng.integers(3, 6))):
        y = 0.08 + row * 0.11
        board.rectangle(0.14, y, rng.uniform(0.45, 0.86), y + 0.045, ink)
    if rng.random() < 0.5:
        board.ellipse(0.7, 0.5, 0.14, 0.09, ink * 0.8)
    return board.cut("sign")


def _bin(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(220, 150)
    paint = _paint(rng, palette)
    board.polygon([(0.06, 0.16), (0.94, 0.16), (0.86, 0.97), (0.14, 0.97)], paint)
    for x in (0.27, 0.5, 0.73):
        board.line(x, 0.2, 0.5 + (x - 0.5) * 0.85, 0.94, 0.012, paint * 0.75)
    board.polygon([(0.02, 0.16), (0.1, 0.03), (0.9, 0.03), (0.98, 0.16)], paint * 0.8)
    board.rectangle(0.0, 0.14, 1.0, 0.19, paint * 0.62)
    board.rectangle(0.36, 0.4, 0.64, 0.56, (232, 232, 228))
    board.shade(np.linspace(0.78, 1.18, 300, dtype=np.float32)[None, :] * np.ones((440, 1), np.float32))
    board.ellipse(0.2, 0.95, 0.08, 0.05, (28, 28, 30))
    board.ellipse(0.8, 0.95, 0.08, 0.05, (28, 28, 30))
    return board.cut("bin")


def _umbrella(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(180, 250)
    paint, second = _paint(rng, palette), _paint(rng, palette)
    ribs = int(rng.integers(6, 9))
    edges = np.linspace(0.0, 1.0, ribs + 1)
    two_tone = rng.random() < 0.6
    for index in range(ribs):
        x0, x1 = float(edges[index]), float(edges[index + 1])
        arc = [(x, 1 - 0.97 * math.sqrt(max(0.0, 1 - (2 * x - 1) ** 2)) ** 0.9) for x in np.linspace(x0, x1, 8)]
        dip = [(x, 0.97 - 0.06 * math.sin(math.pi * (x - x0) / (x1 - x0))) for x in np.linspace(x1, x0, 8)]
        tone = second if two_tone and index % 2 else paint
        # The panels meet at the top: each is a fan from the crown.
        board.polygon([*arc, *dip], tone * (0.82 + 0.3 * (1 - abs(index + 0.5 - ribs / 2) / ribs)))
    for x in edges[1:-1].tolist():
        board.line(0.5 + (x - 0.5) * 0.3, 0.06, x, 0.96, 0.008, paint * 0.6)
    return board.cut("umbrella")


def _mesh(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(220, 240)
    paint = np.array([150, 154, 156], np.float32) * rng.uniform(0.4, 1.3)
    count = int(rng.integers(8, 12))
    for index in range(-count, 2 * count + 1):
        x = index / count
        board.line(x, 0.0, x + 0.9, 1.0, 0.02 + 0.012 * (count < 10), paint)
        board.line(x + 0.9, 0.0, x, 1.0, 0.02 + 0.012 * (count < 10), paint * 0.8)
    board.rectangle(0, 0, 1, 0.04, paint * 1.2)
    for x in (0.02, 0.5, 0.98):
        board.rectangle(x - 0.022, 0, x + 0.022, 1, paint * 1.1)
    return board.cut("mesh")


def _pillar(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(260, 90)
    stone = np.array([196, 190, 178], np.float32) * rng.uniform(0.55, 1.15)
    board.rectangle(0, 0, 1, 1, stone)
    if rng.random() < 0.6:
        board.rectangle(0, 0.32, 1, 0.62, _paint(rng, palette))
        board.rectangle(0.1, 0.36, 0.9, 0.58, (236, 234, 228))
        ink = _paint(rng, palette)
        for y in (0.39, 0.45, 0.51):
            board.rectangle(0.2, y, rng.uniform(0.5, 0.8), y + 0.03, ink)
    board.grain(rng, 0.03, 8)
    across = np.linspace(-1, 1, 180, dtype=np.float32)
    board.shade(
        (0.5 + 0.62 * np.sqrt(np.maximum(0.0, 1 - (0.9 * across - 0.2) ** 2)))[None, :] * np.ones((520, 1), np.float32)
    )
    return board.cut("pillar")


def _banner(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(120, 260)
    paint, ink = _paint(rng, palette), _paint(rng, palette)
    top = [(x, 0.03 + 0.03 * math.sin(9 * x)) for x in np.linspace(0, 1, 24)]
    low = [(x, 0.95 + 0.03 * math.sin(9 * x + 1)) for x in np.linspace(1, 0, 24)]
    board.polygon([*top, *low], paint)
    for index in range(int(rng.integers(4, 9))):
        x = 0.1 + 0.09 * index
        board.rectangle(x, 0.28, x + 0.055, 0.7 + 0.06 * (index % 3), ink)
    folds = 1.0 + 0.12 * np.sin(np.linspace(0, 19, 520, dtype=np.float32))
    board.shade(np.broadcast_to(folds, (240, 520)).astype(np.float32))
    return board.cut("banner")


def _cart(rng: np.random.Generator, palette: dict[str, RGB]) -> Sprite:
    board = Board(200, 210)
    paint = _paint(rng, palette)
    board.polygon([(0.06, 0.12), (0.98, 0.2), (0.88, 0.66), (0.16, 0.66)], paint * 0.92)
    for _ in range(int(rng.integers(3, 7))):
        x, tall = rng.uniform(0.18, 0.78), rng.uniform(0.1, 0.3)
        board.rectangle(x, 0.22 - tall * 0.5, x + rng.uniform(0.1, 0.2), 0.5, _paint(rng, palette))
    for index in range(9):
        x = 0.08 + 0.1 * index
        board.line(x, 0.14 + 0.08 * x, 0.2 + 0.76 * (x - 0.06), 0.66, 0.012, (176, 178, 182))
    for y in (0.15, 0.3, 0.46, 0.64):
        board.line(0.06 + 0.13 * (y - 0.1), y, 0.97 - 0.16 * (y - 0.1), y + 0.05 * (0.7 - y), 0.016, (190, 192, 196))
    board.line(0.02, 0.06, 0.2, 0.86, 0.026, (120, 122, 126))
    board.line(0.2, 0.86, 0.88, 0.86, 0.026, (120, 122, 126))
    board.rectangle(0.16, 0.66, 0.88, 0.88, (66, 68, 74))
    for x in (0.24, 0.84):
        board.ellipse(x, 0.93, 0.06, 0.065, (30, 30, 32))
    return board.cut("cart")


_ANYWHERE: tuple[Entry, ...] = ("bottom", "bottom", "left", "right")
_SIDES: tuple[Entry, ...] = ("left", "right")
KINDS: dict[str, OccluderKind] = {
    "car": OccluderKind(("bottom",), False, _car),
    "bush": OccluderKind(("bottom", "bottom", "left", "right"), False, _bush, (0.9, 1.5)),
    "branches": OccluderKind(("top",), True, _branches),
    "wall": OccluderKind(("bottom", "bottom", "left", "right"), True, _wall),
    "railing": OccluderKind(("bottom", "bottom", "middle"), True, _railing),
    "boxes": OccluderKind(_ANYWHERE, False, _boxes),
    "trunk": OccluderKind(_SIDES, False, _trunk, (0.9, 1.8)),
    "sign": OccluderKind(("bottom", "left", "right"), False, _sign, (0.9, 1.3)),
    "bin": OccluderKind(("bottom",), False, _bin, (0.9, 1.3)),
    "umbrella": OccluderKind(("top", "top", "left", "right"), False, _umbrella),
    "mesh": OccluderKind(("bottom", "bottom", "middle"), True, _mesh),
    "pillar": OccluderKind(_SIDES, False, _pillar, (0.9, 1.8)),
    "banner": OccluderKind(("middle", "middle", "top", "bottom"), True, _banner),
    "cart": OccluderKind(("bottom", "bottom", "left", "right"), False, _cart),
    "person": OccluderKind(("left", "right", "left", "right", "bottom"), False, None, (0.95, 1.1)),
}
_SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("car", "bush", "branches", "wall", "railing", "boxes", "trunk", "person"),
    "test": ("sign", "bin", "umbrella", "mesh", "pillar", "banner", "cart", "person"),
}


def occluder_kinds(wardrobe: Wardrobe) -> tuple[str, ...]:
    """The occluder kinds of a split; ``all`` has both."""
    return _SPLITS[wardrobe] if wardrobe != "all" else tuple(dict.fromkeys(_SPLITS["train"] + _SPLITS["test"]))


def draw_occluder(kind: str, rng: np.random.Generator, wardrobe: Wardrobe) -> Sprite:
    """Draw a thing of a kind (not ``person``, who is drawn as people are)."""
    draw = KINDS[kind].draw
    if draw is None:
        raise ValueError(f"occluder {kind!r} is not a thing that can be drawn alone")
    return draw(rng, clothing(wardrobe))
