"""From a trained method to an ONNX graph, and the check that the two agree.

The graph takes ``images`` uint8 ``(N, H, W, 3)`` RGB with a dynamic N and gives ``vectors`` and ``visibility``;
normalisation is inside. Preprocessing, parts and producer are in its metadata too, for readers without the manifest.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import SchemaEntry
from glimpse.parts import PartFeatures
from glimpse.preprocessing import Preprocessing

OPSET = 18
BATCHES = (1, 2, 7, 32)


class ParityError(RuntimeError):
    """The exported graph does not compute what the checkpoint does; it must not be shipped."""


@dataclass(frozen=True)
class ParityReport:
    """The worst disagreement between torch and ONNX Runtime over all batch sizes."""

    min_cosine: float
    """Over every part of every image."""
    max_visibility_difference: float
    batch_mate_difference: float
    """How far an image's outputs moved with its batch mates, largest absolute value."""


def export_graph(method: Any, preprocessing: Preprocessing, metadata: Mapping[str, str]) -> bytes:
    """The serialised ONNX graph of a method in evaluation mode."""
    import onnx
    import torch

    example = torch.zeros((2, preprocessing.height, preprocessing.width, 3), dtype=torch.uint8)
    # The exporter's own log speaks of its passes, not of this model.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            method.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["vectors", "visibility"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            verbose=False,
        )
    buffer = io.BytesIO()
    program.save(buffer)
    model = onnx.load_from_string(buffer.getvalue())
    model.producer_name = "glimpse"
    described = {
        "preprocessing": preprocessing.model_dump_json(),
        "schema": SchemaEntry.of(method.schema).model_dump_json(),
        **metadata,
    }
    onnx.helper.set_model_props(model, dict(described))
    onnx.checker.check_model(model, full_check=True)
    _forget_origin(model.graph)
    return bytes(model.SerializeToString())


def _forget_origin(graph: Any) -> None:
    """Removes the stack traces that the exporter leaves on every node: they name folders of the machine it ran on."""
    for group in (graph.node, graph.value_info, graph.input, graph.output, graph.initializer):
        for entry in group:
            del entry.metadata_props[:]
            entry.doc_string = ""


def check_parity(
    method: Any,
    graph: bytes,
    images: NDArray[np.uint8],
    *,
    batches: Sequence[int] = BATCHES,
    min_cosine: float = 0.9999,
    max_visibility_difference: float = 1e-3,
) -> ParityReport:
    """Runs torch and ONNX Runtime on the same images at several batch sizes.

    Args:
        method: the trained method, in evaluation mode.
        graph: the exported graph.
        images: uint8 ``(N, H, W, 3)``; repeated as the batch sizes need.
        batches: batch sizes, among them one beyond the first.
        min_cosine, max_visibility_difference: what is allowed, for every part of every image.

    Raises:
        ParityError: a difference is larger, or an image's features depend on its batch mates.
        ValueError: the features are not valid `PartFeatures`.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    alone = [session.run(None, {"images": image[None]}) for image in images]
    worst_cosine, worst_visibility, mates = 1.0, 0.0, 0.0
    for batch in batches:
        rows = np.arange(batch) % len(images)
        vectors, visibility = session.run(["vectors", "visibility"], {"images": images[rows]})
        features = PartFeatures(vectors, visibility, method.schema)
        with torch.inference_mode():
            expected = [output.numpy() for output in method(torch.from_numpy(images[rows]))]
        worst_cosine = min(worst_cosine, _min_cosine(features, expected[0]))
        worst_visibility = max(worst_visibility, float(np.abs(visibility - expected[1]).max()))
        for output, index in ((vectors, 0), (visibility, 1)):
            single = np.concatenate([alone[row][index] for row in rows])
            mates = max(mates, float(np.abs(output - single).max()))
    report = ParityReport(worst_cosine, worst_visibility, mates)
    if worst_cosine < min_cosine or worst_visibility > max_visibility_difference:
        raise ParityError(
            f"the ONNX graph differs from the checkpoint: smallest cosine of a part {worst_cosine:.6f} "
            f"(at least {min_cosine}), largest visibility difference {worst_visibility:.2g} "
            f"(at most {max_visibility_difference})"
        )
    if mates > 1e-3:
        raise ParityError(f"features depend on their batch mates: they moved by {mates:.2g}")
    return report


def _min_cosine(features: PartFeatures, expected: NDArray[np.float32]) -> float:
    cosines = [
        (features.vectors[:, columns] * expected[:, columns]).sum(axis=1).min() for columns in features.schema.slices
    ]
    return float(min(cosines))
