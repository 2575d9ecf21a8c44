"""The colours people wear, and those of skin, hair and things.

The train and the test split share no clothing colour, so a model that scores well on the test split has learnt to
compare colours, not to recognise a list of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Wardrobe = Literal["train", "test", "all"]
RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Colour:
    """A named colour; ``rgb`` in [0, 255], shifted a little from the palette's value for each identity."""

    name: str
    rgb: RGB

    def array(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """float32 ``(3,)``."""
        return np.array(self.rgb, np.float32)


_TRAIN: dict[str, RGB] = {
    "black": (26, 26, 30),
    "charcoal": (62, 64, 70),
    "silver": (170, 172, 176),
    "white": (236, 236, 236),
    "navy": (28, 40, 82),
    "denim": (70, 96, 142),
    "royal blue": (38, 72, 190),
    "sky": (136, 188, 228),
    "teal": (22, 118, 122),
    "forest": (30, 84, 50),
    "olive": (98, 102, 52),
    "lime": (148, 196, 60),
    "mustard": (206, 160, 40),
    "yellow": (240, 212, 66),
    "orange": (232, 120, 36),
    "rust": (164, 72, 36),
    "red": (198, 32, 40),
    "burgundy": (104, 24, 42),
    "pink": (238, 150, 176),
    "magenta": (190, 40, 122),
    "purple": (96, 52, 140),
    "lavender": (178, 160, 214),
    "brown": (96, 64, 44),
    "tan": (186, 150, 112),
    "beige": (220, 204, 174),
    "mint": (160, 216, 186),
}
_TEST: dict[str, RGB] = {
    "jet": (36, 34, 32),
    "graphite": (84, 86, 92),
    "ash": (142, 140, 136),
    "ivory": (242, 234, 216),
    "midnight": (24, 30, 58),
    "indigo": (54, 58, 128),
    "cobalt": (20, 96, 176),
    "ice": (188, 214, 232),
    "turquoise": (52, 168, 176),
    "emerald": (18, 120, 78),
    "moss": (120, 124, 74),
    "pistachio": (184, 206, 128),
    "ochre": (190, 132, 38),
    "lemon": (246, 230, 120),
    "apricot": (244, 168, 104),
    "terracotta": (190, 96, 68),
    "crimson": (168, 16, 52),
    "maroon": (82, 26, 30),
    "rose": (214, 108, 132),
    "fuchsia": (214, 62, 150),
    "plum": (76, 38, 88),
    "lilac": (200, 176, 222),
    "chocolate": (72, 46, 34),
    "camel": (198, 158, 96),
    "sand": (206, 190, 156),
    "seafoam": (134, 194, 170),
    "coral": (240, 110, 92),
    "steel": (90, 122, 158),
}
# Streets are full of dark and grey clothes: these are drawn more often than the rest.
_COMMON = {
    "black",
    "charcoal",
    "white",
    "navy",
    "denim",
    "beige",
    "jet",
    "graphite",
    "ivory",
    "midnight",
    "indigo",
    "ash",
}

SKIN: dict[str, RGB] = {
    "porcelain": (244, 212, 190),
    "fair": (232, 190, 160),
    "olive skin": (208, 164, 124),
    "tanned": (186, 136, 98),
    "brown skin": (146, 98, 66),
    "dark": (104, 68, 48),
    "deep": (70, 46, 36),
}
HAIR: dict[str, RGB] = {
    "black hair": (28, 24, 24),
    "dark brown": (54, 38, 28),
    "chestnut": (98, 62, 38),
    "ginger": (172, 88, 38),
    "blond": (212, 176, 112),
    "platinum": (232, 220, 190),
    "grey": (150, 150, 152),
    "white hair": (224, 224, 224),
}
_HAIR_WEIGHTS = np.array([0.24, 0.2, 0.16, 0.1, 0.14, 0.05, 0.07, 0.04])


def clothing(wardrobe: Wardrobe) -> dict[str, RGB]:
    """The clothing colours of a split; ``all`` has both."""
    return {"train": _TRAIN, "test": _TEST, "all": {**_TRAIN, **_TEST}}[wardrobe]


def draw_colour(rng: np.random.Generator, wardrobe: Wardrobe, avoid: tuple[Colour, ...] = ()) -> Colour:
    """A clothing colour of the split that stands out against each colour in ``avoid``."""
    palette = clothing(wardrobe)
    names = [name for name in palette if all(_contrast(palette[name], other.rgb) > 70 for other in avoid)]
    names = names or list(palette)
    weights = np.array([1.8 if name in _COMMON else 1.0 for name in names])
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    return _shifted(rng, name, palette[name], 7.0)


def draw_skin(rng: np.random.Generator) -> Colour:
    """A skin tone."""
    name = list(SKIN)[int(rng.integers(len(SKIN)))]
    return _shifted(rng, name, SKIN[name], 5.0)


def draw_hair(rng: np.random.Generator) -> Colour:
    """A hair colour."""
    name = list(HAIR)[int(rng.choice(len(HAIR), p=_HAIR_WEIGHTS))]
    return _shifted(rng, name, HAIR[name], 5.0)


def _contrast(a: RGB, b: RGB) -> float:
    return float(np.abs(np.subtract(a, b)).sum())


def _shifted(rng: np.random.Generator, name: str, rgb: RGB, amount: float) -> Colour:
    red, green, blue = np.clip(np.array(rgb) + rng.normal(0.0, amount, 3), 8, 250).tolist()
    return Colour(name, (red, green, blue))
