"""What a folder of annotations holds, in a few numbers: a model that does not fit the images shows here first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glimpse.people import PARTS
from trainer.pose.files import read_people
from trainer.pose.keypoints import target
from trainer.pose.regions import read_label_map
from trainer.pose.store import SUFFIXES, Kind
from trainer.pose.visibility import visibility_from_regions


@dataclass(frozen=True)
class Summary:
    """Of all annotated images.

    Attributes:
        images: how many.
        seen: of each of `PARTS`, the share of images whose regions show it (`LEAST_SHARE`); None without regions.
        joints: mean number of joints above gamma of an image's person, of 18; None without key-points.
    """

    images: int
    seen: dict[str, float] | None = None
    joints: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.seen is not None:
            parts.append("found " + ", ".join(f"{part} {share:.0%}" for part, share in self.seen.items()))
        if self.joints is not None:
            parts.append(f"{self.joints:.1f} of 18 joints")
        return "; ".join(parts) or "nothing to count"


def summarise(root: Path) -> Summary:
    """Reads every annotation below ``root``.

    Raises:
        AnnotationError: a broken annotation, by name.
    """
    seen = [visibility_from_regions(read_label_map(path, len(PARTS))) for path in _files(root, "regions")]
    persons = [target(read_people(path)) for path in _files(root, "keypoints")]
    joints = [0 if person is None else int(person.to_openpose18().kept().sum()) for person in persons]
    shares = np.mean(seen, axis=0) if seen else None
    return Summary(
        max(len(seen), len(persons)),
        None if shares is None else dict(zip(PARTS, (round(float(share), 4) for share in shares), strict=True)),
        round(float(np.mean(joints)), 2) if joints else None,
    )


def _files(root: Path, kind: Kind) -> Iterator[Path]:
    for place, _, names in os.walk(root / kind):
        for name in names:
            if name.endswith(SUFFIXES[kind]) and not name.startswith("."):
                yield Path(place, name)
