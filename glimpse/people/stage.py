"""Everything that is drawn once and used in many views: clothes, cameras, places, things and passers-by."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.cameras import Camera
from glimpse.people.figure import draw_person
from glimpse.people.occluders import KINDS, draw_occluder
from glimpse.people.palette import Wardrobe
from glimpse.people.scenes import draw_scene
from glimpse.people.skeleton import draw_pose
from glimpse.people.sprites import Sprite
from glimpse.people.tailor import Light
from glimpse.people.wardrobe import Appearance, dress

WARDROBES: tuple[Wardrobe, ...] = ("train", "test", "all")
PEOPLE = 40
"""How many different passers-by there are."""
VARIANTS = 10
"""How many different things of each kind there are."""
_STREAMS = ("identity", "camera", "scene", "shot", "occlusion", "crowd", "thing", "noise")


class Stage:
    """Pure functions of ``(seed, wardrobe, height, width)`` and a number, with caches that change speed only."""

    def __init__(self, seed: int, height: int, width: int, wardrobe: Wardrobe) -> None:
        self.seed, self.height, self.width, self.wardrobe = seed, height, width, wardrobe
        self.appearance = lru_cache(maxsize=4096)(self._appearance)
        self.camera = lru_cache(maxsize=256)(self._camera)
        self.scene = lru_cache(maxsize=64)(self._scene)
        self.passer_by = lru_cache(maxsize=PEOPLE)(self._passer_by)
        self.thing = lru_cache(maxsize=VARIANTS * len(KINDS))(self._thing)
        self.noise = lru_cache(maxsize=1)(self._noise)

    def rng(self, stream: str, *numbers: int) -> np.random.Generator:
        """The generator of one thing to decide; other streams and numbers are independent of it."""
        entropy = (self.seed, WARDROBES.index(self.wardrobe), _STREAMS.index(stream), *numbers)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def sprite(self, kind: str, rng: np.random.Generator) -> Sprite:
        """Any of the stage's things of a kind, or of its passers-by."""
        return (
            self.passer_by(int(rng.integers(PEOPLE)))
            if kind == "person"
            else self.thing(kind, int(rng.integers(VARIANTS)))
        )

    def _appearance(self, identity: int) -> Appearance:
        return dress(self.rng("identity", identity), self.wardrobe)

    def _camera(self, camera: int) -> Camera:
        return Camera.draw(self.rng("camera", camera))

    def _scene(self, camera: int) -> NDArray[np.uint8]:
        """A place larger than an image: each shot shows a window of it."""
        return draw_scene(self.rng("scene", camera), self.wardrobe, round(1.25 * self.height), round(4 * self.width))

    def _passer_by(self, index: int) -> Sprite:
        rng = self.rng("crowd", index)
        look, pose = dress(rng, self.wardrobe), draw_pose(rng, 0.12)
        sketch = draw_person(look, pose, 0.9 * self.height, Light(float(rng.uniform(-1, 1)), 0.64, 0.4))
        x, y, width, height = cv2.boundingRect((sketch.parts > 0).astype(np.uint8))
        planes = sketch.planes[:, y : y + height, x : x + width].transpose(1, 2, 0) * (1, 1, 1, 255)
        return Sprite("person", np.ascontiguousarray(np.clip(planes + 0.5, 0, 255).astype(np.uint8)))

    def _thing(self, kind: str, variant: int) -> Sprite:
        return draw_occluder(kind, self.rng("thing", list(KINDS).index(kind), variant), self.wardrobe)

    def _noise(self) -> NDArray[np.int16]:
        """Unit noise times 16, a little larger than an image: partly the same in all channels, as in a sensor."""
        rng = self.rng("noise")
        shape = (self.height + 64, self.width + 64)
        coloured = rng.normal(0.0, 0.7, (*shape, 3)) + rng.normal(0.0, 0.7, (*shape, 1))
        return np.clip(coloured * 16.0, -128, 127).astype(np.int16)
