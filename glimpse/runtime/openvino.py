"""A bundle's graph in OpenVINO on the CPU: an optional runtime behind the same interface."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32
from glimpse.runtime.providers import Infer, Provider, ProviderError, ProviderMissing


def open_graph(provider: Provider, bundle: Bundle, threads: int) -> Infer:
    """Compiles the graph for the CPU.

    OpenVINO computes in bfloat16 where the processor has it; the golden samples decide whether that is close enough.

    Raises:
        ProviderMissing: OpenVINO is not installed.
        ProviderError: it refuses the graph.
    """
    try:
        import openvino
    except ImportError as error:
        raise ProviderMissing(f"provider {provider.name!r} needs OpenVINO: {provider.needs} ({error})") from error
    try:
        core = openvino.Core()
        compiled = core.compile_model(
            core.read_model(bundle.graph, b""),
            "CPU",
            {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"},
        )
    except RuntimeError as error:
        raise ProviderError(f"provider {provider.name!r} cannot open {bundle.identity}: {error}") from error
    request = compiled.create_infer_request()
    lock = threading.Lock()  # an infer request holds one call's tensors

    def infer(images: NDArray[np.uint8]) -> tuple[Float32, Float32]:
        with lock:
            result = request.infer({"images": images})
            return np.array(result["vectors"], np.float32), np.array(result["visibility"], np.float32)

    return infer
