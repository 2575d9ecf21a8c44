"""`glimpse model verify --gate`: its table, its findings, its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import Result

from glimpse.bundle import Bundle, golden_bytes, open_bundle
from glimpse.parts import PartFeatures
from glimpse.runtime import open_session
from glimpse.runtime.gate import FILE, Fixture, Reference
from tests.bundles import tiny_bundle
from tests.runtime.variants import rewritten, with_precision, wrong_mean

FIXTURE = Fixture(8)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    plain = tiny_bundle(folder / "plain")
    images = FIXTURE.images(plain.preprocessing, cache=cache / "glimpse" / "gate")
    reference = Reference.of(FIXTURE, images, open_session(plain, "cpu", 1).run(np.array(images)))
    both = with_precision(plain, folder / "both", "int8", plain.graph)
    return rewritten(both, folder / "gated", {FILE: reference.to_bytes()})


def test_every_precision_of_the_bundle_is_gated(glimpse: Callable[..., Result], gated: Bundle, tmp_path: Path) -> None:
    findings = tmp_path / "findings.json"
    result = glimpse("model", "verify", gated.source, "--provider", "cpu", "--gate", "--json", findings)
    assert result.exit_code == 0, result.stderr
    assert "int8 on cpu: 8 occluded queries, 4 gallery images" in result.stdout
    written = json.loads(findings.read_text())
    assert written["passed"]
    assert [found["precision"] for found in written["precisions"]] == ["float32", "int8"]
    assert all(found["gate"]["passed"] for found in written["precisions"])


def test_golden_samples_alone_draw_no_people(glimpse: Callable[..., Result], gated: Bundle) -> None:
    result = glimpse("model", "verify", gated.source, "--precision", "int8")
    assert result.exit_code == 0, result.stderr
    assert "golden samples in int8 on provider cpu" in result.stdout
    assert "occluded queries" not in result.stdout


def test_a_broken_export_whose_golden_samples_were_broken_with_it_fails_the_gate(
    glimpse: Callable[..., Result], gated: Bundle, tmp_path: Path
) -> None:
    """Golden samples written by the broken graph itself agree with it; the gate's reference does not."""
    graph = wrong_mean(gated.graph, "half", 0.2)
    images = gated.golden().images
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    features = PartFeatures(*session.run(("vectors", "visibility"), {"images": images}), gated.schema)
    files = {"model.onnx": graph, "golden.npz": golden_bytes(images, features)}
    broken = rewritten(gated, tmp_path / "broken", files)
    result = glimpse("model", "verify", broken.source, "--precision", "float32", "--json", tmp_path / "plain.json")
    assert result.exit_code == 0, result.stderr
    result = glimpse(
        "model", "verify", broken.source, "--precision", "float32", "--gate", "--json", tmp_path / "gate.json"
    )
    assert result.exit_code == 1
    assert "has a smallest cosine of" in result.stderr
    written = json.loads((tmp_path / "gate.json").read_text())
    assert not written["passed"]
    assert written["precisions"][0]["gate"]["problems"]


def test_a_bundle_without_a_reference_says_so(glimpse: Callable[..., Result], bundle: Path) -> None:
    result = glimpse("model", "verify", bundle, "--gate")
    assert result.exit_code == 1
    assert "has no gate.npz" in result.stderr


def test_show_lists_precisions(glimpse: Callable[..., Result], gated: Bundle) -> None:
    assert open_bundle(gated.source).manifest.graphs == ("float32", "int8")
    shown = glimpse("model", "show", gated.source)
    assert "float32 (default), int8" in shown.stdout


@pytest.mark.parametrize("arguments", [("--queries", "8"), ("--gate", "--queries", "10")])
def test_queries_are_of_the_gate_and_in_fours(
    glimpse: Callable[..., Result], gated: Bundle, arguments: tuple[str, ...]
) -> None:
    assert glimpse("model", "verify", gated.source, *arguments).exit_code == 2
