"""BodyPix 2 (Google, 2019; MobileNetV1): 24 body parts, a mask of people and 17 joints from one small network.

ONNX conversions of the TensorFlow.js model have one input ``(1, H, W, 3)`` in [-1, 1], H and W of the form 16 k + 1,
and among others these outputs on a grid whose cell i lies exactly on pixel ``stride * i``:

- ``segments`` ``(1, h, w, 1)``: logit that the pixel shows a person, any person;
- ``part_heatmaps`` ``(1, h, w, 24)``: logits of `BODYPIX24`;
- ``heatmaps`` ``(1, h, w, 17)``: logits of a joint nearby;
- ``short_offsets`` ``(1, h, w, 34)``: from the cell to the joint in pixels, 17 rows and then 17 columns.

The network was made for whole photographs, so a crop is given room: enlarged, with a margin in which its edge goes on.
One pass is coarse and moody on crops of 128 x 64; the mean of two sizes, each also mirrored, is steadier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glimpse.images import Image
from glimpse.people import PARTS
from trainer.pose import models
from trainer.pose.errors import AnnotationError
from trainer.pose.framing import Float32, Frame, interpolate, weights_at
from trainer.pose.keypoints import COCO17, KeyPoints
from trainer.pose.models.graph import Graph
from trainer.pose.regions import BODYPIX24, BODYPIX_TO_GLIMPSE

_OUTPUTS = {"segments": 1, "part_heatmaps": len(BODYPIX24), "heatmaps": 17, "short_offsets": 34}
_MIRRORED_JOINTS = [
    COCO17.index(name.replace("left", "*").replace("right", "left").replace("*", "right")) for name in COCO17
]
_PARTS_OF_REGION = [np.flatnonzero(BODYPIX_TO_GLIMPSE.table == region) for region in range(1, len(PARTS))]
WORKING_SIDE = 384
"""Masks of larger crops are made at this size and enlarged: the network sees no finer."""


@dataclass(frozen=True)
class _View:
    """The outputs for one input, mirrored back, on the network's grid."""

    frame: Frame
    stride: float
    person: Float32
    """``(h, w, 1)`` logits."""
    regions: Float32
    """``(h, w, K)`` logits, each region's strongest part."""
    joints: Float32
    """``(h, w, 17)`` in [0, 1]."""
    offsets: Float32
    """``(h, w, 34)`` pixels of the input."""


class BodyPix:
    """Regions and one person's joints."""

    class Settings(models.Settings):
        """How BodyPix is run."""

        sizes: tuple[int, ...] = Field((160, 256), min_length=1)
        """Heights to which a 2 : 1 crop is enlarged; crops of other shapes get the same area. Results are averaged."""
        margin: float = Field(0.2, ge=0, le=1)
        """Room on each side, as a share of the crop."""
        mirror: bool = True
        """Average with the mirrored crop."""
        threshold: float = Field(0.4, gt=0, lt=1)
        """A pixel belongs to a person from this probability on."""

    def __init__(self, model: Path, settings: Settings) -> None:
        self.settings = settings
        self._graph = Graph(model)
        shapes = {name: self._graph.outputs.get(name, ()) for name in _OUTPUTS}
        wrong = [name for name, channels in _OUTPUTS.items() if shapes[name][-1:] != (channels,)]
        if wrong or self._graph.input_shape[-1:] != (3,):
            raise AnnotationError(
                f"{model} is no BodyPix: expected an input (1, H, W, 3) and outputs {_OUTPUTS}; "
                f"got {self._graph.input_shape} and {dict(self._graph.outputs)}"
            )

    def annotate(self, images: Sequence[Image]) -> list[models.Annotation]:
        """See `trainer.pose.models.Annotator`."""
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> models.Annotation:
        height, width = image.shape[:2]
        shrink = min(1.0, WORKING_SIDE / max(height, width))
        rows, columns = max(1, round(height * shrink)), max(1, round(width * shrink))
        mirrorings = (False, True) if self.settings.mirror else (False,)
        views = [self._view(image, size, mirror) for size in self.settings.sizes for mirror in mirrorings]
        total = np.zeros((rows, columns, 1 + len(_PARTS_OF_REGION) + len(COCO17)), np.float32)
        for view in views:
            grid = np.concatenate([view.person, view.regions, view.joints], axis=2)  # [h, w, 1 + K + 17]
            along, across = (
                view.frame.sampler(axis, places, grid.shape[axis], view.stride)
                for axis, places in enumerate((rows, columns))
            )
            total += interpolate(grid, along, across)
        total /= len(views)
        person, regions, joints = np.split(total, [1, 1 + len(_PARTS_OF_REGION)], axis=2)
        labels = np.asarray(regions.argmax(axis=2) + 1, np.uint8)
        labels[person[..., 0] < math.log(self.settings.threshold / (1 - self.settings.threshold))] = 0
        if (rows, columns) != (height, width):
            labels = np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        return models.Annotation(labels, (KeyPoints(_joints(joints, views, (height, width)), "coco17"),))

    def _view(self, image: Image, size: int, mirror: bool) -> _View:
        frame = _frame((image.shape[0], image.shape[1]), size, self.settings.margin)
        pixels = frame.image(image).astype(np.float32)[None] / 127.5 - 1  # [1, H, W, 3]
        if mirror:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        person, parts, joints, offsets = (out[0] for out in self._graph.run(pixels, list(_OUTPUTS)))
        if mirror:
            # Cells lie on pixels stride * i of 16 k + 1, so mirroring maps cells onto cells.
            person, parts, joints, offsets = (out[:, ::-1] for out in (person, parts, joints, offsets))
            joints = joints[..., _MIRRORED_JOINTS]
            downwards, sideways = offsets[..., :17], offsets[..., 17:]
            offsets = np.concatenate([downwards[..., _MIRRORED_JOINTS], -sideways[..., _MIRRORED_JOINTS]], axis=2)
        regions = np.stack([parts[..., own].max(axis=2) for own in _PARTS_OF_REGION], axis=2)  # [h, w, K]
        stride = (frame.input_size[0] - 1) / (person.shape[0] - 1)
        return _View(frame, stride, person, regions, 1 / (1 + np.exp(-joints)), offsets)


def _frame(size: tuple[int, int], base: int, margin: float) -> Frame:
    """A crop enlarged to the area of ``base`` x ``base / 2``, in an input of sides 16 k + 1 with room around it."""
    scale = base * math.sqrt(0.5 / (size[0] * size[1]))
    # Odd, as the input is: then there is as much room left as right, and a mirrored crop gives a mirrored answer.
    content = (2 * round(size[0] * scale / 2) + 1, 2 * round(size[1] * scale / 2) + 1)
    room = [math.ceil(side * (1 + 2 * margin) / 16) * 16 + 1 for side in content]
    return Frame(size, content, ((room[0] - content[0]) // 2, (room[1] - content[1]) // 2), (room[0], room[1]))


def _joints(scores: Float32, views: Sequence[_View], size: tuple[int, int]) -> NDArray[np.float32]:
    """Where the mean score is highest, moved by the offsets that the views give there; ``(17, 3)``."""
    rows, columns, count = scores.shape
    best = scores.reshape(-1, count).argmax(axis=0)  # [17]
    row = (best // columns + 0.5) * (size[0] / rows) - 0.5
    column = (best % columns + 0.5) * (size[1] / columns) - 0.5
    joint = np.arange(count)
    found = np.zeros((count, 2))
    weight = np.zeros((count, 1))
    for view in views:
        at = [view.frame.to_input(np.asarray(place, np.float32), axis) for axis, place in enumerate((row, column))]
        along = weights_at(at[0] / view.stride, view.joints.shape[0])  # [17, h]
        across = weights_at(at[1] / view.stride, view.joints.shape[1])  # [17, w]
        place = along[:, :, None] * across[:, None, :]  # [17, h, w]
        score = (place * view.joints[..., joint].transpose(2, 0, 1)).sum(axis=(1, 2))
        down = (place * view.offsets[..., joint].transpose(2, 0, 1)).sum(axis=(1, 2))
        right = (place * view.offsets[..., count + joint].transpose(2, 0, 1)).sum(axis=(1, 2))
        xy = np.stack([view.frame.to_crop(at[1] + right, 1), view.frame.to_crop(at[0] + down, 0)], axis=1)
        found += score[:, None] * xy
        weight += score[:, None]
    confidence = scores.reshape(-1, count)[best, joint]
    return np.concatenate([found / np.maximum(weight, 1e-9), confidence[:, None]], axis=1).astype(np.float32)
