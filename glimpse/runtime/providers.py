"""The execution providers: what each needs, and how it is opened.

A provider that was asked for and is not really in use is an error. ONNX Runtime itself only warns and runs on the
CPU, which a user then mistakes for a slow GPU.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32

Infer = Callable[[NDArray[np.uint8]], tuple[Float32, Float32]]
"""uint8 ``(N, H, W, 3)`` to float32 ``(N, sum D)`` vectors and float32 ``(N, P)`` visibilities; thread-safe."""

Opener = Callable[["Provider", Bundle, int], Infer]

BATCHES = (1, 8, 32)
"""Smallest, usual and largest batch: TensorRT builds its engine for exactly this range."""


class ProviderError(RuntimeError):
    """The provider is unknown, not installed, or not really in use; the message says which and what to do."""


class ProviderMissing(ProviderError):
    """What the provider needs is not installed: nothing is broken, it is just not here."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One way to run a graph. ``opener`` is ``module:function``, imported only when it is used."""

    name: str
    opener: str
    needs: str
    """What a user has to install for it."""
    execution_provider: str = ""
    """ONNX Runtime's name for it; empty when ONNX Runtime is not involved."""

    def open(self, bundle: Bundle, threads: int) -> Infer:
        """Opens the graph; ProviderError when this provider does not really run it."""
        module, function = self.opener.split(":")
        return cast(Opener, getattr(importlib.import_module(module), function))(self, bundle, threads)


_ORT = "glimpse.runtime.onnx_graph:open_graph"
_GPU = "pip install '.[gpu]' (onnxruntime-gpu) and an NVIDIA driver"
PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider("cpu", _ORT, "pip install '.[cpu]' (onnxruntime)", "CPUExecutionProvider"),
        Provider("cuda", _ORT, _GPU, "CUDAExecutionProvider"),
        Provider("tensorrt", _ORT, f"{_GPU}, and TensorRT 10", "TensorrtExecutionProvider"),
        Provider("openvino", "glimpse.runtime.openvino:open_graph", "pip install '.[openvino]'"),
    )
}

AUTOMATIC = ("cuda", "cpu")
"""What ``auto`` tries, best first. TensorRT is not in it: building its engine takes minutes, which nobody who did not
ask for it should wait for. Nor is OpenVINO, which may choose bfloat16 by itself."""


def candidates(name: str) -> tuple[Provider, ...]:
    """The providers to try for ``name`` (``auto`` or a key of `PROVIDERS`), best first.

    Raises:
        ProviderError: an unknown name; the message lists the choices.
    """
    if name == "auto":
        return tuple(PROVIDERS[choice] for choice in AUTOMATIC)
    if name not in PROVIDERS:
        raise ProviderError(f"unknown provider {name!r}; choose one of auto, {', '.join(PROVIDERS)}")
    return (PROVIDERS[name],)


def execution_providers(provider: Provider, bundle: Bundle, runtime_version: str) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's provider list with options: the wanted one first, then what runs the nodes it cannot take."""
    cpu: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    # HEURISTIC: the default tries every convolution algorithm again for each new batch size.
    cuda: tuple[str, dict[str, Any]] = (
        "CUDAExecutionProvider",
        {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"},
    )
    if provider.name == "tensorrt":
        return [("TensorrtExecutionProvider", tensorrt_options(bundle, runtime_version)), cuda, cpu]
    return [cuda, cpu] if provider.name == "cuda" else [cpu]


def tensorrt_options(bundle: Bundle, runtime_version: str) -> dict[str, Any]:
    """Options of the TensorRT provider: explicit batch range, engine and timing cache keyed by model and runtime.

    Without an explicit profile TensorRT builds a new engine, for tens of seconds, at every new batch size
    (microsoft/onnxruntime #12120). TensorRT itself adds the GPU's architecture to the names of cached files.
    """
    recipe = bundle.preprocessing
    shapes = [f"images:{n}x{recipe.height}x{recipe.width}x3" for n in BATCHES]
    folder = _cache_folder() / "tensorrt" / f"{bundle.identity.sha256[:16]}-ort{runtime_version}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "trt_profile_min_shapes": shapes[0],
        "trt_profile_opt_shapes": shapes[1],
        "trt_profile_max_shapes": shapes[2],
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glimpse"
