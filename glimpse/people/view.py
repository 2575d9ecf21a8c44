"""`PersonView`: one generated crop of one person, with everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS: tuple[str, ...] = ("global", "head", "upper", "arms", "legs", "feet")
"""Order of `PersonView.visibility`: the whole person, then the body parts."""
PART_NAMES = PARTS[1:]
"""The body parts; their places from 1 are the labels of `PersonView.parts`."""
HEAD, UPPER, ARMS, LEGS, FEET = range(1, 6)


@dataclass(frozen=True, slots=True, eq=False)
class PersonView:
    """One person as one camera saw them in one shot.

    Attributes:
        image: uint8 RGB ``(H, W, 3)``.
        identity: who it is, within a generator's seed and wardrobe.
        camera: which camera took it.
        shot: which of the camera's shots of this identity.
        keypoints: float32 ``(17, 3)`` in COCO's order: x and y in pixels (whole numbers are the centres of
            pixels), then 0 outside the image, 1 hidden (by something else or by the own body) or 2 visible. Points
            outside are (0, 0, 0).
        parts: uint8 ``(H, W)``, the person alone, before anything hides them: 0 background, 1 head, 2 upper, 3 arms,
            4 legs, 5 feet. Bags belong to the part that carries them, a scarf to the head, a skirt to the legs.
        visible: bool ``(H, W)``, the person's pixels that nothing else covers.
        extent: int64 ``(6,)``, pixels of the whole person and of each part in the whole figure, also beyond the
            image's border.
        visibility: float32 ``(6,)`` in [0, 1], by `PARTS`: ``visible`` pixels over ``extent``. What the crop cuts off
            is as hidden as what an obstacle covers. A part that the own body hides altogether has visibility 0.
    """

    image: NDArray[np.uint8]
    identity: int
    camera: int
    shot: int
    keypoints: NDArray[np.float32]
    parts: NDArray[np.uint8]
    visible: NDArray[np.bool_]
    extent: NDArray[np.int64]
    visibility: NDArray[np.float32]

    @property
    def hidden(self) -> float:
        """Share of the person's pixels that cannot be seen, ``1 - visibility of global``."""
        return 1.0 - float(self.visibility[0])


def count_parts(parts: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of the person and of each part in a part map; int64 ``(6,)`` by `PARTS`."""
    counts = np.bincount(parts.ravel(), minlength=len(PARTS)).astype(np.int64)
    counts[0] = counts[1:].sum()
    return counts


def visible_share(
    parts: NDArray[np.uint8], visible: NDArray[np.bool_], extent: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`PersonView.visibility` from its masks."""
    seen = count_parts(parts * visible)
    return (seen / np.maximum(extent, 1)).astype(np.float32)
