"""Bundles with several precisions, and bundles broken on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from glimpse.bundle import Bundle, write_bundle
from glimpse.precision import DEFAULTS, FILES, Precision


def rewritten(bundle: Bundle, path: Path, files: dict[str, bytes], **fields: Any) -> Bundle:
    """The bundle written again with other files and manifest fields."""
    manifest = bundle.manifest.model_dump(mode="json", by_alias=True, exclude={"files"})
    return write_bundle(path, {**manifest, **fields}, {**bundle.contents, **files})


def with_precision(bundle: Bundle, path: Path, precision: Precision, graph: bytes, **fields: Any) -> Bundle:
    """The bundle with one more precision."""
    entries = {**bundle.manifest.model_dump(mode="json")["precisions"], precision: DEFAULTS[precision].model_dump()}
    return rewritten(bundle, path, {FILES[precision]: graph}, precisions=entries, **fields)


def shuffled_parts(graph: bytes, columns: list[int]) -> bytes:
    """``vectors`` with their columns in another order."""
    model = onnx.load_from_string(graph)
    _rename_output(model, "vectors", "before_shuffle")
    model.graph.initializer.append(numpy_helper.from_array(np.array(columns, np.int64), "order"))
    model.graph.node.append(helper.make_node("Gather", ["before_shuffle", "order"], ["vectors"], axis=1))
    return bytes(model.SerializeToString())


def all_visible(graph: bytes) -> bytes:
    """``visibility`` forced to 1."""
    model = onnx.load_from_string(graph)
    _rename_output(model, "visibility", "before_force")
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing_of_it"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "all_of_it"))
    model.graph.node.append(helper.make_node("Mul", ["before_force", "nothing_of_it"], ["erased"]))
    model.graph.node.append(helper.make_node("Add", ["erased", "all_of_it"], ["visibility"]))
    return bytes(model.SerializeToString())


def wrong_mean(graph: bytes, initializer: str, shift: float) -> bytes:
    """One constant of the normalisation moved."""
    model = onnx.load_from_string(graph)
    for constant in model.graph.initializer:
        if constant.name == initializer:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant) + np.float32(shift), initializer))
            return bytes(model.SerializeToString())
    raise AssertionError(f"no constant {initializer!r}")


def _rename_output(model: Any, old: str, new: str) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == old:
                node.output[i] = new
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
