"""Checkpoint to bundle: graphs, parity gate, golden samples, manifest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.graph import OPSET, ParityReport, check_parity, export_graph
from exporter.int8 import calibration_images
from exporter.variants import SEARCH_QUERIES, GateFailed, Judged, Trial, make_variants
from glimpse.bundle import Bundle, SchemaEntry, golden_bytes, utc_now, write_bundle
from glimpse.people import PeopleGenerator
from glimpse.precision import FILES, GateLimits, Precision
from glimpse.preprocessing import Preprocessing
from glimpse.runtime.gate import FILE, QUERIES, Fixture, Reference, Verdict, run_in_batches
from glimpse.runtime.gate.fixture import Progress
from trainer.backbones import origin_of
from trainer.checkpoint import Checkpoint, load_checkpoint
from trainer.loop import features_of, keep_freed_memory

__all__ = ["GOLDEN_SAMPLES", "Exported", "GateFailed", "export", "golden_images"]

GOLDEN_SAMPLES = 8
_SEED = 20_000  # of the golden people: none of training, validation or test


@dataclass(frozen=True)
class Exported:
    """A bundle and what its gates said."""

    bundle: Bundle
    parity: ParityReport
    """ONNX Runtime against torch at several batch sizes."""
    judged: tuple[Judged, ...]
    """One a precision, float32 first."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(each.verdict for each in self.judged)


def export(
    checkpoint: Path,
    target: Path,
    *,
    version: str = "0.1.0",
    metrics: Mapping[str, float] | None = None,
    protocol: str = "",
    precisions: Sequence[Precision] = (),
    queries: int = QUERIES,
    search_queries: int = SEARCH_QUERIES,
    calibration: Path | None = None,
    limits: Mapping[Precision, GateLimits] | None = None,
    default_precision: Precision = "float32",
    progress: Progress | None = None,
) -> Exported:
    """Exports a checkpoint to a bundle (folder, or ``.zip``) and opens it again.

    Args:
        checkpoint: file of `glimpse train`.
        target: an existing bundle there is replaced.
        version: of the bundle.
        metrics: figures measured on the exported model, put into the manifest beside the validation's.
        protocol: how they were measured.
        precisions: ``float16``, ``int8``: graphs to add to the float32 one.
        queries: occluded queries of the parity gate, a multiple of 4.
        search_queries: the same of other people, on whom layers to keep in float32 are chosen.
        calibration: folder of images for int8's ranges; generated people when None.
        limits: of the gate, where the defaults of `glimpse.precision` do not fit.
        default_precision: what ``--precision auto`` runs.
        progress: called while a model describes the gate's people, in images.

    Raises:
        CheckpointError: not a checkpoint. ParityError: the graph differs from it. GateFailed: a precision does not
            rank as it does. CalibrationError: no calibration images. BundleError: ``target`` is taken.
        ValueError: ``default_precision`` is not among those made, or ``queries`` is no multiple of 4.
    """
    if default_precision not in ("float32", *precisions):
        raise ValueError(
            f"the default precision is {default_precision}, but only {', '.join(('float32', *precisions))} are made"
        )
    keep_freed_memory()
    stored = load_checkpoint(checkpoint)
    method, preprocessing = stored.build(), stored.recipe.preprocessing
    samples = calibration_images(preprocessing, calibration) if "int8" in precisions else None
    graph = export_graph(method, preprocessing, {"name": stored.recipe.name, "version": version})
    images = golden_images(preprocessing)
    parity = check_parity(method, graph, images)
    fixture = Fixture(queries)
    people = fixture.images(preprocessing, progress=progress)
    reference = Reference.of(fixture, people, run_in_batches(lambda some: features_of(method, some), people, progress))
    # The golden samples are the checkpoint's word, not that of the runtime which they judge.
    golden = features_of(method, images)
    trial = Trial(graph, preprocessing, fixture, people, reference, images, golden, samples, progress, search_queries)
    judged = make_variants(trial, precisions, limits or {})
    if not all(each.verdict.passed for each in judged):
        raise GateFailed(judged)
    manifest = _manifest(stored, version) | {
        "metrics": {**stored.metrics, **(metrics or {})},
        "protocol": protocol,
        "precisions": {each.verdict.figures.precision: each.entry.model_dump(mode="json") for each in judged},
        "default_precision": default_precision,
    }
    contents = {FILES[each.verdict.figures.precision]: each.graph for each in judged}
    contents |= {"golden.npz": golden_bytes(images, golden), FILE: reference.to_bytes()}
    return Exported(write_bundle(target, manifest, contents), parity, judged)


def _manifest(stored: Checkpoint, version: str) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    recipe, origins = stored.recipe, stored.provenance
    return {
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
            "backbone": origin_of(recipe.backbone),
            "notes": "; ".join(
                (
                    f"weights of step {stored.step} of {origins.steps} ({origins.epochs:.1f} epochs, "
                    f"{origins.hours:.2f} h); data fingerprint {origins.fingerprint}",
                    *origins.facts,
                )
            ),
        },
    }


def golden_images(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Generated people, every other one partly hidden: uint8 ``(8, H, W, 3)``."""
    generator = PeopleGenerator(_SEED)
    images = []
    for i in range(GOLDEN_SAMPLES):
        view = generator.view(i // 2, i % 2, i, occlusion=(0.3, 0.7) if i % 2 else None)
        images.append(preprocessing(view.image))
    return np.stack(images)
