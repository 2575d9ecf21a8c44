"""Fixed-size batches of normalised crops, for pose and parsing models of the usual make."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pydantic import Field

from glimpse.images import Image
from trainer.pose import models
from trainer.pose.errors import AnnotationError
from trainer.pose.framing import Float32, Frame
from trainer.pose.models.graph import Graph


class InputSettings(models.Settings):
    """What the network wants to see. Defaults are ImageNet's, as most models were trained."""

    size: tuple[int, int] | None = None
    """Height and width of the input; the model's own if it has a fixed one."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of red, green and blue in [0, 1], whatever the order of the channels."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    bgr: bool = False
    """Channels in OpenCV's order, as SCHP has them."""
    margin: float = Field(0.0, ge=0, le=1)
    """Room on each side of the crop, as a share of it."""


def input_size(graph: Graph, settings: InputSettings) -> tuple[int, int]:
    """Height and width of the input ``(N, 3, H, W)``.

    Raises:
        AnnotationError: another kind of input, no size at all, or one that the model does not have.
    """
    shape = graph.input_shape
    if len(shape) != 4 or shape[1] != 3:
        raise AnnotationError(f"{graph.path.name}: expected an input (N, 3, H, W), got {shape}")
    height, width = shape[2:]
    own = settings.size
    if own is None and (height is None or width is None):
        raise AnnotationError(f"{graph.path.name} takes any size ({shape}); say which: size=HEIGHT,WIDTH")
    if own is None:
        return int(height or 0), int(width or 0)
    if (height or own[0], width or own[1]) != own:
        raise AnnotationError(f"{graph.path.name} has a fixed input of {height} x {width}, not {own[0]} x {own[1]}")
    return own


def output_with(graph: Graph, channels: int) -> str:
    """The output ``(N, channels, h, w)``; the first, if there are several.

    Raises:
        AnnotationError: there is none.
    """
    for name, shape in graph.outputs.items():
        if len(shape) == 4 and shape[1] == channels:
            return name
    raise AnnotationError(f"{graph.path.name}: expected an output (N, {channels}, h, w), got {dict(graph.outputs)}")


def batched(
    graph: Graph, images: Sequence[Image], size: tuple[int, int], settings: InputSettings, output: str
) -> tuple[list[Frame], Float32]:
    """Where each crop stands in its input, and the named output ``(N, ...)``. Around a crop is the mean colour."""
    frames = [Frame.fit((image.shape[0], image.shape[1]), size, settings.margin) for image in images]
    pixels = np.stack([_normalised(frame, image, settings) for frame, image in zip(frames, images, strict=True)])
    step = graph.input_shape[0] or len(images)
    answers = []
    for start in range(0, len(images), step):
        part = pixels[start : start + step]
        if graph.input_shape[0]:  # a fixed batch: the last one is filled up
            part = np.concatenate([part, np.zeros((step - len(part), *part.shape[1:]), np.float32)])
        answers.append(graph.run(part, [output])[0])
    return frames, np.concatenate(answers)[: len(images)]


def _normalised(frame: Frame, image: Image, settings: InputSettings) -> Float32:
    """One input ``(3, H, W)``."""
    pixels = frame.image(image, cv2.BORDER_CONSTANT).astype(np.float32) / 255
    pixels = (pixels - np.array(settings.mean, np.float32)) / np.array(settings.std, np.float32)
    inside = np.zeros(frame.input_size, np.bool_)
    top, left = frame.offset
    inside[top : top + frame.content[0], left : left + frame.content[1]] = True
    pixels[~inside] = 0
    if settings.bgr:
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
