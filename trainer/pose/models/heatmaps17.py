"""Any top-down pose model with one heat-map a joint: HRNet, SimpleBaseline, Lite-HRNet, ViTPose and their like.

Input ``(N, 3, H, W)``, output ``(N, 17, h, w)`` in COCO's order with values that are confidences. Cell i of a map
lies on pixel ``i * H / h`` of the input, as the field's training code has it; the maximum is moved a quarter of a cell
towards its higher neighbour (Newell et al., ECCV 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glimpse.images import Image
from trainer.pose import models
from trainer.pose.framing import Float32, Frame
from trainer.pose.keypoints import COCO17, KeyPoints
from trainer.pose.models.batches import InputSettings, batched, input_size, output_with
from trainer.pose.models.graph import Graph


class HeatMaps17:
    """The joints of the one person that a crop shows."""

    Settings = InputSettings

    def __init__(self, model: Path, settings: InputSettings) -> None:
        self.settings = settings
        self._graph = Graph(model)
        self._size = input_size(self._graph, settings)
        self._output = output_with(self._graph, len(COCO17))

    def annotate(self, images: Sequence[Image]) -> list[models.Annotation]:
        """See `trainer.pose.models.Annotator`."""
        frames, maps = batched(self._graph, images, self._size, self.settings, self._output)
        return [
            models.Annotation(people=(KeyPoints(_joints(own, frame), "coco17"),))
            for own, frame in zip(maps, frames, strict=True)
        ]


def _joints(maps: Float32, frame: Frame) -> Float32:
    """Joints ``(17, 3)`` in pixels of the crop from maps ``(17, h, w)``. One below 0 has confidence 0."""
    count, height, width = maps.shape
    joint = np.arange(count)
    row, column = np.unravel_index(maps.reshape(count, -1).argmax(axis=1), (height, width))
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    down = np.sign(padded[joint, row + 2, column + 1] - padded[joint, row, column + 1]) / 4
    right = np.sign(padded[joint, row + 1, column + 2] - padded[joint, row + 1, column]) / 4
    # At the border the edge is its own neighbour: no move towards what is not there.
    down[(row == 0) | (row == height - 1)] = 0
    right[(column == 0) | (column == width - 1)] = 0
    y = frame.to_crop(np.asarray((row + down) * frame.input_size[0] / height, np.float32), 0)
    x = frame.to_crop(np.asarray((column + right) * frame.input_size[1] / width, np.float32), 1)
    return np.stack([x, y, np.maximum(maps[joint, row, column], 0)], axis=1).astype(np.float32)
