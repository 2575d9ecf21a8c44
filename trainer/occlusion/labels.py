"""Visibility labels of an occluded image: how much is covered, from where, which stripes. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.occlusion.coverage import stripe_coverage

STRIPES = (4, 6)
"""FED and PGFA on Occluded-Duke cut a person into 4 and 3 stripes, PCB and PGFA on partial sets into 6."""
Place = Literal["none", "bottom", "top", "left", "right", "box", "all"]


@dataclass(frozen=True)
class CoverLabels:
    """What a covered mask amounts to."""

    covered: float
    """Share of the image."""
    place: Place
    """The side that the occluder spans and touches, ``box`` for any other shape, ``none``, or ``all``."""
    box: tuple[int, int, int, int]
    """The covered pixels' bounding box: x, y, width, height; zeros for none."""
    stripes: dict[int, tuple[float, ...]]
    """Covered share of each horizontal stripe from the top, by the number of stripes."""

    @classmethod
    def of(cls, covered: NDArray[np.bool_]) -> CoverLabels:
        """The labels of a mask ``(H, W)``."""
        x, y, width, height = (int(value) for value in cv2.boundingRect(covered.astype(np.uint8)))
        stripes = {
            count: tuple(round(float(share), 4) for share in stripe_coverage(covered, count)) for count in STRIPES
        }
        return cls(
            round(float(covered.mean()), 4), _place(covered, x, y, width, height), (x, y, width, height), stripes
        )

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        shares = {f"stripes{count}": list(values) for count, values in self.stripes.items()}
        return {"covered": self.covered, "place": self.place, "box": list(self.box), **shares}

    def row(self) -> dict[str, Any]:
        """The same as columns of a table."""
        row: dict[str, Any] = {"covered": self.covered, "place": self.place}
        row |= dict(zip(("x", "y", "width", "height"), self.box, strict=True))
        for count, values in self.stripes.items():
            row |= {f"stripe{count}_{i}": share for i, share in enumerate(values, 1)}
        return row


def _place(covered: NDArray[np.bool_], x: int, y: int, width: int, height: int) -> Place:
    rows, columns = covered.shape
    if not width or not height:
        return "none"
    if not covered[y : y + height, x : x + width].all():
        return "box"
    if (height, width) == (rows, columns):
        return "all"
    if width == columns and y in (0, rows - height):
        return "bottom" if y else "top"
    if height == rows and x in (0, columns - width):
        return "right" if x else "left"
    return "box"
