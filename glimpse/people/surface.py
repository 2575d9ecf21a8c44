"""Round surfaces on a canvas: what a limb or a trunk covers, and where on the body each pixel lies.

Everything is drawn straight at the final size with analytic anti-aliasing: the coverage of a pixel is its signed
distance to the outline, clipped to one pixel. Arrays are planar (channel first) because broadcasting a mask over
contiguous planes is several times faster than over interleaved pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]  # float32 in fact; NumPy's stubs lose the width in sums with plain numbers


@dataclass(slots=True)
class Patch:
    """A box of pixels that a surface covers.

    ``coverage`` in [0, 1]; ``side`` is the sine of the angle between the surface and the camera, -1 at the left
    outline and 1 at the right one; ``along`` is the way down the piece in body heights. All float32 ``(h, w)``.
    """

    x: int
    y: int
    coverage: Float32
    side: Float32
    along: Float32

    def turn(self, yaw: float) -> Float32:
        """Radians around the body from its front, without a seam within the picture."""
        return np.asarray(np.arcsin(self.side) - yaw, np.float32)

    def angle(self, yaw: float) -> Float32:
        """Radians around the body, 0 at its front, within [-pi, pi]."""
        turned = self.turn(yaw)
        turned += np.pi
        turned %= 2 * np.pi
        turned -= np.pi
        return turned


class Canvas:
    """Premultiplied RGBA planes with a part map.

    ``planes`` float32 ``(4, H, W)``: colour in [0, 255] times alpha, then alpha in [0, 1]. ``parts`` uint8 ``(H, W)``.
    ``scale`` is pixels per body height; ``origin`` is the pixel of the point between the feet; ``stretch`` widens
    everything, as a crop does that was resized without keeping its aspect.
    """

    def __init__(
        self, height: int, width: int, scale: float, origin: tuple[float, float], stretch: float = 1.0
    ) -> None:
        self.planes = np.zeros((4, height, width), np.float32)
        self.parts = np.zeros((height, width), np.uint8)
        self.scale, self.origin, self.stretch = scale, origin, stretch
        self.height, self.width = height, width

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Screen coordinates in body heights to pixels."""
        return self.origin[0] + self.scale * self.stretch * x, self.origin[1] + self.scale * y

    def paint(self, patch: Patch, colour: Float32, part: int, coverage: Float32 | None = None) -> None:
        """Lay ``colour``, float32 ``(3, h, w)``, over the canvas where the patch covers it."""
        alpha = patch.coverage if coverage is None else coverage
        height, width = alpha.shape
        window = self.planes[:, patch.y : patch.y + height, patch.x : patch.x + width]
        window *= 1.0 - alpha
        window[:3] += colour * alpha
        window[3] += alpha
        self.parts[patch.y : patch.y + height, patch.x : patch.x + width][alpha > 0.5] = part

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int]:
        """The pixels of a rectangle that lie on the canvas: left, top, right, bottom; at least two each way."""
        left, top = min(max(0, int(x0)), self.width - 2), min(max(0, int(y0)), self.height - 2)
        right, bottom = min(self.width, max(int(x1), left) + 2), min(self.height, max(int(y1), top) + 2)
        return left, top, right, bottom

    def limb(self, points: list[tuple[float, float]], radii: list[float], lengths: list[float]) -> Patch:
        """A chain of tapered capsules through screen ``points`` (body heights), with their true ``lengths``.

        A limb that points at the camera is foreshortened; ``along`` still runs to the sum of ``lengths``.
        """
        scale = self.scale * (0.4 + 0.6 * self.stretch)  # of radii: most limbs hang, and are widened
        pixels = [self.place(x, y) for x, y in points]
        widest = max(radii) * scale + 1.5
        xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
        left, top, right, bottom = self.box(min(xs) - widest, min(ys) - widest, max(xs) + widest, max(ys) + widest)
        column = np.arange(left, right, dtype=np.float32)
        row = np.arange(top, bottom, dtype=np.float32)[:, None]
        inside = np.full((bottom - top, right - left), -np.inf, np.float32)
        side, along = np.zeros_like(inside), np.zeros_like(inside)
        start = 0.0
        for index, length in enumerate(lengths):
            (ax, ay), (bx, by) = pixels[index], pixels[index + 1]
            dx, dy = bx - ax, by - ay
            span = dx * dx + dy * dy + 1e-6
            norm = span**0.5
            # Share of the way from a to b, and signed distance across; [h, w] from [w] and [h, 1].
            share = (column - ax) * (dx / span) + (row - ay) * (dy / span)
            clipped = np.clip(share, 0.0, 1.0)
            across = (row - ay) * (-dx / norm) + (column - ax) * (dy / norm)
            radius = radii[index] * scale + clipped * ((radii[index + 1] - radii[index]) * scale)
            beyond = (share - clipped) * norm
            depth = radius - np.sqrt(across * across + beyond * beyond)
            nearer = depth > inside
            inside = np.where(nearer, depth, inside)
            side = np.where(nearer, across / radius, side)
            along = np.where(nearer, clipped * length + start, along)
            start += length
        return Patch(left, top, np.clip(inside + 0.5, 0.0, 1.0), np.clip(side, -1.0, 1.0), along)

    def loft(self, levels: Float32, tilt: float) -> Patch:
        """A stack of ellipses seen from the side, from the highest level down.

        Args:
            levels: ``(n, 4)``: screen x, screen y (increasing), half width across the screen, half depth.
            tilt: sine of the camera's pitch: how far the near side of each ellipse hangs below its centre.
        """
        wide = self.scale * self.stretch
        xs, ys = self.origin[0] + wide * levels[:, 0], self.origin[1] + self.scale * levels[:, 1]
        half, deep = wide * levels[:, 2], self.scale * levels[:, 3] * tilt
        sag = float(max(deep[-1], 0.0))
        left, top, right, bottom = self.box(
            float((xs - half).min()) - 1, float(ys[0]) - 1, float((xs + half).max()) + 1, float(ys[-1]) + sag + 1
        )
        column = np.arange(left, right, dtype=np.float32)
        row = np.arange(top, bottom, dtype=np.float32)
        centre = np.interp(row, ys, xs).astype(np.float32)[:, None]
        reach = np.maximum(np.interp(row, ys, half), 0.3).astype(np.float32)[:, None]
        across = column - centre
        side = np.clip(across / reach, -1.0, 1.0)
        depth = np.interp(row, ys, deep).astype(np.float32)[:, None] * np.sqrt(1.0 - side * side)
        height = row[:, None] - depth  # the row of this surface point's own level
        coverage = np.minimum(reach - np.abs(across), np.minimum(float(ys[-1]) - height, row[:, None] - float(ys[0])))
        coverage += 0.5
        along = (height - float(ys[0])) / self.scale
        return Patch(left, top, np.clip(coverage, 0.0, 1.0), side, along)


def flat(colour: Float32, patch: Patch) -> Float32:
    """One colour on planes ``(3, h, w)`` of the patch's size."""
    planes = np.empty((3, *patch.coverage.shape), np.float32)
    planes[:] = colour[:, None, None]
    return planes


def mix(planes: Float32, colour: Float32, mask: Floats) -> None:
    """Blend ``colour`` ``(3,)`` into planes ``(3, h, w)`` in place by ``mask`` ``(h, w)`` in [0, 1]."""
    for plane, value in zip(planes, colour.tolist(), strict=True):
        plane += (value - plane) * mask


def step(distance: Floats, crisp: float) -> Float32:
    """An anti-aliased edge: 0 where ``distance`` (body heights) is negative, 1 where positive, one pixel wide."""
    edge: Float32 = np.clip(distance * crisp + 0.5, 0.0, 1.0)
    return edge
