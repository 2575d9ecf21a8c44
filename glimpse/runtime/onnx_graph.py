"""A bundle's graph in ONNX Runtime (CPU, CUDA, TensorRT)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import Float32
from glimpse.precision import Precision
from glimpse.runtime.providers import Infer, Provider, ProviderError, ProviderMissing, execution_providers

WIDE_SUMS = ("session.x64quantprecision", "1")
"""A session's entry that has int8 weights multiplied as U8 where U8 x S8 would overflow: on x64 without VNNI."""


def open_graph(provider: Provider, bundle: Bundle, precision: Precision, threads: int) -> Infer:
    """Opens the graph of ``precision`` on ``provider`` and makes sure that it is the one in use.

    Raises:
        ProviderMissing: ONNX Runtime is missing, or lacks the provider.
        ProviderError: it silently chose another one, or the graph cannot be opened.
        BundleError: the bundle has no graph of this precision.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderMissing(f"provider {provider.name!r} needs ONNX Runtime: {provider.needs} ({error})") from error
    offered = onnxruntime.get_available_providers()
    if provider.execution_provider not in offered:
        raise ProviderMissing(
            f"provider {provider.name!r} is not in the installed onnxruntime {onnxruntime.__version__}, "
            f"which offers {', '.join(offered)}. It needs: {provider.needs}"
        )
    if provider.name in {"cuda", "tensorrt"} and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN in their wheels
    graph = bundle.graph_of(precision)
    try:
        session = onnxruntime.InferenceSession(
            graph,
            _options(onnxruntime, threads),
            providers=execution_providers(provider, bundle, precision, onnxruntime.__version__),
        )
    except Exception as error:  # the binding raises its own types, one per status, with no common base but Exception
        raise ProviderError(f"provider {provider.name!r} cannot open {bundle.identity}: {error}") from error
    in_use = session.get_providers()
    if in_use[0] != provider.execution_provider:
        raise ProviderError(
            f"provider {provider.name!r} was asked for, but ONNX Runtime runs on {in_use[0]}: its libraries did not "
            f"load. It needs: {provider.needs}"
        )
    session.disable_fallback()
    _check_interface(session, bundle)

    def infer(images: NDArray[np.uint8]) -> tuple[Float32, Float32]:
        vectors, visibility = session.run(("vectors", "visibility"), {"images": images})
        return vectors, visibility

    return infer


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Idle model threads that spin would take the cores from decoding, search and the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(*WIDE_SUMS)
    options.log_severity_level = 3
    return options


def _check_interface(session: Any, bundle: Bundle) -> None:
    inputs = [(item.name, item.type) for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs()]
    if inputs != [("images", "tensor(uint8)")] or not {"vectors", "visibility"} <= set(outputs):
        raise ProviderError(
            f"the graph of {bundle.identity} has inputs {inputs} and outputs {outputs}; expected one input 'images' "
            "of uint8, and the outputs 'vectors' and 'visibility'"
        )
