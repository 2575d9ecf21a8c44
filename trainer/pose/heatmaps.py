"""Gaussian attention maps of key-points (PGFA; Miao et al., ICCV 2019).

`legacy` is what PGFA's authors computed, for their recipe; its width in pixels grows with the area of the image, so
that an image and its enlargement get different maps. `resolution_free` has the width as a share of the height.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.pose.keypoints import GAMMA, KeyPoints

Float32 = NDArray[np.float32]
HeatMaps = Literal["legacy", "resolution-free"]

SIGMA = 0.064
"""Share of the height. On a crop of 128 x 64 it is the legacy width, 8.192 pixels."""


def heatmaps(
    person: KeyPoints | None,
    size: tuple[int, int],
    grid: tuple[int, int],
    kind: HeatMaps = "resolution-free",
    *,
    gamma: float = GAMMA,
    sigma: float = SIGMA,
) -> Float32:
    """One map a joint.

    Args:
        person: whose joints; None where there is no pose, which gives maps of all ones: attention everywhere.
        size: height and width of the image that the joints' pixels are of.
        grid: height and width of the maps.
        kind: which formula.
        gamma: a joint at or below this confidence is missing; its map is zero.
        sigma: of ``resolution-free``.

    Returns:
        float32 ``(18, h, w)`` in [0, 1], in the order of ``openpose18``.

    Raises:
        ValueError: an unknown kind, or a size, grid or sigma that is not positive.
    """
    if min(*size, *grid) < 1 or sigma <= 0:
        raise ValueError(f"size, grid and sigma must be positive, got {size}, {grid} and {sigma}")
    if person is None:
        return np.ones((18, *grid), np.float32)
    person = person.to_openpose18()
    points, kept = person.points.astype(np.float64), person.kept(gamma)
    if kind == "legacy":
        maps = _legacy(points, kept, size, grid)
    elif kind == "resolution-free":
        maps = _resolution_free(points, size, grid, sigma)
    else:
        raise ValueError(f"unknown kind of heat-map {kind!r}; choose from ['legacy', 'resolution-free']")
    maps[~kept] = 0
    return maps


def _legacy(
    points: NDArray[np.float64], kept: NDArray[np.bool_], size: tuple[int, int], grid: tuple[int, int]
) -> Float32:
    """``exp(-((u - int x)^2 + (v - int y)^2) / (2 s^2))`` with ``s = H W / 1000`` pixels at the image's size, then
    rounded down to uint8 and reduced bilinearly (four neighbours, as OpenCV does it)."""
    height, width = size
    scale = 2 * (height * width / 1000) ** 2
    across = np.exp(-((np.arange(width) - np.trunc(points[:, :1])) ** 2) / scale)  # [J, W]
    along = np.exp(-((np.arange(height) - np.trunc(points[:, 1:2])) ** 2) / scale)  # [J, H]
    maps = np.zeros((len(points), *grid), np.float32)
    for joint in np.flatnonzero(kept):
        full = (along[joint, :, None] * across[joint] * 255).astype(np.uint8)  # [H, W]
        maps[joint] = cv2.resize(full, (grid[1], grid[0]), interpolation=cv2.INTER_LINEAR)
    return maps / np.float32(255)


def _resolution_free(
    points: NDArray[np.float64], size: tuple[int, int], grid: tuple[int, int], sigma: float
) -> Float32:
    """The Gaussian at the centres of the cells, distances in heights of the image."""
    height, width = size
    aspect = width / height
    across = (np.arange(grid[1]) + 0.5) / grid[1] * aspect - (points[:, :1] + 0.5) / height  # [J, w]
    along = (np.arange(grid[0]) + 0.5) / grid[0] - (points[:, 1:2] + 0.5) / height  # [J, h]
    squares = along[:, :, None] ** 2 + across[:, None, :] ** 2  # [J, h, w]
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32)
