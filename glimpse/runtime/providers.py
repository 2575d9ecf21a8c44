"""The execution providers: what each needs, and how it is opened.

A provider that was asked for and is not really in use is an error. ONNX Runtime itself only warns and runs on the
CPU, which a user then mistakes for a slow GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32
from glimpse.precision import Precision
from glimpse.runtime.tensorrt import provider_options

Infer = Callable[[NDArray[np.uint8]], tuple[Float32, Float32]]
"""uint8 ``(N, H, W, 3)`` to float32 ``(N, sum D)`` vectors and float32 ``(N, P)`` visibilities; thread-safe."""

Opener = Callable[["Provider", Bundle, Precision, int], Infer]


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
    precisions: tuple[Precision, ...] = ("float32", "float16")

    def open(self, bundle: Bundle, precision: Precision, threads: int) -> Infer:
        """Opens the graph of a precision; ProviderError when this provider does not really run it."""
        module, function = self.opener.split(":")
        return cast(Opener, getattr(importlib.import_module(module), function))(self, bundle, precision, threads)


_ORT = "glimpse.runtime.onnx_graph:open_graph"
_GPU = "pip install '.[gpu]' (onnxruntime-gpu) and an NVIDIA driver"
PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "cpu", _ORT, "pip install '.[cpu]' (onnxruntime)", "CPUExecutionProvider", ("float32", "float16", "int8")
        ),
        # The bundle's int8 graph is made for CPUs: TensorRT refuses its unsigned activations, and CUDA runs it slower
        # than float32.
        Provider("cuda", _ORT, _GPU, "CUDAExecutionProvider"),
        Provider("tensorrt", _ORT, f"{_GPU}, and pip install '.[tensorrt]'", "TensorrtExecutionProvider"),
        Provider(
            "openvino",
            "glimpse.runtime.openvino:open_graph",
            "pip install '.[openvino]'",
            precisions=("float32", "bfloat16", "float16", "int8"),
        ),
    )
}

AUTOMATIC = ("cuda", "cpu")
"""What ``auto`` tries, best first. TensorRT is not in it: building its engine takes minutes, which nobody who did not
ask for it should wait for. Nor is OpenVINO, whose start takes seconds."""


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


def resolve_precision(provider: Provider, bundle: Bundle, wanted: str) -> Precision:
    """The precision to run: ``wanted``, or for ``auto`` the bundle's default where the provider can.

    Raises:
        ProviderError: an unknown precision, or one that the provider does not compute in; the message lists those
            that it does.
    """
    if wanted == "auto":
        default = bundle.manifest.default_precision
        return default if default in provider.precisions else "float32"
    for precision in provider.precisions:
        if precision == wanted:
            return precision
    choices = ", ".join(("auto", *provider.precisions))
    raise ProviderError(f"provider {provider.name!r} does not compute in {wanted!r}; choose one of {choices}")


def execution_providers(
    provider: Provider, bundle: Bundle, precision: Precision, runtime_version: str
) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's provider list with options: the wanted one first, then what runs the nodes it cannot take."""
    cpu: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    # HEURISTIC: the default tries every convolution algorithm again for each new batch size.
    cuda: tuple[str, dict[str, Any]] = (
        "CUDAExecutionProvider",
        {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"},
    )
    if provider.name == "tensorrt":
        return [("TensorrtExecutionProvider", provider_options(bundle, precision, runtime_version)), cuda, cpu]
    return [cuda, cpu] if provider.name == "cuda" else [cpu]
