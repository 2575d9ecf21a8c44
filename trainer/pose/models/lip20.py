"""Any parser with LIP's 20 classes: SCHP, CE2P, Graphonomy and their like.

Input ``(N, 3, H, W)``, output ``(N, 20, h, w)``: logits or probabilities, of whose cells the outermost lie on the
input's border pixels (``align_corners``, as those networks enlarge their own maps). SCHP wants ``bgr`` and 473 x 473.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from glimpse.images import Image
from trainer.pose import models
from trainer.pose.framing import Float32, Frame, interpolate
from trainer.pose.models.batches import InputSettings, batched, input_size, output_with
from trainer.pose.models.graph import Graph
from trainer.pose.regions import LIP20, LIP_TO_GLIMPSE, UInt8

WORKING_SIDE = 512
"""Labels of larger crops are made at this size and enlarged."""


class LIP20Parser:
    """Regions and the labels they were merged from."""

    Settings = InputSettings

    def __init__(self, model: Path, settings: InputSettings) -> None:
        self.settings = settings
        self._graph = Graph(model)
        self._size = input_size(self._graph, settings)
        self._output = output_with(self._graph, len(LIP20))

    def annotate(self, images: Sequence[Image]) -> list[models.Annotation]:
        """See `trainer.pose.models.Annotator`."""
        frames, scores = batched(self._graph, images, self._size, self.settings, self._output)
        parsed = [_labels(own, frame) for own, frame in zip(scores, frames, strict=True)]
        return [models.Annotation(regions=LIP_TO_GLIMPSE(labels), labels=labels) for labels in parsed]


def _labels(scores: Float32, frame: Frame) -> UInt8:
    """The best label of every pixel of the crop from scores ``(20, h, w)``."""
    grid = np.ascontiguousarray(scores.transpose(1, 2, 0))  # [h, w, 20]
    shrink = min(1.0, WORKING_SIDE / max(frame.size))
    places = [max(1, round(side * shrink)) for side in frame.size]
    along, across = (
        frame.sampler(axis, places[axis], cells, (frame.input_size[axis] - 1) / max(1, cells - 1))
        for axis, cells in enumerate(grid.shape[:2])
    )
    labels = np.asarray(interpolate(grid, along, across).argmax(axis=2), np.uint8)
    if labels.shape != frame.size:
        labels = np.asarray(
            cv2.resize(labels, (frame.size[1], frame.size[0]), interpolation=cv2.INTER_NEAREST), np.uint8
        )
    return labels
