"""From a recipe to a running bundle, and what the parity gate lets through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from exporter.export import GOLDEN_SAMPLES, export, golden_images
from exporter.graph import ParityError, check_parity
from glimpse.bundle import open_bundle
from glimpse.people import PARTS
from glimpse.preprocessing import Preprocessing
from glimpse.runtime import open_session
from trainer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from trainer.data.training import Population
from trainer.loop import features_of, train
from trainer.methods import find_method
from trainer.recipe import Recipe, load_recipe

SMALL = [
    "backbone.name=mobilenetv3_small_050",
    "backbone.pretrained=false",
    "backbone.frozen_stages=1",
    "preprocessing.height=96",
    "preprocessing.width=48",
    "options.width=16",
    "options.global_dim=12",
    "options.part_dim=6",
]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("glimpse-baseline", SMALL).smoke()


@pytest.fixture(scope="module")
def checkpoint(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return train(recipe, folder / "out", seed=3, command="glimpse train", cache=folder / "cache", progress=False)


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundles") / "small"
    export(checkpoint, target, version="1.2.3", metrics={"made_up": 0.5}, protocol="none", queries=12)
    return target


def test_a_checkpoint_holds_all_that_is_needed_to_make_it_again(checkpoint: Path, recipe: Recipe) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.recipe == recipe
    assert (loaded.seed, loaded.step, loaded.command) == (3, recipe.schedule.steps, "glimpse train")
    assert {"torch", "timm", "python"} <= set(loaded.versions)
    assert loaded.schema.names == PARTS
    assert 0 <= loaded.metrics["validation_rank1"] <= 1


def test_training_twice_with_one_seed_gives_the_same_weights(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    cache = checkpoint.parent.parent / "cache"
    again = load_checkpoint(train(recipe, tmp_path, seed=3, cache=cache, progress=False))
    first = load_checkpoint(checkpoint)
    for name, tensor in first.weights.items():
        torch.testing.assert_close(again.weights[name], tensor, msg=name)


def test_a_trained_model_runs_from_its_bundle_as_it_did_in_torch(checkpoint: Path, bundle: Path) -> None:
    opened = open_bundle(bundle)
    session = open_session(opened, "cpu", threads=1)
    images = opened.golden().images
    expected = features_of(load_checkpoint(checkpoint).build(), images)
    features = session.run(images)
    np.testing.assert_allclose(features.vectors, expected.vectors, atol=1e-4)
    np.testing.assert_allclose(features.visibility, expected.visibility, atol=1e-4)


def test_a_bundle_tells_where_it_comes_from(bundle: Path, recipe: Recipe) -> None:
    manifest = open_bundle(bundle).manifest
    assert (manifest.name, manifest.version, manifest.license) == (recipe.name, "1.2.3", "Apache-2.0")
    assert manifest.provenance.command == "glimpse train"
    assert manifest.provenance.seed == 3
    assert manifest.metrics["made_up"] == 0.5
    assert "validation_rank1" in manifest.metrics
    assert "generated: 96 images of 24 identities" in manifest.provenance.training_data
    assert "no image of a real person" in manifest.provenance.training_data
    assert (
        f"weights of step {recipe.schedule.steps} of {recipe.schedule.steps} (1.0 epochs" in manifest.provenance.notes
    )
    assert len(open_bundle(bundle).golden().images) == GOLDEN_SAMPLES


def test_the_graph_carries_preprocessing_and_parts_itself(bundle: Path, recipe: Recipe) -> None:
    model = onnx.load_from_string(open_bundle(bundle).graph)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert Preprocessing.model_validate_json(about["preprocessing"]) == recipe.preprocessing
    assert [part["name"] for part in json.loads(about["schema"])["parts"]] == list(PARTS)
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["vectors", "visibility"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # a name, not a number


def test_the_graph_names_no_folder_of_the_machine_it_was_made_on(bundle: Path) -> None:
    checkout = Path(__file__).resolve().parents[2]
    assert str(checkout).encode() not in open_bundle(bundle).graph


def test_a_graph_of_other_weights_does_not_pass_the_gate(bundle: Path, recipe: Recipe) -> None:
    other = find_method(recipe.method).load().from_recipe(recipe, Population(4, 2)).eval()
    with pytest.raises(ParityError, match="smallest cosine of a part"):
        check_parity(other, open_bundle(bundle).graph, golden_images(recipe.preprocessing))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "missing.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.pt is not a checkpoint"):
        load_checkpoint(tmp_path / "text.pt")
    torch.save({"other": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt is not a checkpoint"):
        load_checkpoint(tmp_path / "other.pt")


def test_evaluate_prints_both_rows_and_its_features_give_the_same_figures(bundle: Path, tmp_path: Path) -> None:
    from glimpse.cli.evaluate import evaluate

    features, first, second = (tmp_path / name for name in ("features.npz", "first.json", "second.json"))
    people = tmp_path / "people"
    for person in range(3):
        for shot in range(2):
            path = people / f"p{person}" / f"{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, golden_images(Preprocessing(height=96, width=48))[2 * person + shot])
    app = _app(evaluate)
    arguments = [str(bundle), "--data", f"folder:{people}", "--features-out", str(features), "--json", str(first)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "by visibility" in result.output
    assert "all visible" in result.output
    result = CliRunner().invoke(app, ["--features", str(features), "--json", str(second)])
    assert result.exit_code == 0, result.output
    assert json.loads(first.read_text()) == json.loads(second.read_text())


def test_save_checkpoint_leaves_no_partial_file(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    target = tmp_path / "deep" / "checkpoint.pt"
    about = {"population": loaded.population, "provenance": loaded.provenance, "metrics": loaded.metrics}
    save_checkpoint(target, loaded.build(), loaded.schema, recipe, seed=0, step=1, command="", **about)
    assert [path.name for path in target.parent.iterdir()] == ["checkpoint.pt"]


def _app(command: object) -> object:
    import typer

    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return app


def _write(path: Path, image: np.ndarray) -> None:
    import cv2

    cv2.imwrite(str(path), image[..., ::-1])
