"""Where a converted graph goes wrong: the error of every tensor that both graphs have, in the order of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.runtime.onnx_graph import WIDE_SUMS


@dataclass(frozen=True)
class LayerError:
    """One node's output in both graphs."""

    node: str
    operator: str
    error: float
    """``|a - b| / |a|`` over all images; a is the float32 graph's."""
    rise: float
    """How much larger it is than every one before it."""

    def __str__(self) -> str:
        return f"{self.operator} {self.node}: {self.error:.1%} off, {self.rise:.1%} more than any layer before"


def layer_errors(graph: bytes, converted: bytes, images: NDArray[np.uint8], most: int = 5) -> list[LayerError]:
    """The layers at which the error rises most, worst first.

    Args:
        graph: in float32.
        converted: the same in another precision.
        images: a few, uint8 ``(N, H, W, 3)``.
        most: how many layers.
    """
    import onnx

    exact, other = onnx.load_from_string(graph), onnx.load_from_string(converted)
    floats = {value.name for value in exact.graph.value_info if value.type.tensor_type.elem_type == 1}
    floats |= {value.name for value in exact.graph.output}
    made = {name for node in other.graph.node for name in node.output}
    nodes = [node for node in exact.graph.node if node.output and node.output[0] in floats & made]
    names = [node.output[0] for node in nodes]
    # What the next layer reads: an activation that quantisation does by its range is only done there.
    read = [f"{name}_DequantizeLinear_Output" for name in names]
    others = [after if after in made else name for name, after in zip(names, read, strict=True)]
    expected, found = _outputs(exact, names, images), _outputs(other, others, images)
    errors, worst = [], 0.0
    for node, a, b in zip(nodes, expected, found, strict=True):
        size = float(np.linalg.norm(a))
        error = float(np.linalg.norm(a - b)) / size if size else 0.0
        errors.append(LayerError(node.name, node.op_type, error, error - worst))
        worst = max(worst, error)
    return sorted((layer for layer in errors if layer.rise > 0), key=lambda layer: -layer.rise)[:most]


def _outputs(model: object, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    import onnx
    import onnxruntime

    shown = onnx.ModelProto.FromString(model.SerializeToString())  # type: ignore[attr-defined]
    present = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*WIDE_SUMS)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output, np.float64) for output in session.run(names, {"images": images})]
