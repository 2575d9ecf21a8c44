"""Precisions added to a bundle that exists: neither checkpoint nor torch is needed.

The bundle carries what they are judged by: the float32 graph, the checkpoint's word on the gate's people and on the
golden samples. Its float32 graph, its identity, its calibration and its provenance stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.int8 import calibration_images
from exporter.variants import SEARCH_QUERIES, GateFailed, Judged, Trial, make_variants
from glimpse.bundle import Bundle, open_bundle, write_bundle
from glimpse.precision import FILES, GateLimits, Precision
from glimpse.runtime.gate import Fixture, Reference
from glimpse.runtime.gate.fixture import Progress


def add_precisions(
    source: Path,
    target: Path,
    precisions: Sequence[Precision],
    *,
    search_queries: int = SEARCH_QUERIES,
    calibration: Path | None = None,
    limits: Mapping[Precision, GateLimits] | None = None,
    default_precision: Precision = "float32",
    progress: Progress | None = None,
) -> tuple[Bundle, tuple[Judged, ...]]:
    """Writes the bundle at ``source`` to ``target`` (which may be the same) with these precisions made anew.

    The arguments are those of `exporter.export.export`.

    Raises:
        GateFailed: a precision does not rank as the reference does; nothing was written.
        BundleError: no bundle, or one without a reference. GateError: this machine draws many of the
            gate's people otherwise.
        CalibrationError: no calibration images. ValueError: a default precision that the bundle would not have.
    """
    bundle = open_bundle(source)
    held = {*bundle.manifest.graphs, *precisions}
    if default_precision not in held:
        raise ValueError(f"the default precision is {default_precision}, but the bundle would have {sorted(held)}")
    reference, golden = Reference.in_bundle(bundle), bundle.golden()
    people = Fixture(reference.queries, reference.seed).images(bundle.preprocessing, progress=progress)
    fixture = reference.fixture(people)
    trial = Trial(
        bundle.graph,
        bundle.preprocessing,
        fixture,
        people,
        reference,
        golden.images,
        golden.features,
        calibration_images(bundle.preprocessing, calibration) if "int8" in precisions else None,
        progress,
        search_queries,
    )
    judged = make_variants(trial, precisions, limits or {})
    if not all(each.verdict.passed for each in judged):
        raise GateFailed(judged)
    manifest = bundle.manifest.model_dump(mode="json", by_alias=True, exclude={"files"})
    entries = {each.verdict.figures.precision: each.entry.model_dump(mode="json") for each in judged}
    manifest["precisions"] = {**manifest["precisions"], **entries}
    manifest["default_precision"] = default_precision
    contents = {**bundle.contents, **{FILES[each.verdict.figures.precision]: each.graph for each in judged}}
    return write_bundle(target, manifest, contents), judged
