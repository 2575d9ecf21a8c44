"""float16 and int8 of a small trained network: searched, judged, stored, and refused when they are broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from exporter.added import add_precisions
from exporter.export import Exported, GateFailed, export
from exporter.groups import layer_groups
from exporter.half import HalfBuilder
from exporter.int8 import CalibrationError, Int8Builder, calibration_images
from exporter.layers import layer_errors
from exporter.variants import extractor
from glimpse.bundle import open_bundle
from glimpse.precision import DEFAULTS, FILES, GateLimits
from glimpse.preprocessing import Preprocessing
from glimpse.runtime import open_session
from glimpse.runtime.gate import judge
from tests.exporter.test_export import SMALL
from tests.runtime.variants import rewritten
from trainer.loop import train
from trainer.recipe import load_recipe

# A few steps of training tell no people apart: neighbours are close, and any rounding swaps them.
LOOSE = {
    precision: DEFAULTS[precision].limits.model_copy(
        update={"min_top1": 0.3, "min_top10": 0.3, "max_mAP_drop": 0.3, "max_rank1_drop": 0.5}
    )
    for precision in ("float32", "float16", "int8")
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe("glimpse-baseline", SMALL).smoke()
    return train(recipe, folder / "out", seed=3, cache=folder / "cache", progress=False)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    target = tmp_path_factory.mktemp("bundles") / "all.zip"
    return export(checkpoint, target, precisions=("float16", "int8"), queries=40, search_queries=12, limits=LOOSE)


@pytest.fixture(scope="module")
def people(exported: Exported) -> NDArray[np.uint8]:
    return exported.bundle.golden().images


def test_a_bundle_holds_every_precision_with_limits_and_figures(exported: Exported) -> None:
    manifest = exported.bundle.manifest
    assert manifest.graphs == ("float32", "float16", "int8")
    assert set(manifest.precisions) == {"float32", "float16", "int8"}
    for precision, entry in manifest.precisions.items():
        (figures,) = entry.figures
        assert (figures.precision, figures.provider, figures.queries) == (precision, "cpu", 40)
        assert entry.limits == LOOSE[precision]
    sizes = {name: len(exported.bundle.contents[FILES[name]]) for name in manifest.graphs}
    assert sizes["float16"] < 0.65 * sizes["float32"]
    assert sizes["int8"] < 0.75 * sizes["float32"]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_every_precision_runs_and_passes_its_gate_without_torch(exported: Exported, precision: str) -> None:
    session = open_session(exported.bundle, "cpu", 1, precision)
    verdict = judge(session)
    assert verdict.passed, verdict.lines()
    recorded = exported.bundle.manifest.precisions[session.precision].figures[0]
    assert verdict.figures.min_cosine == pytest.approx(recorded.min_cosine, abs=1e-3)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("int8", 0.0)])
def test_an_embedding_does_not_depend_on_its_batch_mates(
    exported: Exported, people: NDArray[np.uint8], precision: str, tolerance: float
) -> None:
    """Dynamic int8 fails this: its activations are scaled by the whole batch."""
    session = open_session(exported.bundle, "cpu", 1, precision)
    together = session.run(people)
    alone = [session.run(people[row : row + 1]) for row in range(len(people))]
    for row, one in enumerate(alone):
        np.testing.assert_allclose(one.vectors[0], together.vectors[row], rtol=0, atol=tolerance)
        np.testing.assert_allclose(one.visibility[0], together.visibility[row], rtol=0, atol=tolerance)


def test_int8_is_static_with_unsigned_activations_and_signed_weights_per_channel(exported: Exported) -> None:
    model = onnx.load_from_string(exported.bundle.contents["model.int8.onnx"])
    operators = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert not {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"} & operators
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    signed = [
        onnx.numpy_helper.to_array(constants[name]) for name in constants if name.endswith("_quantized")
    ]  # weights and biases
    assert {array.dtype.name for array in signed} <= {"int8", "int32"}
    zero_points = {
        onnx.numpy_helper.to_array(constants[node.input[2]]).dtype.name
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert zero_points == {"uint8"}
    scales = [onnx.numpy_helper.to_array(tensor).size for name, tensor in constants.items() if "weight_scale" in name]
    assert max(scales) > 1


def test_groups_are_named_by_their_modules_and_can_stay_in_float32(
    exported: Exported, people: NDArray[np.uint8]
) -> None:
    graph = exported.bundle.graph
    groups = layer_groups(onnx.load_from_string(graph))
    names = [group.name for group in groups]
    assert {"stem", "last", "part_attention", "necks", "visibility", "fusion"} <= set(names)
    sensitive = [group.sensitive for group in groups]
    assert sensitive == sorted(sensitive, reverse=True)  # these first, then the backbone's blocks
    assert any(name.startswith("backbone.") for name in names)
    expected = extractor(graph, exported.bundle.schema)(people)
    int8, half = Int8Builder(graph, people), HalfBuilder(graph)
    for build in (int8, half):
        all_kept = extractor(build(names), exported.bundle.schema)(people)
        none_kept = extractor(build(()), exported.bundle.schema)(people)
        off = [float(np.abs(each.vectors - expected.vectors).max()) for each in (all_kept, none_kept)]
        assert off[0] < off[1]


def test_layers_that_go_wrong_are_named(exported: Exported, people: NDArray[np.uint8]) -> None:
    graph = exported.bundle.graph
    model = onnx.load_from_string(graph)
    broken = next(t for t in model.graph.initializer if t.name.startswith("part_attention"))
    values = onnx.numpy_helper.to_array(broken)
    broken.CopyFrom(onnx.numpy_helper.from_array(values + np.float32(1), broken.name))
    found = layer_errors(graph, model.SerializeToString(), people)
    reader = next(node for node in model.graph.node if broken.name in node.input)
    assert found[0].node == reader.name
    assert layer_errors(graph, graph, people) == []


def test_an_export_beyond_its_limits_fails_with_the_precision_the_parts_and_the_layers(
    checkpoint: Path, tmp_path: Path
) -> None:
    impossible = LOOSE["int8"].model_copy(update={"min_cosine": 1.0})
    with pytest.raises(GateFailed, match="int8: part 'global' has a smallest cosine of") as caught:
        export(checkpoint, tmp_path / "x", precisions=("int8",), queries=40, limits={**LOOSE, "int8": impossible})
    assert not (tmp_path / "x").exists()
    float32, int8 = caught.value.judged
    assert float32.verdict.passed
    assert not int8.verdict.passed
    assert any("Conv" in str(layer) for layer in int8.layers)


def test_a_precision_is_added_to_a_bundle_without_its_checkpoint(exported: Exported, tmp_path: Path) -> None:
    everything = exported.bundle
    plain = rewritten(everything, tmp_path / "plain", {})
    added, judged = add_precisions(
        plain.source, tmp_path / "added.zip", ["int8"], search_queries=12, limits=LOOSE, default_precision="int8"
    )
    assert added.identity == everything.identity
    assert added.manifest.default_precision == "int8"
    assert [each.verdict.figures.precision for each in judged] == ["float32", "int8"]
    assert added.graph_of("int8") == everything.graph_of("int8")
    impossible = {**LOOSE, "int8": LOOSE["int8"].model_copy(update={"min_cosine": 1.0})}
    with pytest.raises(GateFailed, match="int8: part"):
        add_precisions(plain.source, tmp_path / "none", ["int8"], search_queries=12, limits=impossible)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="the default precision is bfloat16"):
        add_precisions(plain.source, tmp_path / "none", ["int8"], default_precision="bfloat16")


def test_the_default_precision_must_be_in_the_bundle(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the default precision is int8, but only float32 are made"):
        export(checkpoint, tmp_path / "x", queries=40, limits=LOOSE, default_precision="int8")


def test_calibration_images_come_from_a_folder_or_are_drawn(tmp_path: Path) -> None:
    recipe = Preprocessing(height=64, width=32)
    drawn = calibration_images(recipe)
    assert drawn.shape == (64, 64, 32, 3)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 10, 3), 40 * i, np.uint8))
    np.testing.assert_array_equal(calibration_images(recipe, tmp_path)[:, 0, 0, 0], [0, 40, 80])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="no image"):
        calibration_images(recipe, tmp_path / "empty")
    with pytest.raises(CalibrationError, match="no such folder"):
        calibration_images(recipe, tmp_path / "missing")


def test_limits_survive_the_bundle(exported: Exported) -> None:
    again = open_bundle(exported.bundle.source)
    assert isinstance(again.manifest.precisions["int8"].limits, GateLimits)
    assert again.manifest == exported.bundle.manifest
