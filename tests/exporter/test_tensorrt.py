"""Building a serialised engine against a fake of TensorRT 10's Python API: no GPU is needed, and none was used."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from exporter.tensorrt import EngineError, build_engine
from glimpse.bundle import Bundle
from tests.bundles import HEIGHT, WIDTH, tiny_bundle
from tests.runtime.variants import with_precision


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    plain = tiny_bundle(folder / "plain")
    return with_precision(plain, folder / "half", "float16", plain.graph)


class FakeTensorRT(types.ModuleType):
    """What `build_engine` uses of TensorRT 10; refuses calls that TensorRT 10 would refuse."""

    def __init__(self, *, readable: bool = True, buildable: bool = True) -> None:
        super().__init__("tensorrt")
        log: list[Any] = []
        self.log = log
        self.__version__ = "10.13.0"
        self.MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
        self.BuilderFlag = types.SimpleNamespace(FP16="fp16")

        class Logger:
            WARNING = "warning"

            def __init__(self, level: str) -> None:
                pass

        class Profile:
            def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
                log.append(("shape", name, least, usual, most))

        class TimingCache:
            def serialize(self) -> bytearray:
                return bytearray(b"timings")

        class Config:
            def set_memory_pool_limit(self, pool: str, size: int) -> None:
                log.append((pool, size))

            def set_flag(self, flag: str) -> None:
                log.append(("flag", flag))

            def add_optimization_profile(self, profile: Profile) -> None:
                assert isinstance(profile, Profile)
                log.append(("profile",))

            def create_timing_cache(self, data: bytes) -> TimingCache:
                log.append(("read", data))
                return TimingCache()

            def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> None:
                assert not ignore_mismatch

            def get_timing_cache(self) -> TimingCache:
                return TimingCache()

        class Builder:
            def __init__(self, logger: Logger) -> None:
                pass

            def create_network(self, flags: int) -> str:
                assert flags == 0
                return "network"

            def create_builder_config(self) -> Config:
                return Config()

            def create_optimization_profile(self) -> Profile:
                return Profile()

            def build_serialized_network(self, network: str, config: Config) -> bytearray | None:
                log.append(("build",))
                return bytearray(b"plan") if buildable else None

        class OnnxParser:
            num_errors = 1

            def __init__(self, network: str, logger: Logger) -> None:
                pass

            def parse(self, graph: bytes) -> bool:
                log.append(("parse", len(graph)))
                return readable

            def get_error(self, index: int) -> str:
                return "unsupported operator"

        self.Logger, self.Builder, self.OnnxParser = Logger, Builder, OnnxParser


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRT:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("exporter.tensorrt.describe_gpu", lambda: "NVIDIA L4, 8.9, 570.1")
    module = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def test_an_engine_has_an_explicit_range_of_batches(bundle: Bundle, fake: FakeTensorRT, tmp_path: Path) -> None:
    engine = build_engine(bundle, workspace=1 << 20)
    shapes = [(batch, HEIGHT, WIDTH, 3) for batch in (1, 8, 32)]
    assert ("shape", "images", *shapes) in fake.log
    assert ("workspace", 1 << 20) in fake.log
    assert ("flag", "fp16") not in fake.log
    assert fake.log.index(("profile",)) < fake.log.index(("build",))
    engine.write(tmp_path / "out" / "tiny.engine")
    assert (tmp_path / "out" / "tiny.engine").read_bytes() == b"plan"
    about = json.loads((tmp_path / "out" / "tiny.engine.json").read_text())
    assert (about["sha256"], about["tensorrt"]) == (bundle.identity.sha256, "10.13.0")
    assert about["gpu"] == "NVIDIA L4, 8.9, 570.1"
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_float16_is_allowed_by_a_flag(bundle: Bundle, fake: FakeTensorRT) -> None:
    assert build_engine(bundle, "float16").about["precision"] == "float16"
    assert ("flag", "fp16") in fake.log


def test_timings_are_kept_for_the_next_build_of_this_model_on_this_gpu(
    bundle: Bundle, fake: FakeTensorRT, tmp_path: Path
) -> None:
    build_engine(bundle)
    build_engine(bundle)
    build_engine(tiny_bundle(tmp_path / "other", seed=1))
    assert [data for kind, *rest in fake.log if kind == "read" for data in rest] == [b"", b"timings", b""]


def test_int8_is_refused_before_anything_is_built(bundle: Bundle, fake: FakeTensorRT) -> None:
    with pytest.raises(EngineError, match="no TensorRT engine in int8; choose one of float32, float16"):
        build_engine(bundle, "int8")
    assert fake.log == []


def test_a_graph_that_tensorrt_cannot_read_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(readable=False))
    with pytest.raises(EngineError, match=r"TensorRT 10\.13\.0 cannot read .*: unsupported operator"):
        build_engine(bundle)


def test_a_build_that_gives_nothing_is_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(buildable=False))
    with pytest.raises(EngineError, match="builds no engine"):
        build_engine(bundle)


def test_without_tensorrt_the_extra_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"pip install '\.\[tensorrt\]'"):
        build_engine(bundle)
