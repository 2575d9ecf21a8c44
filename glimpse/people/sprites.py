"""Cut-out pictures of things, and pasting them into an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glimpse.people.palette import RGB

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rect:
    """A box in pixels, possibly partly outside the image."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """uint8 ``(h, w, 4)``: premultiplied RGB and alpha."""

    kind: str
    pixels: UInt8

    @property
    def aspect(self) -> float:
        """Width over height."""
        return float(self.pixels.shape[1] / self.pixels.shape[0])

    def mask(self, rect: Rect, height: int, width: int, mirrored: bool) -> UInt8:
        """Alpha uint8 ``(height, width)`` of the sprite stretched into ``rect``."""
        return self._warp(self.pixels[..., 3], rect, height, width, mirrored)

    def layer(self, rect: Rect, height: int, width: int, mirrored: bool) -> UInt8:
        """Premultiplied RGBA uint8 ``(height, width, 4)`` of the sprite stretched into ``rect``."""
        return self._warp(self.pixels, rect, height, width, mirrored)

    def _warp(self, source: UInt8, rect: Rect, height: int, width: int, mirrored: bool) -> UInt8:
        rows, columns = source.shape[:2]
        across, down = rect.width / columns, rect.height / rows
        matrix = np.array([[across, 0.0, rect.x + (across - 1) / 2], [0.0, down, rect.y + (down - 1) / 2]])
        if mirrored:
            matrix[0] = -across, 0.0, rect.x + rect.width - (across + 1) / 2
        return np.asarray(cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def over(image: UInt8, layer: UInt8) -> UInt8:
    """``layer`` (premultiplied RGBA) over an RGB image of the same size."""
    alpha = layer[..., 3]
    rows = np.flatnonzero(alpha.any(axis=1))
    if rows.size == 0:
        return image.copy()
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    result = image.copy()
    keep = cv2.cvtColor(255 - alpha[top:bottom], cv2.COLOR_GRAY2RGB)
    behind = cv2.multiply(image[top:bottom], keep, scale=1 / 255.0)
    result[top:bottom] = cv2.add(behind, np.ascontiguousarray(layer[top:bottom, :, :3]))
    return result


class Board:
    """A drawing board for sprites: shapes are drawn at twice the size and averaged down."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.rgb = np.zeros((2 * height, 2 * width, 3), np.float32)
        self.alpha = np.zeros((2 * height, 2 * width), np.uint8)

    def polygon(self, points: list[tuple[float, float]], colour: RGB | Float32) -> None:
        """Fill a polygon given in shares of width and height."""
        corners = np.array([(x * 2 * self.width, y * 2 * self.height) for x, y in points]).round().astype(np.int32)
        self._fill(lambda target, value: cv2.fillPoly(target, [corners], value), colour)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: RGB | Float32) -> None:
        """Fill a rectangle given in shares of width and height."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: RGB | Float32) -> None:
        """Fill an ellipse; radii in shares of width and height."""
        centre = (round(x * 2 * self.width), round(y * 2 * self.height))
        axes = (max(1, round(across * 2 * self.width)), max(1, round(down * 2 * self.height)))
        self._fill(lambda target, value: cv2.ellipse(target, centre, axes, 0, 0, 360, value, -1), colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, thickness: float, colour: RGB | Float32) -> None:
        """A stroke; ``thickness`` in shares of the height."""
        start = (round(x0 * 2 * self.width), round(y0 * 2 * self.height))
        end = (round(x1 * 2 * self.width), round(y1 * 2 * self.height))
        wide = max(1, round(thickness * 2 * self.height))
        self._fill(lambda target, value: cv2.line(target, start, end, value, wide), colour)

    def shade(self, factor: Float32) -> None:
        """Multiply the colours; ``factor`` broadcasts to ``(2 * height, 2 * width)``."""
        self.rgb *= factor[..., None] if factor.ndim == 2 else factor

    def grain(self, rng: np.random.Generator, amount: float, cell: int = 6) -> None:
        """Uneven surface: smooth random brightness, a few pixels wide."""
        rows, columns = self.alpha.shape
        coarse = rng.normal(1.0, amount, (rows // cell + 2, columns // cell + 2)).astype(np.float32)
        self.shade(np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32))

    def cut(self, kind: str) -> Sprite:
        """The finished sprite."""
        pixels = np.dstack([np.clip(self.rgb, 0, 255) * (self.alpha[..., None] / 255.0), self.alpha])
        small = cv2.resize(pixels.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_AREA)
        return Sprite(kind, np.ascontiguousarray(np.clip(small + 0.5, 0, 255).astype(np.uint8)))

    def _fill(self, draw: Callable[[Float32 | UInt8, tuple[float, ...]], object], colour: RGB | Float32) -> None:
        draw(self.rgb, tuple(float(value) for value in colour))
        draw(self.alpha, (255.0,))
