"""A bundle's graph in OpenVINO on the CPU: an optional runtime behind the same interface."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32
from glimpse.precision import Precision
from glimpse.runtime.providers import Infer, Provider, ProviderError, ProviderMissing


def open_graph(provider: Provider, bundle: Bundle, precision: Precision, threads: int) -> Infer:
    """Compiles the graph of ``precision`` for the CPU.

    Left alone, OpenVINO computes a float32 graph in bfloat16 where the processor has it. Here that is said: float32
    is float32, and ``bfloat16`` is asked for by name.

    Raises:
        ProviderMissing: OpenVINO is not installed.
        ProviderError: it refuses the graph, or the processor does not compute in bfloat16.
        BundleError: the bundle has no graph of this precision.
    """
    try:
        import openvino
    except ImportError as error:
        raise ProviderMissing(f"provider {provider.name!r} needs OpenVINO: {provider.needs} ({error})") from error
    graph = bundle.graph_of(precision)
    options = {
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    try:
        core = openvino.Core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ProviderError("this processor does not compute in bfloat16; choose --precision float32 or int8")
        compiled = core.compile_model(core.read_model(graph, b""), "CPU", options)
    except RuntimeError as error:
        raise ProviderError(f"provider {provider.name!r} cannot open {bundle.identity}: {error}") from error
    request = compiled.create_infer_request()
    lock = threading.Lock()  # an infer request holds one call's tensors

    def infer(images: NDArray[np.uint8]) -> tuple[Float32, Float32]:
        with lock:
            result = request.infer({"images": images})
            return np.array(result["vectors"], np.float32), np.array(result["visibility"], np.float32)

    return infer
