"""A canvas with smooth shapes and readable text, drawn by OpenCV alone.

Everything is drawn at twice the size and averaged down once at the end. Coordinates are pixels of the final picture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.preprocessing import Image

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

SCALE = 2
_SHIFT = 4  # OpenCV's fixed point: 1/16 pixel


class Canvas:
    """A picture being drawn, ``width`` x ``height`` pixels."""

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.width = width
        self.height = height
        self._pixels = np.full((height * SCALE, width * SCALE, 3), background, np.uint8)
        self._letters = _TrueType() if hasattr(cv2, "FontFace") else _Strokes()

    def picture(self) -> Image:
        """uint8 RGB ``(height, width, 3)``."""
        return np.asarray(
            cv2.resize(self._pixels, (self.width, self.height), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: Colour,
        *,
        radius: float = 0,
        border: Colour | None = None,
        thickness: float = 1,
    ) -> None:
        """A filled rectangle with round corners; the border lies inside it."""
        if border is not None:
            self._rounded(x, y, width, height, radius, border)
            x, y = x + thickness, y + thickness
            width, height = width - 2 * thickness, height - 2 * thickness
            radius = max(0.0, radius - thickness)
        self._rounded(x, y, width, height, radius, fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """A filled circle around (x, y)."""
        cv2.circle(self._pixels, (_fixed(x), _fixed(y)), _fixed(radius), fill, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def image(self, x: int, y: int, width: int, height: int, image: Image, *, radius: float = 0) -> None:
        """An image, fitted into the rectangle without changing its aspect, centred; round corners."""
        room_h, room_w = height * SCALE, width * SCALE
        scale = min(room_h / image.shape[0], room_w / image.shape[1])
        h, w = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        fitted = cv2.resize(image, (w, h), interpolation=interpolation)
        mask = np.zeros((h, w), np.uint8)
        _round_rectangle(mask, 0, 0, w, h, radius * SCALE, 255)
        top, left = y * SCALE + (room_h - h) // 2, x * SCALE + (room_w - w) // 2
        target = self._pixels[top : top + h, left : left + w]
        alpha = mask[..., None].astype(np.float32) / 255
        target[:] = np.rint(fitted * alpha + target * (1 - alpha)).astype(np.uint8)

    def text(
        self, x: float, y: float, text: str, size: float, colour: Colour, *, bold: bool = False, right: bool = False
    ) -> None:
        """One line with its baseline at y, starting at x, or with ``right`` ending there."""
        if right:
            x -= self.text_width(text, size, bold=bold)
        self._letters.draw(self._pixels, round(x * SCALE), round(y * SCALE), text, size * SCALE, colour, bold)

    def text_width(self, text: str, size: float, *, bold: bool = False) -> float:
        """How many pixels wide a line is."""
        return self._letters.width(text, size * SCALE, bold) / SCALE

    def fitting(self, text: str, size: float, width: float, *, bold: bool = False) -> str:
        """The text, its middle replaced by an ellipsis if it is wider than ``width``: ids differ at their ends."""
        if self.text_width(text, size, bold=bold) <= width:
            return text
        for kept in range(len(text) - 1, 1, -1):
            head = kept // 2
            shorter = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
            if self.text_width(shorter, size, bold=bold) <= width:
                return shorter
        return "…"

    def _rounded(self, x: float, y: float, width: float, height: float, radius: float, fill: Colour) -> None:
        _round_rectangle(self._pixels, x * SCALE, y * SCALE, width * SCALE, height * SCALE, radius * SCALE, fill)


def _round_rectangle(
    pixels: NDArray[np.uint8], x: float, y: float, width: float, height: float, radius: float, fill: Any
) -> None:
    """As one polygon in fixed point, so that short round ends stay round."""
    if width <= 0 or height <= 0:
        return
    radius = min(radius, width / 2, height / 2)
    turn = np.linspace(0, np.pi / 2, 12 if radius > 0 else 1)
    arc = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)  # from +x to +y
    # OpenCV counts pixel centres: the last pixel of a span of n is n - 1.
    right, bottom = x + width - 1 - radius, y + height - 1 - radius
    left, top = x + radius, y + radius
    corners = (
        (right, bottom, arc),
        (left, bottom, arc[::-1] * (-1, 1)),
        (left, top, -arc),
        (right, top, arc[::-1] * (1, -1)),
    )
    points = np.concatenate([np.add(curve, (cx, cy)) for cx, cy, curve in corners])
    fixed = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(pixels, [fixed], fill, cv2.LINE_AA, _SHIFT)


def _fixed(value: float) -> int:
    return round(value * SCALE * (1 << _SHIFT))


class _TrueType:
    """OpenCV 5: a TrueType face that comes inside the library."""

    def __init__(self) -> None:
        self._face = cv2.FontFace("sans")

    def draw(
        self, pixels: NDArray[np.uint8], x: int, y: int, text: str, size: float, colour: Colour, bold: bool
    ) -> None:
        cv2.putText(pixels, text, (x, y), colour, self._face, round(size), 600 if bold else 400)

    def width(self, text: str, size: float, bold: bool) -> float:
        box = cv2.getTextSize((100_000, 1000), text, (0, 500), self._face, round(size), 600 if bold else 400)
        return float(box[2])


class _Strokes:
    """OpenCV 4: Hershey strokes, which know ASCII only."""

    _HEIGHT = 30.0  # of the face at scale 1, in pixels

    def draw(
        self, pixels: NDArray[np.uint8], x: int, y: int, text: str, size: float, colour: Colour, bold: bool
    ) -> None:
        scale, thickness = self._measures(size, bold)
        cv2.putText(pixels, self._ascii(text), (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)

    def width(self, text: str, size: float, bold: bool) -> float:
        scale, thickness = self._measures(size, bold)
        (width, _), _ = cv2.getTextSize(self._ascii(text), cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        return float(width)

    def _measures(self, size: float, bold: bool) -> tuple[float, int]:
        return size / self._HEIGHT, max(1, round(size / (9 if bold else 14)))

    def _ascii(self, text: str) -> str:
        plain = text.replace("…", "..").replace("·", "-").replace("–", "-")
        return plain.encode("ascii", "replace").decode()
