"""Exported graphs against torch on the CPU, int8 against float32, and the start of a server; ratios in one run.

Networks with random weights: what they compute does not change how long it takes. ONNX Runtime, torch eager and
torch.compile run the same method on the same images with the same threads, in turns; a figure is the fastest of the
calls, because whatever else the machine does only ever adds, and a ratio that of two such figures. What int8 costs in
accuracy is not measured here but by the parity gate of each export (`glimpse bench variants`).

    glimpse bench export [--quick]
    python -m benchmarks.export --only lite --batch 1      one piece: lite, resnet50 or start; both batches if not said

Where OpenVINO is installed, the same int8 file is timed there too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, Row
from glimpse.runtime.onnx_graph import WIDE_SUMS
from glimpse.runtime.threads import available_cores

# The part model on the small backbone that recipes use, and the strong baseline on ResNet-50, both at 256 x 128.
RECIPES = {"lite": "glimpse-imagenet", "resnet50": "bot"}
BATCHES = (1, 32)
CALLS, QUICK_CALLS = {1: 40, 32: 6}, {1: 10, 32: 3}

Call = Callable[[], object]


def run(quick: bool) -> Report:
    """All ratios; ``quick``: the small network only, fewer calls, and torch.compile for single images only."""
    report = Report("export")
    for name in list(RECIPES)[: 1 if quick else None]:
        piece(report, name, BATCHES, QUICK_CALLS if quick else CALLS, compiled=(1,) if quick else BATCHES)
    start(report)
    return report


def piece(
    report: Report,
    name: str,
    batches: Sequence[int],
    calls: Mapping[int, int] = CALLS,
    compiled: Sequence[int] = BATCHES,
) -> None:
    """The ratios of one network of `RECIPES` at some batch sizes."""
    import torch

    from exporter.int8 import Int8Builder

    torch.set_num_threads(available_cores())
    method, _, graph, images = _network(name)
    int8 = Int8Builder(graph, images[:8])(())
    float32_session, int8_session = _session(graph), _session(int8)
    openvino = _openvino(int8)
    for batch in batches:
        some = np.ascontiguousarray(images[:batch])
        tensor = torch.from_numpy(some)
        rivals: dict[str, Call] = {
            "float32": _runs(float32_session, some),
            "int8": _runs(int8_session, some),
            "eager": _torch(method, tensor),
        }
        if openvino is not None:
            rivals["openvino"] = _runs_openvino(openvino, some)
        if batch in compiled:
            torch.compiler.reset()
            rivals["compile"] = _torch(torch.compile(method, dynamic=False), tensor)
        took = _fastest(rivals, calls[batch])
        peer = f"{1e3 * took['float32']:.1f} ms in ONNX Runtime float32"
        where = f"{name}_batch{batch}"
        report.add(Row(f"{where}_onnx_over_torch_eager", took["eager"] / took["float32"], "ratio", ">= 1", peer))
        if "compile" in took:
            ratio = took["compile"] / took["float32"]
            report.add(Row(f"{where}_onnx_over_torch_compile", ratio, "ratio", ">= 1", peer))
        report.add(Row(f"{where}_int8_over_float32", took["float32"] / took["int8"], "ratio", ">= 2", peer))
        if "openvino" in took:
            ratio = took["float32"] / took["openvino"]
            report.add(Row(f"{where}_int8_in_openvino_over_float32", ratio, "ratio", ">= 2", peer))


def _network(name: str) -> tuple[Any, Any, bytes, NDArray[np.uint8]]:
    """A method with random weights, its recipe and graph, and images."""
    from exporter.graph import export_graph
    from trainer.data.training import Population
    from trainer.methods import find_method
    from trainer.recipe import load_recipe

    recipe = load_recipe(RECIPES[name], ["backbone.pretrained=false"])
    method = find_method(recipe.method).load().from_recipe(recipe, Population(100, 6)).eval()
    graph = export_graph(method, recipe.preprocessing, {})
    size = (recipe.preprocessing.height, recipe.preprocessing.width, 3)
    return method, recipe, graph, np.random.default_rng(0).integers(0, 256, (max(BATCHES), *size), dtype=np.uint8)


def start(report: Report) -> None:
    """A bundle filled up to 20 MB, opened as the server opens it: hashes, session, golden samples, warm-up."""
    from glimpse.bundle import SchemaEntry, golden_bytes, utc_now, write_bundle
    from server.extraction.loading import load_model
    from server.settings import ServerSettings
    from trainer.loop import features_of

    method, recipe, graph, images = _network("lite")
    images = images[:8]
    contents = {"model.onnx": graph, "golden.npz": golden_bytes(images, features_of(method, images))}
    padding = max(0, 20_000_000 - sum(map(len, contents.values())))
    contents["padding.bin"] = np.random.default_rng(0).bytes(padding)
    manifest = {
        "name": recipe.name,
        "version": "0.0.0",
        "method": recipe.method,
        "license": "Apache-2.0",
        "preprocessing": recipe.preprocessing.model_dump(),
        "schema": SchemaEntry.of(method.schema).model_dump(),
        "opset": 18,
        "provenance": {
            "command": "glimpse bench export",
            "seed": 0,
            "created_at": utc_now(),
            "training_data": "none: random weights",
            "backbone": recipe.backbone.name,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        write_bundle(path, manifest, contents)
        settings = ServerSettings(model=path, data=Path(folder) / "data", provider="cpu")
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            load_model(settings)
            seconds.append(time.perf_counter() - began)
    report.add(Row("start_to_ready_seconds", seconds[0], "s", "<= 2", "a bundle of 20 MB, hashed, verified and warmed"))


def _session(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry(*WIDE_SUMS)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _openvino(graph: bytes) -> Any:
    """An infer request of the graph in OpenVINO, float32 where it is not int8; None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    options = {
        "INFERENCE_NUM_THREADS": str(available_cores()),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(graph, b""), "CPU", options).create_infer_request()


def _runs_openvino(request: Any, images: NDArray[np.uint8]) -> Call:
    return lambda: request.infer({"images": images})


def _runs(session: Any, images: NDArray[np.uint8]) -> Call:
    return lambda: session.run(None, {"images": images})


def _torch(method: Any, images: Any) -> Call:
    import torch

    def call() -> object:
        with torch.inference_mode():
            return method(images)

    return call


def _fastest(rivals: Mapping[str, Call], calls: int) -> dict[str, float]:
    """Seconds of each one's fastest call; they take turns, so that a busy moment hits all."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(2):
        for call in rivals.values():
            call()
    for _ in range(calls):
        for name, call in rivals.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: min(values) for name, values in seconds.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=(*RECIPES, "start"), action="append", default=[], help="default: all")
    parser.add_argument("--batch", type=int, choices=BATCHES, action="append", default=[], help="default: all")
    given = parser.parse_args()
    found = Report("export")
    for chosen in given.only or (*RECIPES, "start"):
        if chosen == "start":
            start(found)
        else:
            piece(found, chosen, given.batch or BATCHES)
    found.print()
