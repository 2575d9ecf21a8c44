"""Sessions on the CPU with a tiny real bundle, and on other providers with fakes in place of the hardware."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32, PartFeatures
from glimpse.precision import Precision
from glimpse.runtime import GoldenMismatch, ProviderError, Session, SessionError, open_session
from glimpse.runtime.providers import PROVIDERS, execution_providers
from tests.bundles import HEIGHT, SCHEMA, WIDTH, person, tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def fake_onnxruntime(monkeypatch: pytest.MonkeyPatch, *, offered: list[str], in_use: list[str]) -> list[Any]:
    """ONNX Runtime that offers and uses these providers; returns the list of provider requests it gets."""
    requests: list[Any] = []
    real = onnxruntime.InferenceSession

    class FakeSession:
        def __init__(self, graph: bytes, options: Any, providers: Any) -> None:
            requests.append(providers)
            self._real = real(graph, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return in_use

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    return requests


def test_session_gives_checked_part_features(bundle: Bundle) -> None:
    session = open_session(bundle, "cpu", threads=1)
    features = session.run(np.stack([person(1), person(2, hidden=("feet",))]))
    PartFeatures(features.vectors, features.visibility, features.schema)  # the full check agrees
    assert features.visibility[1, SCHEMA.names.index("feet")] == 0
    assert (session.provider, session.threads) == ("cpu", 1)


def test_features_do_not_depend_on_batch_mates(bundle: Bundle) -> None:
    session = open_session(bundle, "cpu", threads=1)
    images = np.stack([person(identity) for identity in range(5)])
    together = session.run(images)
    for row in range(5):
        np.testing.assert_allclose(session.run(images[row : row + 1]).vectors[0], together.vectors[row], atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((1, WIDTH, HEIGHT, 3), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        np.zeros((1, HEIGHT, WIDTH, 3), np.float32),
    ],
)
def test_images_of_another_shape_or_type_are_refused(bundle: Bundle, images: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="expected uint8 images of shape"):
        open_session(bundle, "cpu", threads=1).run(images)


def test_default_thread_count_is_that_of_the_cores_at_hand(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glimpse.runtime.session.available_cores", lambda: 3)
    assert open_session(bundle, "cpu").threads == 3


def test_unknown_provider_lists_the_choices(bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="auto, cpu, cuda, tensorrt, openvino"):
        open_session(bundle, "rocm")


def test_provider_that_the_wheel_lacks_is_an_error_with_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_onnxruntime(monkeypatch, offered=["CPUExecutionProvider"], in_use=["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match=r"\.\[gpu\]"):
        open_session(bundle, "cuda")


@pytest.mark.parametrize(
    ("provider", "execution_provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_silent_fall_back_to_the_cpu_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: str, execution_provider: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fake_onnxruntime(monkeypatch, offered=[execution_provider], in_use=["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="runs on CPUExecutionProvider: its libraries did not load"):
        open_session(bundle, provider)


def test_auto_takes_cuda_where_it_really_works(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    fake_onnxruntime(monkeypatch, offered=both, in_use=both)
    assert open_session(bundle, "auto").provider == "cuda"


def test_auto_takes_the_cpu_where_cuda_is_only_promised(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    fake_onnxruntime(monkeypatch, offered=both, in_use=["CPUExecutionProvider"])
    assert open_session(bundle, "auto").provider == "cpu"


def test_tensorrt_gets_an_explicit_range_of_batches_and_a_cache_of_its_model(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    providers = execution_providers(PROVIDERS["tensorrt"], bundle, "float32", "1.31.1")
    assert [name for name, _ in providers] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    options = providers[0][1]
    assert [options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")] == [
        f"images:{batch}x{HEIGHT}x{WIDTH}x3" for batch in (1, 8, 32)
    ]
    cache = Path(options["trt_engine_cache_path"])
    assert bundle.identity.sha256[:16] in cache.name
    assert cache.stat().st_mode & 0o077 == 0  # an engine is code; others must not write it


def test_graph_with_other_inputs_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    model = onnx.load_from_string(bundle.graph)
    model.graph.input[0].name = "photos"
    model.graph.node[0].input[0] = "photos"
    other = Bundle(bundle.manifest, bundle.source, {**bundle.contents, "model.onnx": model.SerializeToString()})
    with pytest.raises(ProviderError, match="expected one input 'images'"):
        open_session(other, "cpu")


def test_graph_that_cannot_be_parsed_is_refused(bundle: Bundle) -> None:
    other = Bundle(bundle.manifest, bundle.source, {**bundle.contents, "model.onnx": b"not a graph"})
    with pytest.raises(ProviderError, match="cannot open tiny"):
        open_session(other, "cpu")


def test_graph_that_computes_something_else_fails_its_golden_samples(bundle: Bundle, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", seed=1)
    mixed = Bundle(bundle.manifest, bundle.source, {**bundle.contents, "model.onnx": other.graph})
    with pytest.raises(GoldenMismatch, match="part 'head' has cosine"):
        open_session(mixed, "cpu")


@pytest.mark.parametrize("damage", ["nan", "norm", "visibility", "shape", "always visible"])
def test_output_that_is_not_part_features_is_refused(bundle: Bundle, damage: str) -> None:
    good = open_session(bundle, "cpu", threads=1)

    def infer(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        features = good.run(images)
        vectors, visibility = features.vectors.copy(), features.visibility.copy()
        if damage == "nan":
            vectors[1, 3] = np.nan
        elif damage == "norm":
            vectors[1] *= 1.01
        elif damage == "visibility":
            visibility[1, 2] = 1.5
        elif damage == "always visible":
            visibility[1, 0] = 0.5
        else:
            vectors = vectors[:, :-1]
        return vectors, visibility

    session = Session(bundle, "cpu", 1, infer)
    with pytest.raises(SessionError, match="the model gave"):
        session.run(np.stack([person(1), person(2)]))


@pytest.mark.parametrize(("precision", "refused"), [("int8", True), ("float32", False)])
def test_int8_that_depends_on_batch_mates_does_not_pass(bundle: Bundle, precision: Precision, refused: bool) -> None:
    """What sums that overflow do: an image alone comes out otherwise than in a batch."""
    real = open_session(bundle, "cpu", 1)

    def infer(images: NDArray[np.uint8]) -> tuple[Float32, Float32]:
        features = real.run(images)
        visibility = features.visibility.copy()
        visibility[:, ~features.schema.always_visible] *= 0.99 if len(images) == 1 else 1.0
        return features.vectors, visibility

    report = Session(bundle, "cpu", 1, infer, precision).verify()
    assert report.passed is not refused
    if refused:
        assert 1e-3 < report.batch_mate_difference <= 0.011
        assert any("features depend on their batch mates: they move by 0.0" in problem for problem in report.problems)


def fake_openvino(bundle: Bundle) -> types.ModuleType:
    """OpenVINO as far as Glimpse uses it, computing with ONNX Runtime."""
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])

    class Compiled:
        def create_infer_request(self) -> Any:
            return types.SimpleNamespace(
                infer=lambda inputs: dict(
                    zip(("vectors", "visibility"), session.run(("vectors", "visibility"), inputs), strict=True)
                )
            )

    class Core:
        def read_model(self, graph: bytes, weights: bytes) -> bytes:
            return graph

        def compile_model(self, model: bytes, device: str, options: dict[str, str]) -> Compiled:
            assert device == "CPU"
            assert options["INFERENCE_NUM_THREADS"] == "2"
            return Compiled()

    module = types.ModuleType("openvino")
    module.Core = Core  # type: ignore[attr-defined]
    return module


def test_openvino_runs_behind_the_same_interface(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", fake_openvino(bundle))
    session = open_session(bundle, "openvino", threads=2)
    assert session.provider == "openvino"
    assert session.verify().passed


def test_missing_openvino_names_the_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ProviderError, match=r"\.\[openvino\]"):
        open_session(bundle, "openvino")


def test_missing_onnxruntime_names_the_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"\.\[cpu\]"):
        open_session(bundle, "cpu")
