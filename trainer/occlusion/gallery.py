"""A picture of what every simulator does: ``python -m trainer.occlusion.gallery OUT.png``. Generated people only."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people import PeopleGenerator
from trainer.data.annotated import Annotated
from trainer.occlusion import SIMULATORS, build_simulator, generator_for

UInt8 = NDArray[np.uint8]
PEOPLE = (3, 8, 21)
HEIGHT, WIDTH, GAP, TITLE = 152, 76, 6, 22
_COLOURS = 24
"""Levels a channel: a picture of a tenth of a megapixel stays small enough for a page of text."""


def draw_gallery(seed: int = 2) -> UInt8:
    """The same people in every column: as they are, then hidden by each simulator; uint8 RGB."""
    generator = PeopleGenerator(seed=seed, wardrobe="train")
    views = [generator.view(identity, camera=identity, shot=0) for identity in PEOPLE]
    columns: list[tuple[str, list[UInt8]]] = [("clean", [view.image for view in views])]
    for name in SIMULATORS:
        simulator = build_simulator(name, {})
        hidden = []
        for row, view in enumerate(views):
            sample = Annotated(view.image, {"regions": view.parts * view.visible}, view.keypoints)
            other = views[(row + 1) % len(views)].image
            hidden.append(simulator(sample, other, generator_for(seed, name, str(row))).image)
        columns.append((name, hidden))
    picture = np.full(
        (TITLE + len(views) * (HEIGHT + GAP), GAP + len(columns) * (WIDTH + GAP), 3), 255, np.uint8
    )  # [H, W, 3]
    for column, (name, images) in enumerate(columns):
        left = GAP + column * (WIDTH + GAP)
        (wide, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        place = (left + (WIDTH - wide) // 2, TITLE - 8)
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
        for row, image in enumerate(images):
            top = TITLE + row * (HEIGHT + GAP)
            picture[top : top + HEIGHT, left : left + WIDTH] = cv2.resize(
                image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA
            )
    step = 255 / (_COLOURS - 1)
    return np.rint(np.rint(picture / step) * step).astype(np.uint8)


def main(arguments: list[str]) -> int:
    """Writes the picture to the one argument."""
    if len(arguments) != 1 or not arguments[0].endswith(".png"):
        print("usage: python -m trainer.occlusion.gallery OUT.png", file=sys.stderr)
        return 2
    encoded = cv2.imencode(".png", draw_gallery()[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    Path(arguments[0]).write_bytes(encoded.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
