"""Weights that several operators read: each gets its own, and ONNX Runtime can change them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.unsharing import unshare_weights
from glimpse.runtime.onnx_graph import WIDE_SUMS


def quantised(first: str, second: str, third: str) -> onnx.ModelProto:
    """Three convolutions in a row between int8 conversions, whose converted weights have these names."""
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(np.float32(0.05), "scale"),
        numpy_helper.from_array(np.uint8(128), "zero"),
    ]
    nodes = []
    for name in sorted({first, second, third}):
        constants += [
            numpy_helper.from_array(rng.integers(-127, 128, (8, 8, 1, 1), dtype=np.int8), f"{name}_quantized"),
            numpy_helper.from_array(np.full(8, 0.01, np.float32), f"{name}_scale"),
            numpy_helper.from_array(np.zeros(8, np.int8), f"{name}_zero"),
        ]
        inputs = [f"{name}_quantized", f"{name}_scale", f"{name}_zero"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name=f"{name}_convert", axis=0))
    value = "x"
    for number, name in enumerate((first, second, third)):
        q, f = f"q{number}", f"f{number}"
        nodes.append(helper.make_node("QuantizeLinear", [value, "scale", "zero"], [q], name=f"to{number}"))
        nodes.append(helper.make_node("DequantizeLinear", [q, "scale", "zero"], [f], name=f"from{number}"))
        value = f"y{number}"
        nodes.append(helper.make_node("Conv", [f, name], [value], name=f"conv{number}"))
    nodes.append(helper.make_node("QuantizeLinear", [value, "scale", "zero"], ["q"], name="to"))
    nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="from"))
    shape = ["n", 8, 2, 2]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*WIDE_SUMS)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(3, 8, 2, 2)).astype(np.float32)
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


@pytest.mark.parametrize("names", ["aaa", "aab", "aba"])
def test_each_operator_gets_weights_of_its_own_and_the_same_results(names: str) -> None:
    model = quantised(*names)
    unshare_weights(model)
    onnx.checker.check_model(model, full_check=True)
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert len(set(weights)) == 3
    constants = [node.input[0] for node in model.graph.node if node.output[0] in weights]
    assert len(set(constants)) == 3
    distinct = quantised("a", "b", "c")  # as if no weights had been shared: with the same numbers it is the same graph
    for constant in distinct.graph.initializer:
        letter, _, kind = constant.name.partition("_")
        if kind == "quantized":
            name = names["abc".index(letter)]
            (shared,) = [each for each in quantised(*names).graph.initializer if each.name == f"{name}_quantized"]
            constant.raw_data = shared.raw_data
    np.testing.assert_array_equal(run(model), run(distinct))


def test_a_graph_without_shared_weights_is_left_as_it_is() -> None:
    model = quantised("a", "b", "c")
    unshare_weights(model)
    assert model == quantised("a", "b", "c")
