"""The float32 graph written otherwise, so that its int8 form is fast on a CPU; what it computes stays.

Each of these was the largest needless cost of an int8 graph in ONNX Runtime's profile, which lays out int8 tensors
with the channels last: a normalisation by three constants was a loop of length three (a fifth of EfficientNet-Lite0's
time), a uint8 pooling ran without vector instructions (a fifth of OSNet's), a mean left int8 and came back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHANNELS_FIRST = [0, 3, 1, 2]
_NORMALISATION = ("Transpose", "Cast", "Sub", "Div")


def rewrite(model: Any) -> Any:
    """A copy of an `onnx.ModelProto` of `exporter.graph`; nodes that are replaced leave their name to what replaces
    them, and their output to its output."""
    import onnx

    copy = type(model).FromString(model.SerializeToString())
    graph = _Graph.of(copy)
    nodes: list[Any] = []
    for node in copy.graph.node:
        maker = _MAKERS.get(node.op_type)
        nodes += (maker(graph, node) if maker else None) or [node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    _normalise_rows(graph, copy.graph)
    del copy.graph.value_info[:]
    onnx.checker.check_model(copy)
    return copy


@dataclass(frozen=True)
class _Graph:
    """What a rewrite asks about the graph, and where it puts its constants."""

    proto: Any
    constants: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    """Of tensors; a free dimension is 0."""
    makers: Mapping[str, Any]
    """Tensor -> the node that makes it."""

    @classmethod
    def of(cls, model: Any) -> _Graph:
        known = [*model.graph.input, *model.graph.value_info, *model.graph.output]
        shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in known}
        makers = {name: node for node in model.graph.node for name in node.output}
        return cls(model.graph, {tensor.name: tensor for tensor in model.graph.initializer}, shapes, makers)

    def constant(self, name: str) -> NDArray[Any] | None:
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))

    def add(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.proto.initializer.append(numpy_helper.from_array(value, name))
        return name


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _mean(graph: _Graph, node: Any) -> list[Any] | None:
    """A mean over height and width is a global average pool, which has an int8 form."""
    from onnx import helper

    axes = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if axes is None or len(graph.shapes.get(node.input[0], ())) != 4 or sorted(axes % 4) != [2, 3]:
        return None
    if _attributes(node).get("keepdims", 1):
        return [helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)]
    kept = f"{node.output[0]}_kept"
    return [
        helper.make_node("GlobalAveragePool", node.input[:1], [kept], name=node.name),
        helper.make_node("Flatten", [kept], node.output, name=f"{node.name}_flat", axis=1),
    ]


def _average(graph: _Graph, node: Any) -> list[Any] | None:
    """An average over windows is a convolution of each channel with 1 / k, which int8 holds exactly."""
    from onnx import helper

    about, channels = _attributes(node), graph.shapes.get(node.input[0], (0, 0))[1]
    kernel = list(about["kernel_shape"])
    if not channels or any(about.get("pads", [])) or about.get("ceil_mode") or about.get("strides") != kernel:
        return None
    weight = np.full((channels, 1, *kernel), 1 / np.prod(kernel), np.float32)
    name = graph.add(f"{node.name}_weight", weight)
    return [
        helper.make_node(
            "Conv",
            [node.input[0], name],
            node.output,
            name=node.name,
            group=channels,
            kernel_shape=kernel,
            strides=kernel,
        )
    ]


def _maximum(graph: _Graph, node: Any) -> list[Any] | None:
    """The largest of floats that turn to int8 behind the pool.

    ONNX Runtime moves the turn before the pool, and pools uint8 twenty times slower than float32. It does not move it
    before a product; by 2, which costs no bit.
    """
    from onnx import helper

    maker = graph.makers.get(node.input[0])
    while maker is not None and maker.op_type in {"Relu", "Clip"}:
        maker = graph.makers.get(maker.input[0])
    if maker is None or maker.op_type in {"Conv", "Add"}:  # int8 already, channels last: fast
        return None
    two, half = (
        graph.add(f"{node.name}_two", np.array(2, np.float32)),
        graph.add(f"{node.name}_half", np.array(0.5, np.float32)),
    )
    pooled, twice = f"{node.output[0]}_pooled", f"{node.output[0]}_twice"
    inner = helper.make_node("MaxPool", node.input, [pooled], name=f"{node.name}_float", **_attributes(node))
    return [
        inner,
        helper.make_node("Mul", [pooled, two], [twice], name=f"{node.name}_twice"),
        helper.make_node("Mul", [twice, half], node.output, name=f"{node.name}_once"),
    ]


_MAKERS: Mapping[str, Callable[[_Graph, Any], list[Any] | None]] = {
    "ReduceMean": _mean,
    "AveragePool": _average,
    "MaxPool": _maximum,
}


def _normalise_rows(graph: _Graph, proto: Any) -> None:
    """Normalises whole rows of pixels, ``(x - mean) / std`` on ``(N, H, W 3)``, before the channels go first."""
    from onnx import TensorProto, helper

    chain: list[Any] = []
    for node in proto.node:
        source = chain[-1].output[0] if chain else "images"
        if len(chain) < 4 and node.op_type == _NORMALISATION[len(chain)] and node.input[0] == source:
            chain.append(node)
    if len(chain) < 4:
        return
    mean, std = (graph.constant(node.input[1]) for node in chain[2:])
    if mean is None or std is None or mean.size != 3 or std.size != 3:
        return
    _, height, width, _ = graph.shapes["images"]
    scale = np.tile((1 / std).astype(np.float32).ravel(), width)
    shift = np.tile((-mean / std).astype(np.float32).ravel(), width)
    rows = graph.add("normalise_rows", np.array([0, height, 3 * width], np.int64))
    cells = graph.add("normalise_cells", np.array([0, height, width, 3], np.int64))
    scaled, shifted = graph.add("normalise_scale", scale), graph.add("normalise_shift", shift)
    made = [
        helper.make_node("Cast", ["images"], ["normalise_float"], name="normalise_cast", to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["normalise_float", rows], ["normalise_in"], name="normalise_to_rows"),
        helper.make_node("Mul", ["normalise_in", scaled], ["normalise_mul"], name="normalise_by_std"),
        helper.make_node("Add", ["normalise_mul", shifted], ["normalise_add"], name="normalise_by_mean"),
        helper.make_node("Reshape", ["normalise_add", cells], ["normalise_out"], name="normalise_to_cells"),
        helper.make_node("Transpose", ["normalise_out"], chain[3].output, name=chain[3].name, perm=_CHANNELS_FIRST),
    ]
    rest = [node for node in proto.node if node not in chain]
    del proto.node[:]
    proto.node.extend([*made, *rest])
