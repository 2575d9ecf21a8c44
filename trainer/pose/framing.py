"""Where a crop stands in a network's input, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """A crop of ``size``, resized to ``content`` and placed at ``offset`` in an input of ``input_size``.

    All are (height, width) or (row, column) in pixels; coordinates are those of pixel centres.
    """

    size: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]
    input_size: tuple[int, int]

    @classmethod
    def fit(cls, size: tuple[int, int], input_size: tuple[int, int], margin: float = 0.0) -> Frame:
        """The largest centred placement that keeps the crop's aspect and leaves ``margin`` of its size on each side."""
        (height, width), (rows, columns) = size, input_size
        scale = min(rows / height, columns / width) / (1 + 2 * margin)
        content = (min(rows, max(1, round(height * scale))), min(columns, max(1, round(width * scale))))
        return cls(size, content, ((rows - content[0]) // 2, (columns - content[1]) // 2), input_size)

    def image(self, crop: NDArray[np.uint8], border: int = cv2.BORDER_REPLICATE) -> NDArray[np.uint8]:
        """The input's pixels ``(H, W, 3)``; around the crop its edge goes on, or it is black (BORDER_CONSTANT)."""
        height, width = self.content
        shrinks = height * width < self.size[0] * self.size[1]
        mode = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        resized = cv2.resize(crop, (width, height), interpolation=mode)
        top, left = self.offset
        bottom, right = self.input_size[0] - height - top, self.input_size[1] - width - left
        return np.asarray(cv2.copyMakeBorder(resized, top, bottom, left, right, border), np.uint8)

    def to_input(self, position: Float32, axis: int) -> Float32:
        """Rows (axis 0) or columns (axis 1) of the crop as rows or columns of the input."""
        scale = self.content[axis] / self.size[axis]
        return np.asarray((position + 0.5) * scale - 0.5 + self.offset[axis], np.float32)

    def to_crop(self, position: Float32, axis: int) -> Float32:
        """The inverse of `to_input`."""
        scale = self.content[axis] / self.size[axis]
        return np.asarray((position - self.offset[axis] + 0.5) / scale - 0.5, np.float32)

    def sampler(self, axis: int, places: int, cells: int, stride: float, start: float = 0.0) -> Float32:
        """Matrix ``(places, cells)`` that interpolates a grid's values at places spread evenly over the crop.

        Args:
            axis: 0 for rows, 1 for columns.
            places: how many; as many as the crop has pixels gives its pixels.
            cells: cells of the grid along this axis.
            stride: pixels of the input from a cell's centre to the next one's.
            start: where in the input the first cell's centre is.

        Places beyond the first or last centre get that cell's value.
        """
        at = (np.arange(places, dtype=np.float32) + 0.5) * (self.size[axis] / places) - 0.5
        return weights_at((self.to_input(at, axis) - start) / stride, cells)


def weights_at(positions: Float32, cells: int) -> Float32:
    """Linear interpolation of a row of cells at fractional positions, as a matrix ``(len(positions), cells)``."""
    inside = np.clip(positions, 0, cells - 1)
    distance = np.abs(inside[:, None] - np.arange(cells, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - distance), np.float32)


def interpolate(grid: Float32, rows: Float32, columns: Float32) -> Float32:
    """``(h, w, C)`` at the places of two samplers ``(H, h)`` and ``(W, w)``: ``(H, W, C)``."""
    height, width, channels = grid.shape
    tall = rows @ grid.reshape(height, width * channels)  # [H, w * C]
    tall = tall.reshape(-1, width, channels)
    return np.asarray(np.matmul(columns, tall), np.float32)  # [H, W, C]
