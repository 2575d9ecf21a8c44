"""What a person looks like: independent attributes in every body region, drawn once per identity.

A person of whom only the upper half is seen must still be told from hundreds of others, and so for the lower half;
therefore head, upper body, arms, legs and feet each carry colours, patterns and pieces of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glimpse.people.palette import Colour, Wardrobe, draw_colour, draw_hair, draw_skin

# Held-out pieces: what a test person wears is not seen in training (plain cloth is everywhere).
_PATTERNS: dict[str, tuple[str, ...]] = {
    "train": ("stripes", "vertical", "gingham", "dots", "two_tone", "yoke", "camouflage", "triple"),
    "test": ("band", "diagonal", "plaid", "chevron", "split", "floral", "pinstripe", "argyle"),
}
_PRINTS: dict[str, tuple[str, ...]] = {
    "train": ("disc", "square", "bars", "triangle"),
    "test": ("ring", "cross", "diamond", "letters"),
}
_TOPS: dict[str, tuple[str, ...]] = {
    "train": ("tee", "sweater", "hoodie", "open_jacket", "shirt", "dress"),
    "test": ("tee", "sweater", "hoodie", "open_jacket", "gilet", "coat", "dress"),
}
_LEGWEAR: dict[str, tuple[str, ...]] = {
    "train": ("trousers", "jeans", "shorts", "skirt", "leggings"),
    "test": ("trousers", "jeans", "wide", "bermudas", "long_skirt", "leggings"),
}
_LEG_TRIMS: dict[str, tuple[str, ...]] = {
    "train": ("none", "none", "side_stripe", "cuffs", "pockets"),
    "test": ("none", "none", "double_stripe", "knees", "panel"),
}
_SLEEVES: dict[str, tuple[str, ...]] = {
    "train": ("same", "same", "contrast", "cuffs"),
    "test": ("same", "same", "raglan", "bands"),
}
_HATS: dict[str, tuple[str, ...]] = {"train": ("cap", "beanie"), "test": ("brim", "headscarf", "hood")}
_BAGS: dict[str, tuple[str, ...]] = {"train": ("backpack", "shoulder"), "test": ("backpack", "handbag", "tote")}
_SHOES: dict[str, tuple[str, ...]] = {
    "train": ("sneakers", "boots", "pumps"),
    "test": ("runners", "boots", "high_tops"),
}
_HAIR = ("bald", "cropped", "short", "bob", "long", "bun", "ponytail", "afro")
_HAIR_WEIGHTS = (0.08, 0.14, 0.22, 0.14, 0.17, 0.09, 0.09, 0.07)


@dataclass(frozen=True, slots=True)
class Body:
    """Build: factors around 1 on widths, and the share of the height that is leg."""

    build: float
    shoulders: float
    hips: float
    legs: float
    head: float


@dataclass(frozen=True, slots=True)
class Fabric:
    """Cloth: a pattern over up to three colours; ``period`` in body heights."""

    pattern: str
    colours: tuple[Colour, Colour, Colour]
    period: float

    @property
    def names(self) -> tuple[str, ...]:
        """What can be told by eye: a plain cloth shows one colour only."""
        shown = 1 if self.pattern == "plain" else 3
        return (self.pattern, *(colour.name for colour in self.colours[:shown]))


@dataclass(frozen=True, slots=True)
class Head:
    """Skin, hair, hat, glasses, beard and scarf; an empty name means none."""

    skin: Colour
    hair: str
    hair_colour: Colour
    hat: str
    hat_colour: Colour
    glasses: bool
    beard: bool
    scarf: Colour | None


@dataclass(frozen=True, slots=True)
class Upper:
    """The garment of the upper body, its print and the bag carried."""

    garment: str
    fabric: Fabric
    inner: Colour
    chest: str
    chest_colour: Colour
    bag: str
    bag_colour: Colour
    length: float


@dataclass(frozen=True, slots=True)
class Arms:
    """Sleeves: ``reach`` is the share of the arm that is covered; ``gloves`` None for bare hands."""

    reach: float
    style: str
    fabric: Fabric
    trim: Colour
    gloves: Colour | None

    @property
    def covers(self) -> bool:
        """Whether the sleeves reach the wrists, so that no skin shows."""
        return self.reach >= 0.9


@dataclass(frozen=True, slots=True)
class Legs:
    """Trousers, shorts, skirt or leggings; ``reach`` is the share of the leg that is covered."""

    kind: str
    fabric: Fabric
    trim: str
    trim_colour: Colour
    reach: float

    @property
    def covers(self) -> bool:
        """Whether the legs are covered down to the ankles, so that no skin shows."""
        return self.reach >= 0.9


@dataclass(frozen=True, slots=True)
class Feet:
    """Shoes and socks; ``sock`` is the share of the shin a sock covers."""

    kind: str
    colour: Colour
    sole: Colour
    sock_colour: Colour
    sock: float


@dataclass(frozen=True)
class Appearance:
    """Everything that stays the same in all views of one identity."""

    body: Body
    head: Head
    upper: Upper
    arms: Arms
    legs: Legs
    feet: Feet

    @cached_property
    def regions(self) -> dict[str, tuple[str, ...]]:
        """The named attributes of each part, by part name: what an onlooker could write down."""
        head, upper, arms, legs, feet = self.head, self.upper, self.arms, self.legs, self.feet
        hat = (head.hat, head.hat_colour.name) if head.hat else ("",)
        scarf = head.scarf.name if head.scarf else ""
        chest = (upper.chest, upper.chest_colour.name) if upper.chest else ("",)
        bag = (upper.bag, upper.bag_colour.name) if upper.bag else ("",)
        trim = (arms.style, arms.trim.name) if arms.style != "same" else ("same",)
        gloves = arms.gloves.name if arms.gloves else ""
        leg_trim = (legs.trim, legs.trim_colour.name) if legs.trim != "none" else ("none",)
        glasses, beard = "glasses" if head.glasses else "", "beard" if head.beard else ""
        return {
            "head": (head.skin.name, head.hair, head.hair_colour.name, *hat, glasses, beard, scarf),
            "upper": (upper.garment, *upper.fabric.names, upper.inner.name, *chest, *bag),
            "arms": (f"{arms.reach:.1f}", *arms.fabric.names, *trim, gloves),
            "legs": (legs.kind, *legs.fabric.names, *leg_trim),
            "feet": (feet.kind, feet.colour.name, feet.sole.name, feet.sock_colour.name if feet.sock else ""),
        }

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """All named attributes, region by region."""
        return tuple(name for region in self.regions.values() for name in region)


def options(table: dict[str, tuple[str, ...]], wardrobe: Wardrobe) -> tuple[str, ...]:
    """The entries of a split; ``all`` has both, each once."""
    return table[wardrobe] if wardrobe != "all" else tuple(dict.fromkeys(table["train"] + table["test"]))


def dress(rng: np.random.Generator, wardrobe: Wardrobe) -> Appearance:
    """Draw one person's appearance from the split's pieces."""
    body = Body(
        build=float(rng.uniform(0.84, 1.26)),
        shoulders=float(rng.uniform(0.9, 1.12)),
        hips=float(rng.uniform(0.9, 1.14)),
        legs=float(rng.uniform(0.96, 1.04)),
        head=float(rng.uniform(0.95, 1.08)),
    )
    upper = _upper(rng, wardrobe)
    return Appearance(
        body,
        _head(rng, wardrobe),
        upper,
        _arms(rng, wardrobe, upper),
        _legs(rng, wardrobe, upper),
        _feet(rng, wardrobe),
    )


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _fabric(rng: np.random.Generator, wardrobe: Wardrobe, plain: float, avoid: tuple[Colour, ...] = ()) -> Fabric:
    first = draw_colour(rng, wardrobe, avoid)
    second = draw_colour(rng, wardrobe, (first,))
    third = draw_colour(rng, wardrobe, (first, second))
    pattern = "plain" if rng.random() < plain else _pick(rng, options(_PATTERNS, wardrobe))
    return Fabric(pattern, (first, second, third), float(rng.uniform(0.038, 0.085)))


def _head(rng: np.random.Generator, wardrobe: Wardrobe) -> Head:
    hair = str(rng.choice(_HAIR, p=_HAIR_WEIGHTS))
    return Head(
        skin=draw_skin(rng),
        hair=hair,
        hair_colour=draw_hair(rng),
        hat=_pick(rng, options(_HATS, wardrobe)) if rng.random() < 0.3 else "",
        hat_colour=draw_colour(rng, wardrobe),
        glasses=bool(rng.random() < 0.25),
        beard=bool(hair in ("bald", "cropped", "short") and rng.random() < 0.35),
        scarf=draw_colour(rng, wardrobe) if rng.random() < 0.18 else None,
    )


def _upper(rng: np.random.Generator, wardrobe: Wardrobe) -> Upper:
    garment = _pick(rng, options(_TOPS, wardrobe))
    fabric = _fabric(rng, wardrobe, plain=0.34)
    printed = garment in ("tee", "sweater", "hoodie", "dress") and rng.random() < (
        0.6 if fabric.pattern == "plain" else 0.15
    )
    return Upper(
        garment=garment,
        fabric=fabric,
        inner=draw_colour(rng, wardrobe, (fabric.colours[0],)),
        chest=_pick(rng, options(_PRINTS, wardrobe)) if printed else "",
        chest_colour=draw_colour(rng, wardrobe, (fabric.colours[0],)),
        bag=_pick(rng, options(_BAGS, wardrobe)) if rng.random() < 0.45 else "",
        bag_colour=draw_colour(rng, wardrobe, (fabric.colours[0],)),
        length=float(rng.uniform(-0.02, 0.02)),
    )


def _arms(rng: np.random.Generator, wardrobe: Wardrobe, upper: Upper) -> Arms:
    short = {"tee": 0.9, "dress": 0.6, "shirt": 0.3, "gilet": 0.2}.get(upper.garment, 0.0)
    reach = float(rng.uniform(0.22, 0.42)) if rng.random() < short else 0.97
    fabric = upper.fabric
    if upper.garment == "gilet":
        fabric = Fabric("plain", (upper.inner, upper.inner, upper.inner), fabric.period)
    return Arms(
        reach=reach,
        style=_pick(rng, options(_SLEEVES, wardrobe)),
        fabric=fabric,
        trim=draw_colour(rng, wardrobe, (fabric.colours[0],)),
        gloves=draw_colour(rng, wardrobe) if rng.random() < 0.12 else None,
    )


def _legs(rng: np.random.Generator, wardrobe: Wardrobe, upper: Upper) -> Legs:
    if upper.garment == "dress":
        kind, fabric = "dress", upper.fabric
        reach = float(rng.uniform(0.34, 0.62))
    else:
        kind = _pick(rng, options(_LEGWEAR, wardrobe))
        fabric = _fabric(rng, wardrobe, plain=0.5, avoid=(upper.fabric.colours[0],))
        low, high = {
            "shorts": (0.3, 0.46),
            "bermudas": (0.46, 0.56),
            "skirt": (0.3, 0.5),
            "long_skirt": (0.62, 0.85),
        }.get(kind, (0.9, 0.97))
        reach = float(rng.uniform(low, high))
    return Legs(
        kind=kind,
        fabric=fabric,
        trim=_pick(rng, options(_LEG_TRIMS, wardrobe)),
        trim_colour=draw_colour(rng, wardrobe, (fabric.colours[0],)),
        reach=reach,
    )


def _feet(rng: np.random.Generator, wardrobe: Wardrobe) -> Feet:
    colour = draw_colour(rng, wardrobe)
    return Feet(
        kind=_pick(rng, options(_SHOES, wardrobe)),
        colour=colour,
        sole=draw_colour(rng, wardrobe, (colour,)),
        sock_colour=draw_colour(rng, wardrobe, (colour,)),
        sock=float(rng.uniform(0.2, 0.7)) if rng.random() < 0.5 else 0.0,
    )
