"""Label maps on coarser grids: what part of each cell every label covers.

Cell (i, j) of an h x w grid is the rectangle of the map from row i H/h to (i+1) H/h and column j W/w to (j+1) W/w;
pixels on a border count by the share that lies inside. So the result does not depend on how fine the map is, and any
grid will do: 22 x 11 tokens or 24 x 8 as well as 16 x 8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer.data.annotated import UNKNOWN

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]


def shares_on_grid(labels: UInt8, grid: tuple[int, int], count: int) -> Float32:
    """The share of each cell's area that each label covers.

    Args:
        labels: uint8 ``(H, W)``, each below ``count`` or `UNKNOWN`.
        grid: height and width of the grid.
        count: how many labels, background included.

    Returns:
        float32 ``(count, h, w)`` in [0, 1]; a cell sums to 1, or to less where labels are unknown.

    Raises:
        ValueError: a map of another shape or with a label beyond.
    """
    _check(labels, grid, count)
    rows = _overlaps(labels.shape[0], grid[0])  # [h, H]
    columns = _overlaps(labels.shape[1], grid[1])  # [w, W]
    present = labels == np.arange(count, dtype=np.uint8)[:, None, None]  # [C, H, W]
    return np.asarray(rows @ present.astype(np.float32) @ columns.T, np.float32)  # [C, h, w]


def majority_on_grid(labels: UInt8, grid: tuple[int, int], count: int) -> UInt8:
    """The label that covers most of each cell; of equals the lowest, `UNKNOWN` where nothing is known.

    Returns:
        uint8 ``(h, w)``.
    """
    shares = shares_on_grid(labels, grid, count)
    # Equal areas must compare equal, whatever the order in which they were added up.
    winners = np.asarray(np.round(shares, 5).argmax(axis=0), np.uint8)
    winners[shares.sum(axis=0) < 1e-5] = UNKNOWN
    return winners


def _check(labels: UInt8, grid: tuple[int, int], count: int) -> None:
    if labels.ndim != 2 or labels.dtype != np.uint8 or not labels.size:
        raise ValueError(f"a label map is uint8 (H, W), got {labels.dtype} {labels.shape}")
    if min(grid) < 1 or not 1 <= count <= UNKNOWN:
        raise ValueError(f"expected a grid of at least 1 x 1 and 1 to {UNKNOWN} labels, got {grid} and {count}")
    beyond = labels[(labels >= count) & (labels != UNKNOWN)]
    if beyond.size:
        raise ValueError(f"labels are 0 to {count - 1} or {UNKNOWN}, got {int(beyond.max())}")


def _overlaps(pixels: int, cells: int) -> Float32:
    """How much of each cell each pixel fills along one axis; ``(cells, pixels)``, rows sum to 1."""
    start = np.arange(cells)[:, None] * (pixels / cells)
    pixel = np.arange(pixels)[None, :]
    inside = np.minimum(start + pixels / cells, pixel + 1) - np.maximum(start, pixel)
    return np.asarray(np.maximum(inside, 0) * (cells / pixels), np.float32)
