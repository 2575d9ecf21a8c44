"""Generated people as queries and gallery: for validation, for `glimpse evaluate` and for the demo's protocol."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from glimpse.people import PeopleGenerator, PersonView
from trainer.data.listing import ImageSet, Listing, joined
from trainer.recipe import DataRecipe

# The frozen protocol of `benchmarks/people.py`, which a test holds to these numbers.
TEST_SEED = 4
TEST_IDENTITIES = 300
CAMERAS = 6
GALLERY_VIEWS = 3
OCCLUSION = (0.5, 0.7)
# Harder than the test, because the clothes and occluders of the training are easier: tuning needs errors to learn from.
VALIDATION_OCCLUSION = (0.65, 0.85)

# Of `glimpse calibrate`: the clothes and occluders of the test, and none of its people.
CALIBRATION_SEED = 11
CALIBRATION_IDENTITIES = 400
CALIBRATION_OCCLUSION = (0.3, 0.8)


def list_generated() -> Listing:
    """300 identities of the test wardrobe: one whole query each, three gallery views by other cameras."""
    generator = PeopleGenerator(TEST_SEED, wardrobe="test")
    return _listing("generated", generator, range(TEST_IDENTITIES), CAMERAS, None)


def list_generated_occluded() -> Listing:
    """The same gallery and queries, the queries at least half hidden by things that training never shows."""
    generator = PeopleGenerator(TEST_SEED, wardrobe="test")
    return _listing("generated-occluded", generator, range(TEST_IDENTITIES), CAMERAS, OCCLUSION)


def list_generated_calibration() -> Listing:
    """400 other identities of the test wardrobe: a whole query and one 30 to 80 % hidden each, by two cameras, and
    three gallery views."""
    generator = PeopleGenerator(CALIBRATION_SEED, wardrobe="test")
    identities, name = range(CALIBRATION_IDENTITIES), "generated-calibration"
    whole = _listing(name, generator, identities, CAMERAS, None)
    keys = [(identity, (identity + 1) % CAMERAS, 2) for identity in identities]
    hidden = _views(generator, keys, CALIBRATION_OCCLUSION)
    seen = replace(whole.query, hidden=np.zeros(len(whole.query), np.float32))
    low, high = CALIBRATION_OCCLUSION
    facts = (
        whole.facts[0],
        f"{2 * len(identities)} queries, every second one whole, the others {low:.0%} to {high:.0%} hidden",
        *whole.facts[2:],
    )
    order = np.arange(2 * len(identities)).reshape(2, -1).T.ravel()  # both queries of a person together
    return replace(whole, query=joined((seen, hidden)).take(order), facts=facts)


def list_validation(data: DataRecipe) -> Listing:
    """Identities that follow the training identities: same wardrobe and cameras, queries 65 to 85 % hidden."""
    generator = PeopleGenerator(data.seed, wardrobe="train")
    identities = range(data.identities, data.identities + data.validation_identities)
    return _listing("validation", generator, identities, data.cameras, VALIDATION_OCCLUSION)


def _listing(
    name: str, generator: PeopleGenerator, identities: range, cameras: int, occlusion: tuple[float, float] | None
) -> Listing:
    query = [(identity, identity % cameras, 1) for identity in identities]
    gallery = [
        (identity, (identity + step) % cameras, 0) for identity in identities for step in range(1, GALLERY_VIEWS + 1)
    ]
    facts = (
        f"{len(identities)} generated identities, wardrobe {generator.wardrobe!r}, seed {generator.seed}",
        f"{len(query)} queries, {f'{occlusion[0]:.0%} to {occlusion[1]:.0%} hidden' if occlusion else 'whole'}",
        f"{len(gallery)} whole gallery views by {cameras} cameras; same person and same camera left out",
        "camera ids are no input of the model; no weight, prior or checkpoint was chosen on it",
    )
    return Listing(name, _views(generator, query, occlusion), _views(generator, gallery, None), facts)


def _views(
    generator: PeopleGenerator, keys: list[tuple[int, int, int]], occlusion: tuple[float, float] | None
) -> ImageSet:
    people, cameras, _ = np.array(keys).T
    # Kept, because validation asks for the same few hundred images again and again.
    draw = lru_cache(maxsize=512)(partial(_draw, generator, keys, occlusion))
    hidden = None if occlusion is None else np.array([draw(row).hidden for row in range(len(keys))], np.float32)
    return ImageSet(
        tuple(f"p{identity:04d}_c{camera}_{shot}" for identity, camera, shot in keys),
        people,
        cameras,
        lambda row: draw(row).image,
        hidden,
    )


def _draw(
    generator: PeopleGenerator, keys: list[tuple[int, int, int]], occlusion: tuple[float, float] | None, row: int
) -> PersonView:
    return generator.view(*keys[row], occlusion=occlusion)
