from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import CliRunner

from glimpse.cli.annotate import annotate
from glimpse.cli.boundary import Commands
from tests.trainer.pose.networks import painted, toy_bodypix
from trainer.pose import AnnotationStore
from trainer.pose.models import ADAPTERS
from trainer.pose.models.bodypix import BodyPix


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.command()(annotate)
    app.command("other")(lambda: None)
    model = toy_bodypix(tmp_path / "bodypix.onnx")
    folder = tmp_path / "crops"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), painted()[0])

    def call(*arguments: str, data=folder, model=model):
        call.out = tmp_path / "out"
        words = ["annotate", str(data), "--model", str(model), "--out", str(call.out), *arguments]
        return CliRunner().invoke(app, words)

    call.folder = folder
    return call


def test_command_annotates_and_goes_on(run):
    first = run("--set", "sizes=224,256", "--set", "threshold=0.5", "--match", "[01].png")
    assert first.exit_code == 0, first.output
    assert "2 images annotated" in first.output
    record = AnnotationStore(run.out).record
    assert record["settings"] == {"sizes": [224, 256], "margin": 0.2, "mirror": True, "threshold": 0.5}
    second = run("--set", "sizes=224,256", "--set", "threshold=0.5", "--workers", "1")
    assert "1 images annotated" in second.output
    assert "2 before" in second.output


def test_one_size_is_a_list_of_one(run):
    assert run("--set", "sizes=224").exit_code == 0
    assert AnnotationStore(run.out).record["settings"]["sizes"] == [224]


def test_broken_images_are_reported_by_name_with_exit_code_1(run):
    (run.folder / "1.png").write_bytes(b"broken")
    result = run()
    assert result.exit_code == 1
    assert "2 images annotated" in result.output
    assert "1 of 3 images could not be read:" in result.output
    assert "1.png" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--adapter", "sapiens"], "unknown adapter 'sapiens'; choose from"),
        (["--set", "sizes"], "--set takes KEY=VALUE, got 'sizes'"),
        (["--set", "sizes=big"], "settings of bodypix: sizes"),
        (["--match", "query/*"], "none of the 3 images"),
    ],
)
def test_wrong_arguments_are_one_sentence(run, arguments, problem):
    result = run(*arguments)
    assert result.exit_code == 1
    assert problem in result.output
    assert "Traceback" not in result.output


def test_missing_data_and_models_are_one_sentence(run, tmp_path):
    assert "neither a folder nor one of the data sets" in run(data="nowhere").output
    assert "no model" in run(model=tmp_path / "none.onnx").output


DOCS = Path(__file__).resolve().parents[3] / "docs" / "pose.md"


def test_documented_options_and_settings_exist():
    text = DOCS.read_text()
    commands = re.findall(r"^glimpse datasets annotate .*$", text, re.MULTILINE)
    assert len(commands) == 3
    parameters = inspect.signature(annotate).parameters
    known = {"--set"} | {f"--{name}" for name in parameters}
    for option in re.findall(r"--[a-z]+", " ".join(commands)):
        assert option in known, option
    for adapter, settings in re.findall(r"^\| `(\w+)` \|.*\| ([^|]*=[^|]*) \|$", text, re.MULTILINE):
        module, _, name = ADAPTERS[adapter].target.partition(":")
        fields = getattr(importlib.import_module(module), name).Settings.model_fields
        assert set(re.findall(r"`(\w+)=", settings)) == set(fields), adapter


def test_documented_defaults_of_bodypix_are_its_own():
    (row,) = re.findall(r"^\| `bodypix` \|.*$", DOCS.read_text(), re.MULTILINE)
    documented = dict(setting.split("=") for setting in re.findall(r"`(\w+=[^`]*)`", row))
    assert BodyPix.Settings.model_validate(documented) == BodyPix.Settings()
