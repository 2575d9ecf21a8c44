"""The generated people of the demo: a gallery of clean views, and one partly hidden query a person."""

from __future__ import annotations

from collections.abc import Iterator

import cv2

from glimpse.cli.weighting import Trial
from glimpse.client import Filter, Item
from glimpse.people import PeopleGenerator
from glimpse.preprocessing import Image

OCCLUSION = (0.5, 0.7)
"""Share of a query person's pixels that is hidden."""
QUALITY = 90


class Crowd:
    """People in clothes that no model has been trained on, seen by several cameras."""

    def __init__(self, identities: int, cameras: int, seed: int) -> None:
        self.identities = identities
        self.cameras = cameras
        self._generator = PeopleGenerator(seed=seed, wardrobe="test")

    def __len__(self) -> int:
        """Images in the gallery."""
        return self.identities * self.cameras

    def items(self) -> Iterator[Item]:
        """Every person once at every camera, unoccluded."""
        for identity in range(self.identities):
            for camera in range(self.cameras):
                image = self._generator.view(identity, camera, shot=0).image
                person, place = _names(identity, camera)
                yield Item(item_id=f"{person}_{place}.jpg", image=jpeg(image), person_id=person, camera_id=place)

    def trials(self) -> Iterator[Trial]:
        """Every person once, at one of the cameras but another moment, at least half hidden.

        The same person at the same camera is excluded: to be found is the person somewhere else.
        """
        for identity in range(self.identities):
            camera = identity % self.cameras
            view = self._generator.view(identity, camera, shot=1, occlusion=OCCLUSION)
            person, place = _names(identity, camera)
            yield Trial(
                label=f"{person} at {place}, {view.hidden:.0%} hidden",
                data=jpeg(view.image),
                person_id=person,
                filter=Filter(exclude=[Filter(person_ids=[person], camera_ids=[place])]),
            )


def jpeg(image: Image) -> bytes:
    """uint8 RGB as JPEG."""
    return bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def _names(identity: int, camera: int) -> tuple[str, str]:
    return f"{identity:04d}", f"c{camera + 1}"
