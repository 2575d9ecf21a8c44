"""`OccluderLibrary`: pictures of things that hide people, from a folder of crops or from Glimpse's own drawings.

Patches are rectangles, as FED's are: whatever stands around the thing in its crop hides as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glimpse.image_headers import probe
from glimpse.images import DEFAULT_LIMITS, ImageError, decode_image
from glimpse.people import Wardrobe, occluder_kinds
from glimpse.people.sprites import over
from glimpse.people.stage import VARIANTS, Stage
from trainer.occlusion.simulator import SimulatorError

UInt8 = NDArray[np.uint8]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
PLACES = 30
"""Crops of places in a generated library: FED's occluders are cut from backgrounds."""
_SCENES = 10


@dataclass(frozen=True)
class OccluderLibrary:
    """Patches by number; ``load(i)`` reads or draws the i-th, uint8 ``(h, w, 3)``, and remembers some of them.

    Can be pickled, so that every worker process can have one.
    """

    names: tuple[str, ...]
    load: Callable[[int], UInt8]

    def __post_init__(self) -> None:
        if not self.names:
            raise SimulatorError("an occluder library needs at least one patch, got none")

    def __len__(self) -> int:
        return len(self.names)

    def draw(self, random: np.random.Generator) -> UInt8:
        """Any patch."""
        return self.load(int(random.integers(len(self))))

    @classmethod
    def open(cls, folder: str | Path | None = None) -> OccluderLibrary:
        """The crops of a folder, searched through; without one, generated occluders of the training wardrobe."""
        return cls.generated() if folder is None else cls.of_folder(Path(folder).expanduser())

    @classmethod
    def of_folder(cls, folder: Path) -> OccluderLibrary:
        """Every image below a folder.

        Raises:
            SimulatorError: no such folder, no images in it, or one that cannot be an image.
        """
        if not folder.is_dir():
            raise SimulatorError(f"occluders were looked for in {folder}, which is no folder")
        paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()))
        if not paths:
            raise SimulatorError(f"{folder} holds no occluders ({', '.join(sorted(SUFFIXES))})")
        for path in paths:
            _check(path)
        return cls(tuple(path.relative_to(folder).as_posix() for path in paths), partial(_read, paths))

    @classmethod
    def generated(cls, seed: int = 0, wardrobe: Wardrobe = "train") -> OccluderLibrary:
        """Drawn things before drawn places, and crops of places alone; the train split lacks the test's kinds."""
        kinds = [kind for kind in occluder_kinds(wardrobe) if kind != "person"]
        names = [f"{kind}-{variant}" for kind in kinds for variant in range(VARIANTS)]
        return cls((*names, *(f"place-{i}" for i in range(PLACES))), partial(_draw, seed, wardrobe, tuple(kinds)))


@lru_cache(maxsize=2)
def stage(seed: int, wardrobe: Wardrobe) -> Stage:
    """What generated occluders and passers-by are drawn on, kept because its own caches are what makes it quick."""
    return Stage(seed, 256, 128, wardrobe)


def _check(path: Path) -> None:
    try:
        header = probe(path.read_bytes())
        DEFAULT_LIMITS.check_size(header.width, header.height)
    except ImageError as error:
        raise SimulatorError(f"occluder {path}: {error}") from error
    if header.defect:
        raise SimulatorError(f"occluder {path} is not whole: {header.defect}")


def _read(paths: tuple[Path, ...], index: int) -> UInt8:
    return _decode(paths[index])


@lru_cache(maxsize=1024)
def _decode(path: Path) -> UInt8:
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise SimulatorError(f"occluder {path}: {error}") from error


@lru_cache(maxsize=1024)
def _draw(seed: int, wardrobe: Wardrobe, kinds: tuple[str, ...], index: int) -> UInt8:
    """The ``index``-th generated patch."""
    drawn, random = stage(seed, wardrobe), np.random.default_rng([seed, index])
    if index < len(kinds) * VARIANTS:
        thing = drawn.thing(kinds[index // VARIANTS], index % VARIANTS).pixels
        return over(_place(drawn, thing.shape[0], thing.shape[1], random), thing)
    tall = bool((index - len(kinds) * VARIANTS) % 2)
    height = int(random.integers(150, 257)) if tall else int(random.integers(60, 130))
    width = int(random.integers(40, 70)) if tall else int(random.integers(80, 200))
    return _place(drawn, height, width, random)


def _place(drawn: Stage, height: int, width: int, random: np.random.Generator) -> UInt8:
    """A window of any generated place."""
    scene = drawn.scene(int(random.integers(_SCENES)))
    top, left = (int(random.integers(room + 1)) for room in (scene.shape[0] - height, scene.shape[1] - width))
    return np.ascontiguousarray(scene[top : top + height, left : left + width])
