"""The graphs of a bundle, each made, searched and judged by the parity gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.graph import ParityError
from exporter.groups import LayerGroup
from exporter.half import HalfBuilder
from exporter.int8 import Int8Builder
from exporter.layers import LayerError, layer_errors
from exporter.search import Build, damage_of, search
from glimpse.parts import PartFeatures, PartSchema
from glimpse.precision import DEFAULTS, GateLimits, GoldenTolerance, Precision, PrecisionEntry
from glimpse.preprocessing import Preprocessing
from glimpse.runtime import available_cores, compare
from glimpse.runtime.gate import Fixture, Reference, Verdict, measure, run_in_batches
from glimpse.runtime.gate.fixture import Progress
from glimpse.runtime.onnx_graph import WIDE_SUMS

SEARCH_QUERIES = 80
ENOUGH = (0.8, 0.5, 0.25)
"""Shares of the limits that the search may use: the next one where the gate, which sees more people, still fails."""
_SEARCH_SEED = 20_003  # other people than the gate's: layers must not be chosen on the test
_PROVIDER = "cpu"

Extract = Callable[[NDArray[np.uint8]], PartFeatures]


@dataclass(frozen=True)
class Trial:
    """What every precision of one export is tried on."""

    graph: bytes
    """In float32."""
    preprocessing: Preprocessing
    fixture: Fixture
    people: NDArray[np.uint8]
    """All of the fixture's images."""
    reference: Reference
    """What the checkpoint said of them."""
    images: NDArray[np.uint8]
    """The golden samples."""
    golden: PartFeatures
    calibration: NDArray[np.uint8] | None
    """Images for int8's ranges."""
    progress: Progress | None = None
    search_queries: int = SEARCH_QUERIES


@dataclass(frozen=True)
class Judged:
    """A graph, its entry in the manifest, and what the gate says of it."""

    graph: bytes
    entry: PrecisionEntry
    verdict: Verdict
    layers: tuple[LayerError, ...] = ()
    """Of a graph that failed: where its error rises most."""


class GateFailed(RuntimeError):
    """A graph does not rank as the checkpoint does; no bundle was written. `judged` says which, and how far off."""

    def __init__(self, judged: Sequence[Judged]) -> None:
        self.judged = tuple(judged)
        failed = [each for each in judged if not each.verdict.passed]
        super().__init__(
            "; ".join(f"{each.verdict.figures.precision}: {'; '.join(each.verdict.problems)}" for each in failed)
        )


def make_variants(
    trial: Trial, precisions: Sequence[Precision], limits: Mapping[Precision, GateLimits]
) -> tuple[Judged, ...]:
    """Makes and judges float32 and each of ``precisions``; a graph that fails is among them, with its layers."""
    judged = [_judge(trial, "float32", trial.graph, (), limits)]
    for precision in dict.fromkeys(precisions):
        if precision == "float32":
            continue
        groups, build = _builder(trial, precision)
        allowed = limits.get(precision, DEFAULTS[precision].limits)
        damage = _damage(trial, precision, allowed)
        for enough in ENOUGH:
            choice = search(groups, build, damage, enough)
            found = _judge(trial, precision, choice.graph, choice.kept, limits)
            if found.verdict.passed or choice.damage > enough:
                break  # it holds, or no layer is left that helps
        judged.append(found)
    return tuple(judged)


def _builder(trial: Trial, precision: Precision) -> tuple[Sequence[LayerGroup], Build]:
    if precision == "float16":
        half = HalfBuilder(trial.graph)
        return half.groups, half
    if precision == "int8":
        if trial.calibration is None:
            raise ValueError("int8 needs calibration images")
        int8 = Int8Builder(trial.graph, trial.calibration)
        return int8.groups, int8
    raise ValueError(f"{precision} has no graph of its own; choose float16 or int8")


def _damage(trial: Trial, precision: Precision, limits: GateLimits) -> Callable[[bytes], float]:
    """Judges a candidate by few people, against the float32 graph."""
    fixture = Fixture(trial.search_queries, _SEARCH_SEED)
    people = fixture.images(trial.preprocessing)
    schema = trial.golden.schema
    expected = run_in_batches(extractor(trial.graph, schema), people, None).stored()

    def damage(graph: bytes) -> float:
        try:
            figures = measure(
                extractor(graph, schema), people, fixture, expected, precision=precision, provider=_PROVIDER
            )
        except ValueError:  # not part features: NaN, or a norm that is not 1
            return float("inf")
        return damage_of(figures, limits)

    return damage


def _judge(
    trial: Trial,
    precision: Precision,
    graph: bytes,
    kept: Sequence[str],
    limits: Mapping[Precision, GateLimits],
) -> Judged:
    extract = extractor(graph, trial.golden.schema)
    try:
        figures = measure(
            extract,
            trial.people,
            trial.fixture,
            trial.reference.features,
            precision=precision,
            provider=_PROVIDER,
            progress=trial.progress,
        )
    except ValueError as error:
        raise ParityError(f"the {precision} graph gives no part features: {error}") from error
    allowed = limits.get(precision, DEFAULTS[precision].limits)
    tolerance = GoldenTolerance() if precision == "float32" else _tolerance(trial, extract)
    entry = PrecisionEntry(golden=tolerance, limits=allowed, kept_in_float=tuple(kept), figures=(figures,))
    verdict = Verdict(figures, allowed, len(trial.fixture.left_out))
    layers: list[LayerError] = []
    if not verdict.passed and precision != "float32":
        layers = layer_errors(trial.graph, graph, np.ascontiguousarray(trial.images))
    return Judged(graph, entry, verdict, tuple(layers))


def _tolerance(trial: Trial, extract: Extract) -> GoldenTolerance:
    """Twice what the samples lose here, and a little: another processor rounds otherwise, and computes no other
    thing."""
    report = compare(trial.golden, extract(trial.images), GoldenTolerance())
    lost = 1 - min(report.min_cosine.values(), default=1.0)
    return GoldenTolerance(
        min_cosine=round(max(0.05, 1 - 2 * lost - 0.005), 4),
        max_visibility_difference=round(min(1.0, 2 * report.max_visibility_difference + 0.01), 4),
    )


def extractor(graph: bytes, schema: PartSchema) -> Extract:
    """A graph in ONNX Runtime on the CPU; its features are checked in full."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry(*WIDE_SUMS)
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def extract(images: NDArray[np.uint8]) -> PartFeatures:
        vectors, visibility = session.run(("vectors", "visibility"), {"images": images})
        return PartFeatures(vectors, visibility, schema)

    return extract
