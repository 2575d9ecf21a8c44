"""Rewrites before quantisation: another graph, the same numbers; and what int8 then does and leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.graph import export_graph
from exporter.int8 import Int8Builder
from exporter.rewrites import rewrite
from tests.trainer.batches import random_images
from tests.trainer.methods.tiny import CNN, build, recipe_for

SIZE = (96, 48)


def run(model: Any, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


def graph_of(nodes: Sequence[Any], constants: dict[str, NDArray[Any]], output: Sequence[int | str]) -> Any:
    """A small model from ``images`` (N, 8, 8, 3) that is turned to floats, channels first, at its start."""
    start = [
        helper.make_node("Transpose", ["images"], ["first"], name="first", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["first"], ["x"], name="cast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        [*start, *nodes],
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(output))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def operators(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


MEAN = np.array([100, 110, 120], np.float32).reshape(1, 3, 1, 1)
AXES = {"axes": np.array([-1, -2], np.int64)}
WEIGHT = {"w.weight": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)}
CASES: dict[str, tuple[list[Any], dict[str, NDArray[Any]], list[int | str], list[str], list[str]]] = {
    "a kept mean": (
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="m", keepdims=1)],
        AXES,
        ["n", 3, 1, 1],
        ["GlobalAveragePool"],
        ["ReduceMean"],
    ),
    "a flat mean": (
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], name="m", keepdims=0)],
        AXES,
        ["n", 3],
        ["GlobalAveragePool", "Flatten"],
        ["ReduceMean"],
    ),
    "an average of windows": (
        [helper.make_node("AveragePool", ["x"], ["y"], name="p", kernel_shape=[2, 4], strides=[2, 4])],
        {},
        ["n", 3, 4, 2],
        ["Conv"],
        ["AveragePool"],
    ),
    "the largest of floats": (
        [helper.make_node("MaxPool", ["x"], ["y"], name="p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        {},
        ["n", 3, 4, 4],
        ["MaxPool", "Mul", "Mul"],
        [],
    ),
    "a normalisation": (
        [
            helper.make_node("Sub", ["x", "mean"], ["centred"], name="sub"),
            helper.make_node("Div", ["centred", "std"], ["y"], name="div"),
        ],
        {"mean": MEAN, "std": MEAN / 2},
        ["n", 3, 8, 8],
        ["Cast", "Reshape", "Mul", "Add", "Reshape", "Transpose"],
        ["Sub", "Div"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rewritten_graph_computes_the_same(case: str) -> None:
    nodes, constants, output, present, gone = CASES[case]
    model = graph_of(nodes, constants, output)
    rewritten = rewrite(model)
    found = operators(rewritten)
    assert [name for name in present if name not in found] == []
    assert [name for name in gone if name in found] == []
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for before, after in zip(run(model, images), run(rewritten, images), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("AveragePool", ["x"], ["y"], name="p", kernel_shape=[2, 2], strides=[1, 1]),  # overlaps
        helper.make_node("AveragePool", ["x"], ["y"], name="p", kernel_shape=[3, 3], strides=[3, 3], pads=[1, 1, 1, 1]),
    ],
)
def test_windows_that_overlap_or_reach_beyond_the_edge_are_left_alone(node: Any) -> None:
    model = graph_of([node], {}, ["n", 3, "h", "w"])
    assert "AveragePool" in operators(rewrite(model))


def test_the_largest_of_what_a_convolution_made_is_left_to_int8() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w.weight"], ["c"], name="c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="r"),
        helper.make_node("MaxPool", ["r"], ["y"], name="p", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    assert "Mul" not in operators(rewrite(graph_of(nodes, WEIGHT, ["n", 4, 4, 4])))


def test_a_methods_graph_is_the_same_function_after_rewriting() -> None:
    built = build("glimpse", CNN, size=SIZE, width=16, global_dim=12, part_dim=6).eval()
    recipe = recipe_for("glimpse", CNN, size=SIZE, width=16, global_dim=12, part_dim=6)
    model = onnx.load_from_string(export_graph(built, recipe.preprocessing, {}))
    images = random_images(4, *SIZE).numpy()
    rewritten = rewrite(model)
    assert "normalise_to_rows" in [node.name for node in rewritten.graph.node]
    for before, after in zip(run(model, images), run(rewritten, images), strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)


def test_a_product_with_a_constant_stays_in_float_between_floats() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["h"], name="before"),
        helper.make_node("Conv", ["h", "backbone.a.weight"], ["c"], name="a", pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["s"], name="s"),
        helper.make_node("Mul", ["c", "s"], ["m"], name="gate"),
        helper.make_node("Mul", ["m", "half"], ["k"], name="scaled"),
        helper.make_node("Conv", ["k", "backbone.b.weight"], ["y"], name="b", pads=[1, 1, 1, 1]),
    ]
    random = np.random.default_rng(0)
    constants = {
        "half": np.array(0.5, np.float32),
        "backbone.a.weight": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "backbone.b.weight": random.normal(size=(4, 4, 3, 3)).astype(np.float32),
    }
    images = random.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    graph = graph_of(nodes, constants, ["n", 4, 8, 8]).SerializeToString()
    model = onnx.load_from_string(Int8Builder(graph, images)(()))
    read = {node.name: node.input[0] for node in model.graph.node}
    assert read["gate"].endswith("_DequantizeLinear_Output")
    assert read["s"].endswith("_DequantizeLinear_Output")
    made = {name: node for node in model.graph.node for name in node.output}
    scaled = next(node for node in model.graph.node if node.name == "scaled")
    assert "half" in scaled.input  # not turned to int8
    assert made[read["b"]].op_type == "DequantizeLinear"
