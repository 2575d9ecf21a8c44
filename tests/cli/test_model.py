"""`glimpse model` and `glimpse doctor`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from glimpse.bundle import golden_bytes, open_bundle, write_bundle
from glimpse.parts import PartFeatures
from glimpse.runtime.wheels import Conflict


def test_show_tells_what_a_bundle_is(glimpse: Callable[..., Result], bundle: Path) -> None:
    shown = glimpse("model", "show", bundle)
    assert shown.exit_code == 0
    assert "tiny 1.0.0" in shown.stdout
    assert "global:16, head:8" in shown.stdout
    manifest = json.loads(glimpse("model", "show", bundle, "--json").stdout)
    assert manifest["schema"]["prior"] == 0.1


def test_a_sound_bundle_is_verified(glimpse: Callable[..., Result], bundle: Path, tmp_path: Path) -> None:
    findings = tmp_path / "findings.json"
    result = glimpse("model", "verify", bundle, "--json", findings)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip().endswith("verified")
    written = json.loads(findings.read_text())
    assert written["passed"]
    assert written["min_cosine"]["head"] > 0.999


def test_a_flipped_byte_fails_the_verification(glimpse: Callable[..., Result], bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    graph = bytearray((broken / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (broken / "model.onnx").write_bytes(graph)
    result = glimpse("model", "verify", broken, "--json", tmp_path / "findings.json")
    assert result.exit_code == 1
    assert "model.onnx has SHA-256" in result.stderr
    written = json.loads((tmp_path / "findings.json").read_text())
    assert not written["passed"]
    assert "model.onnx has SHA-256" in written["error"]


def test_wrong_golden_samples_fail_the_verification(
    glimpse: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    opened = open_bundle(bundle)
    golden = opened.golden()
    rows = np.roll(np.arange(len(golden.images)), 1)
    swapped = PartFeatures(golden.features.vectors[rows], golden.features.visibility[rows], opened.schema)
    manifest = opened.manifest.model_dump(mode="json", by_alias=True, exclude={"files"})
    contents = {"model.onnx": opened.graph, "golden.npz": golden_bytes(golden.images, swapped)}
    write_bundle(tmp_path / "swapped", manifest, contents)
    result = glimpse("model", "verify", tmp_path / "swapped")
    assert result.exit_code == 1
    assert "golden sample" in result.stderr


@pytest.mark.parametrize("provider", ["cuda", "nonsense"])
def test_a_provider_that_does_not_run_fails_the_verification(
    glimpse: Callable[..., Result], bundle: Path, provider: str
) -> None:
    result = glimpse("model", "verify", bundle, "--provider", provider)
    if provider == "cuda" and result.exit_code == 0:
        pytest.skip("a GPU is here")
    assert result.exit_code == 1
    assert provider in result.stderr


def test_verifying_needs_neither_torch_nor_grpc_nor_the_server(bundle: Path) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'grpc', 'server', 'trainer', 'faiss'): sys.modules[name] = None\n"
        "from glimpse.cli import main\n"
        f"main(['model', 'verify', {str(bundle)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_doctor_finds_a_working_provider(glimpse: Callable[..., Result], bundle: Path) -> None:
    result = glimpse("doctor", "--model", bundle)
    assert result.exit_code == 0, result.stdout
    assert "cpu        runs, golden samples hold" in result.stdout
    assert "wheels     no conflicts" in result.stdout


def test_the_doctor_names_conflicting_wheels_and_the_repair(
    glimpse: Callable[..., Result], bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflict = Conflict("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "onnxruntime-gpu")
    monkeypatch.setattr("glimpse.runtime.wheels.find_conflicts", lambda: [conflict])
    result = glimpse("doctor", "--model", bundle)
    assert result.exit_code == 1
    assert conflict.repair in result.stdout


def test_the_doctor_says_when_there_is_no_model(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    result = glimpse("doctor", "--model", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "no such bundle" in result.stdout
