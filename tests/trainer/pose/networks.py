"""Toy ONNX models in the shapes of real ones: what they say is a linear function of single pixels of their input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STRIDE = 16
REGION_COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]], np.uint8)
"""Background, head, upper, arms, legs, feet as `toy_bodypix` tells them apart."""
_PART_OF_REGION = (0, 12, 2, 14, 22)  # one of BodyPix's parts for each region


def toy_bodypix(path: Path, offsets: tuple[float, float] = (0, 0), joint: int = 0) -> Path:
    """BodyPix that reads colours: a pixel is a person unless black, and white is ``joint``.

    Cell i looks at pixel 16 i alone. All short offsets are ``offsets`` (down, right) in pixels of the input.
    """
    parts = np.zeros((24, 4), np.float32)
    parts[:, 3] = -9
    for part, colour in zip(_PART_OF_REGION, REGION_COLOURS[1:], strict=True):
        direction = colour / 127.5 - 1  # in [-1, 1]; equal for the pixel's own colour: 3
        parts[part] = [*(4 * direction), -4 * 3 + 8]
    person = np.array([[8, 8, 8, 17]], np.float32)  # black gives -7, any region at least +9
    joints = np.zeros((17, 4), np.float32)
    joints[:, 3] = -6
    joints[joint] = [4, 4, 4, -8]  # white gives +4, two channels of three -4
    shifts = np.zeros((34, 4), np.float32)
    shifts[:17, 3], shifts[17:, 3] = offsets
    heads = {"segments": person, "part_heatmaps": parts, "heatmaps": joints, "short_offsets": shifts}
    return _save(path, heads, STRIDE, channels_last=True, batch=1, size=("h", "w"))


def toy_pixels(
    path: Path,
    weights: Mapping[str, NDArray[np.float32]],
    *,
    stride: int = 4,
    batch: int | str = "n",
    size: tuple[int | str, int | str] = (64, 32),
) -> Path:
    """``(N, 3, H, W)`` to one ``(N, C, h, w)`` an entry: weights ``(C, 4)`` of red, green, blue and 1."""
    return _save(path, weights, stride, channels_last=False, batch=batch, size=size)


def _save(
    path: Path,
    heads: Mapping[str, NDArray[np.float32]],
    stride: int,
    *,
    channels_last: bool,
    batch: int | str,
    size: tuple[int | str, int | str],
) -> Path:
    constants = {
        "from": np.array([0, 0]),
        "to": np.array([2**31 - 1] * 2),
        "axes": np.array([2, 3]),
        "steps": np.array([stride] * 2),
    }
    for name, weights in heads.items():
        constants[f"{name} weights"] = np.asarray(weights[:, :3, None, None], np.float32)
        constants[f"{name} bias"] = np.asarray(weights[:, 3], np.float32)
    nodes = []
    source = "input"
    if channels_last:
        nodes.append(helper.make_node("Transpose", ["input"], ["first"], perm=[0, 3, 1, 2]))
        source = "first"
    nodes.append(helper.make_node("Slice", [source, "from", "to", "axes", "steps"], ["cells"]))
    for name in heads:
        inner = f"{name} inner" if channels_last else name
        nodes.append(helper.make_node("Conv", ["cells", f"{name} weights", f"{name} bias"], [inner]))
        if channels_last:
            nodes.append(helper.make_node("Transpose", [inner], [name], perm=[0, 2, 3, 1]))

    def value(name: str, channels: int, rows: int | str, columns: int | str) -> onnx.ValueInfoProto:
        shape = [batch, rows, columns, channels] if channels_last else [batch, channels, rows, columns]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "toy",
        [value("input", 3, *size)],
        [value(name, len(weights), f"{name} h", f"{name} w") for name, weights in heads.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def painted(height: int = 128, width: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A person of coloured rectangles, not symmetric, and its region map."""
    regions = np.zeros((height, width), np.uint8)

    def paint(region: int, top: float, bottom: float, left: float, right: float) -> None:
        rows = slice(round(top * height), round(bottom * height))
        regions[rows, round(left * width) : round(right * width)] = region

    paint(1, 0.03, 0.20, 0.25, 0.65)
    paint(2, 0.20, 0.50, 0.20, 0.60)
    paint(3, 0.20, 0.50, 0.60, 0.98)
    paint(4, 0.50, 0.85, 0.25, 0.70)
    paint(5, 0.85, 1.00, 0.25, 0.70)
    return np.ascontiguousarray(REGION_COLOURS[regions]), regions
