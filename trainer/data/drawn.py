"""Generated people as a data set of the registry: their cards, and the training people that a recipe draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glimpse.images import Image
from glimpse.people import PeopleGenerator
from trainer.data.card import NO_INPUT, Card, Count
from trainer.data.generated import (
    CALIBRATION_IDENTITIES,
    CALIBRATION_OCCLUSION,
    CALIBRATION_SEED,
    CAMERAS,
    GALLERY_VIEWS,
    OCCLUSION,
    TEST_IDENTITIES,
    TEST_SEED,
    list_generated,
    list_generated_calibration,
    list_generated_occluded,
)
from trainer.data.listing import ImageSet, TrainingListing
from trainer.recipe import DataRecipe

__all__ = [
    "CALIBRATION",
    "OCCLUDED",
    "WHOLE",
    "list_generated",
    "list_generated_calibration",
    "list_generated_occluded",
    "train_generated",
]

_SIZES = {
    "query": Count(TEST_IDENTITIES, TEST_IDENTITIES),
    "gallery": Count(TEST_IDENTITIES * GALLERY_VIEWS, TEST_IDENTITIES),
    "train": Count(DataRecipe().identities * DataRecipe().views, DataRecipe().identities),
}
_PROTOCOL = f"{CAMERAS} cameras; same person and same camera left out; {NO_INPUT}"
_LICENCE = "Apache-2.0; shows nobody real"
_LAYOUT = f"drawn, nothing is read; seed {TEST_SEED}"
WHOLE = Card("generated people", "glimpse.people", _LICENCE, _PROTOCOL, _LAYOUT, _SIZES)
OCCLUDED = Card(
    "generated people, occluded queries",
    "glimpse.people",
    _LICENCE,
    f"queries {OCCLUSION[0]:.0%} to {OCCLUSION[1]:.0%} hidden; {_PROTOCOL}",
    _LAYOUT,
    _SIZES,
)
CALIBRATION = Card(
    "generated people for calibration",
    "glimpse.people",
    _LICENCE,
    f"half of the queries {CALIBRATION_OCCLUSION[0]:.0%} to {CALIBRATION_OCCLUSION[1]:.0%} hidden; {_PROTOCOL}",
    f"drawn, nothing is read; seed {CALIBRATION_SEED}",
    {
        "query": Count(2 * CALIBRATION_IDENTITIES, CALIBRATION_IDENTITIES),
        "gallery": Count(CALIBRATION_IDENTITIES * GALLERY_VIEWS, CALIBRATION_IDENTITIES),
    },
)


def train_generated() -> TrainingListing:
    """The people that `trainer.recipe.DataRecipe` draws by default, drawn anew whenever one is loaded.

    Training itself draws them once, into a cache, and with their body regions: `trainer.data.rendered`.
    """
    data = DataRecipe()
    people = np.repeat(np.arange(data.identities), data.views)
    shots = np.tile(np.arange(data.views), data.identities)
    cameras = (people * 5 + shots) % data.cameras
    ids = tuple(f"p{person:04d}_{shot}" for person, shot in zip(people, shots, strict=True))
    images = ImageSet(ids, people, cameras, _Drawn(data))
    return WHOLE.training(
        "generated", images, f"wardrobe 'train', seed {data.seed}; {data.occluded:.0%} of the views are occluded"
    )


@dataclass(frozen=True)
class _Drawn:
    data: DataRecipe

    def __call__(self, i: int) -> Image:
        person, shot = divmod(i, self.data.views)
        random = np.random.default_rng((self.data.seed, person))
        hidden = random.random(self.data.views) < self.data.occluded
        generator = PeopleGenerator(self.data.seed, wardrobe="train")
        camera = (person * 5 + shot) % self.data.cameras
        return generator.view(person, camera, shot, occlusion=self.data.occlusion if hidden[shot] else None).image
