"""Checkpoint to bundle: graph, parity gate, golden samples, manifest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.graph import OPSET, ParityReport, check_parity, export_graph
from glimpse.bundle import Bundle, SchemaEntry, golden_bytes, utc_now, write_bundle
from glimpse.parts import PartFeatures
from glimpse.people import PeopleGenerator
from glimpse.preprocessing import Preprocessing
from trainer.backbones import BACKBONES
from trainer.checkpoint import Checkpoint, load_checkpoint

GOLDEN_SAMPLES = 8
_SEED = 20_000  # of the golden people: none of training, validation or test


def export(
    checkpoint: Path,
    target: Path,
    *,
    version: str = "0.1.0",
    metrics: Mapping[str, float] | None = None,
    protocol: str = "",
) -> tuple[Bundle, ParityReport]:
    """Exports a checkpoint to a bundle (folder, or ``.zip``) and opens it again.

    Args:
        checkpoint: file of `glimpse train`.
        target: an existing bundle there is replaced.
        version: of the bundle.
        metrics: figures measured on the exported model, put into the manifest beside the validation's.
        protocol: how they were measured.

    Raises:
        CheckpointError: not a checkpoint. ParityError: the graph differs from it. BundleError: ``target`` is taken.
    """
    stored = load_checkpoint(checkpoint)
    method, recipe, origins = stored.build(), stored.recipe, stored.provenance
    graph = export_graph(method, recipe.preprocessing, {"name": recipe.name, "version": version})
    images = golden_images(recipe.preprocessing)
    report = check_parity(method, graph, images)
    golden = golden_bytes(images, _run(graph, images, stored))
    spec = BACKBONES.get(recipe.backbone.name)
    origin = f", ImageNet weights ({spec.license if spec else 'by timm'})" if recipe.backbone.pretrained else ""
    manifest = {
        "name": recipe.name,
        "version": version,
        "method": recipe.method,
        "license": "Apache-2.0",
        "preprocessing": recipe.preprocessing.model_dump(),
        "schema": SchemaEntry.of(stored.schema).model_dump(),
        "opset": OPSET,
        "provenance": {
            "command": stored.command,
            "seed": stored.seed,
            "created_at": utc_now(),
            "versions": stored.versions | {"onnx": importlib.metadata.version("onnx")},
            "training_data": " | ".join(source.describe() for source in origins.sources),
            "backbone": recipe.backbone.name + origin,
            "notes": "; ".join(
                (
                    f"weights of step {stored.step} of {origins.steps} ({origins.epochs:.1f} epochs, "
                    f"{origins.hours:.2f} h); data fingerprint {origins.fingerprint}",
                    *origins.facts,
                )
            ),
        },
        "metrics": {**stored.metrics, **(metrics or {})},
        "protocol": protocol,
    }
    return write_bundle(target, manifest, {"model.onnx": graph, "golden.npz": golden}), report


def golden_images(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Generated people, every other one partly hidden: uint8 ``(8, H, W, 3)``."""
    generator = PeopleGenerator(_SEED)
    images = []
    for i in range(GOLDEN_SAMPLES):
        view = generator.view(i // 2, i % 2, i, occlusion=(0.3, 0.7) if i % 2 else None)
        images.append(preprocessing(view.image))
    return np.stack(images)


def _run(graph: bytes, images: NDArray[np.uint8], stored: Checkpoint) -> PartFeatures:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    vectors, visibility = session.run(["vectors", "visibility"], {"images": images})
    return PartFeatures(vectors, visibility, stored.schema)
