"""A serialised TensorRT engine, by TensorRT's own Python API. The engine runs only where it was built.

Never run on hardware by the project's own tests: they build against a fake of this API (TensorRT 10). ONNX Runtime's
TensorRT provider (`glimpse.runtime.tensorrt`) needs none of this and is the way to serve; a serialised engine is for
runtimes without ONNX Runtime.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glimpse.bundle import Bundle
from glimpse.precision import FILES, Precision
from glimpse.runtime.tensorrt import BATCHES, cache_folder, cache_key, describe_gpu

WORKSPACE_BYTES = 2 << 30
PRECISIONS: tuple[Precision, ...] = ("float32", "float16")


class EngineError(RuntimeError):
    """No engine could be built; the message says why."""


@dataclass(frozen=True)
class Engine:
    """A serialised engine and what it was built for."""

    plan: bytes
    about: Mapping[str, object]

    def write(self, path: Path) -> None:
        """Writes the engine to ``path`` and what it is to ``path``.json, each whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(dict(self.about), indent=2) + "\n"
        for target, data in ((path, self.plan), (path.with_name(path.name + ".json"), text.encode())):
            partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
            partial.write_bytes(data)
            partial.replace(target)


def build_engine(bundle: Bundle, precision: Precision = "float32", *, workspace: int = WORKSPACE_BYTES) -> Engine:
    """Builds an engine of a bundle's graph for batches of 1 to 32 on the GPU here; takes minutes.

    The timing cache of an earlier build for this graph, TensorRT and GPU is read and written, so that building again
    is fast.

    Args:
        precision: ``float32`` or ``float16``; int8 graphs are made for CPUs.
        workspace: bytes that a tactic may use.

    Raises:
        EngineError: TensorRT is not installed, cannot read the graph, or builds nothing.
        BundleError: the bundle has no graph of this precision.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"no TensorRT engine in {precision}; choose one of {', '.join(PRECISIONS)}")
    try:
        import tensorrt as trt
    except ImportError as error:
        raise EngineError(f"TensorRT is not installed: pip install '.[tensorrt]' ({error})") from error
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # an explicit batch is the only kind since TensorRT 10
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(bundle.graph_of(precision)):
        problems = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(
            f"TensorRT {trt.__version__} cannot read the {precision} graph of {bundle.identity}: {problems}"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if precision == "float16":
        config.set_flag(trt.BuilderFlag.FP16)
    recipe = bundle.preprocessing
    profile = builder.create_optimization_profile()
    profile.set_shape("images", *((batch, recipe.height, recipe.width, 3) for batch in BATCHES))
    config.add_optimization_profile(profile)
    timings = cache_folder() / f"{cache_key(bundle, precision, f'api{trt.__version__}')}.timings"
    cache = config.create_timing_cache(timings.read_bytes() if timings.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT {trt.__version__} builds no engine of {bundle.identity} in {precision}")
    _keep(timings, config)
    about = {
        "model": str(bundle.identity),
        "sha256": bundle.manifest.files[FILES[precision]],
        "precision": precision,
        "batches": list(BATCHES),
        "tensorrt": trt.__version__,
        "gpu": describe_gpu(),
    }
    return Engine(bytes(plan), about)


def _keep(path: Path, config: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(bytes(config.get_timing_cache().serialize()))
    partial.replace(path)
