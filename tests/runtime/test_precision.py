"""Which precision a session runs, and what stands in its way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.bundle import Bundle, BundleError
from glimpse.precision import DEFAULTS
from glimpse.runtime import GoldenMismatch, ProviderError, open_session
from glimpse.runtime.providers import PROVIDERS, execution_providers
from tests.bundles import person, tiny_bundle
from tests.runtime.test_session import fake_onnxruntime, fake_openvino
from tests.runtime.variants import rewritten, shuffled_parts, with_precision


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def bundle(plain: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An "int8" graph that can be told from the float32 one: two columns of one part changed places, which its
    tolerance still allows."""
    graph = shuffled_parts(plain.graph, [1, 0, *range(2, plain.schema.width)])
    entry = DEFAULTS["int8"].model_dump()
    entry["golden"]["min_cosine"] = 0.01
    folder = tmp_path_factory.mktemp("variants")
    both = with_precision(plain, folder / "both", "int8", graph)
    return rewritten(both, folder / "loose", {}, precisions={"int8": entry})


def test_a_session_runs_the_graph_of_the_precision_asked_for(bundle: Bundle) -> None:
    images = np.stack([person(1), person(2)])
    sessions = {name: open_session(bundle, "cpu", 1, name) for name in ("auto", "float32", "int8")}
    assert {name: session.precision for name, session in sessions.items()} == {
        "auto": "float32",
        "float32": "float32",
        "int8": "int8",
    }
    exact, other = (sessions[name].run(images).vectors for name in ("float32", "int8"))
    np.testing.assert_array_equal(other[:, [1, 0]], exact[:, [0, 1]])
    np.testing.assert_array_equal(sessions["auto"].run(images).vectors, exact)


def test_auto_takes_the_manifests_default(bundle: Bundle, tmp_path: Path) -> None:
    other = rewritten(bundle, tmp_path / "default", {}, default_precision="int8")
    assert open_session(other, "cpu", 1).precision == "int8"


def test_auto_stays_with_float32_where_the_provider_cannot_compute_in_the_default(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = rewritten(bundle, tmp_path / "default", {}, default_precision="int8")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    fake_onnxruntime(monkeypatch, offered=both, in_use=both)
    session = open_session(other, "auto")
    assert (session.provider, session.precision) == ("cuda", "float32")
    fake_onnxruntime(monkeypatch, offered=both, in_use=["CPUExecutionProvider"])
    assert open_session(other, "auto", precision="int8").provider == "cpu"


def test_a_precision_that_the_bundle_lacks_is_refused_with_those_it_has(plain: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no int8 graph, only float32; make one with glimpse export"):
        open_session(plain, "cpu", precision="int8")


@pytest.mark.parametrize(
    ("provider", "precision"), [("cpu", "bfloat16"), ("tensorrt", "int8"), ("cpu", "int4"), ("auto", "half")]
)
def test_a_precision_that_the_provider_lacks_is_refused_with_those_it_has(
    bundle: Bundle, provider: str, precision: str
) -> None:
    with pytest.raises(ProviderError, match=f"does not compute in '{precision}'; choose one of auto, float32"):
        open_session(bundle, provider, precision=precision)


def test_a_precision_has_golden_limits_of_its_own(plain: Bundle, tmp_path: Path) -> None:
    graph = shuffled_parts(plain.graph, [1, 0, *range(2, plain.schema.width)])
    strict = with_precision(plain, tmp_path / "strict", "int8", graph)
    assert open_session(strict, "cpu", precision="float32").precision == "float32"
    with pytest.raises(GoldenMismatch, match="in int8 on provider 'cpu' fails its golden samples: part 'global'"):
        open_session(strict, "cpu", precision="int8")


@pytest.mark.parametrize(("precision", "hint"), [("float32", "f32"), ("bfloat16", "bf16"), ("int8", "f32")])
def test_openvino_computes_in_what_was_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, precision: str, hint: str
) -> None:
    fake = fake_openvino(bundle)
    asked: list[dict[str, str]] = []
    compile_model = fake.Core.compile_model

    def compiled(core: Any, model: bytes, device: str, options: dict[str, str]) -> Any:
        asked.append(options)
        return compile_model(core, model, device, options)

    monkeypatch.setattr(fake.Core, "compile_model", compiled)
    fake.Core.get_property = lambda *_: ["FP32", "BF16"]
    monkeypatch.setitem(sys.modules, "openvino", fake)
    assert open_session(bundle, "openvino", 2, precision).precision == precision
    assert [options["INFERENCE_PRECISION_HINT"] for options in asked] == [hint]


def test_bfloat16_on_a_processor_without_it_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_openvino(bundle)
    fake.Core.get_property = lambda *_: ["FP32"]
    monkeypatch.setitem(sys.modules, "openvino", fake)
    with pytest.raises(ProviderError, match="does not compute in bfloat16"):
        open_session(bundle, "openvino", 2, "bfloat16")


def test_real_openvino_agrees_with_onnx_runtime(plain: Bundle) -> None:
    pytest.importorskip("openvino")
    images = np.stack([person(identity) for identity in range(5)])
    features = open_session(plain, "openvino", 1, "float32").run(images)
    expected = open_session(plain, "cpu", 1).run(images)
    np.testing.assert_allclose(features.vectors, expected.vectors, atol=1e-5)
    np.testing.assert_allclose(features.visibility, expected.visibility, atol=1e-5)


def test_each_precision_model_version_and_gpu_has_an_engine_cache_of_its_own(
    bundle: Bundle, plain: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("glimpse.runtime.tensorrt.describe_gpu", lambda: "NVIDIA L4, 8.9, 570.1")
    monkeypatch.setattr("glimpse.runtime.tensorrt.version", lambda: "10.13")

    def options(precision: Any = "float32", runtime: str = "1.31.1", model: Bundle = plain) -> dict[str, Any]:
        return execution_providers(PROVIDERS["tensorrt"], model, precision, runtime)[0][1]

    def cache(**asked: Any) -> str:
        return Path(options(**asked)["trt_engine_cache_path"]).name

    half = with_precision(plain, tmp_path / "half", "float16", shuffled_parts(plain.graph, [*range(64)]))
    first = cache()
    assert plain.identity.sha256[:16] in first
    assert "trt10.13-NVIDIA-L4-8.9-570.1" in first
    other = [cache(runtime="1.32.0"), cache(precision="float16", model=half)]
    monkeypatch.setattr("glimpse.runtime.tensorrt.describe_gpu", lambda: "NVIDIA H100, 9.0, 570.1")
    other.append(cache())
    monkeypatch.setattr("glimpse.runtime.tensorrt.version", lambda: "10.16")
    other.append(cache())
    assert len({first, *other}) == 5
    assert options()["trt_fp16_enable"] is False
    assert options(precision="float16", model=half)["trt_fp16_enable"] is True
