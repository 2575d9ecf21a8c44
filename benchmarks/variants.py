"""Every method in every precision: size, latency, and what the parity gate says; a table in Markdown.

    glimpse bench variants            the table of docs/export.md
    glimpse bench variants --quick    three methods and few people

The checkpoints are of a few training steps on an ImageNet backbone: enough for size and latency, and for the gate to
be tried on features that are not random. They find nobody reliably, so close neighbours are many and rankings change
more easily than a trained model's would; a miss here says little about a trained model, which its own export judges.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console

from benchmarks.methods import METHODS, Protocol
from benchmarks.report import Report, Row
from exporter.export import GateFailed, export
from exporter.variants import Judged
from glimpse.precision import PRECISIONS
from glimpse.runtime.threads import available_cores

PROTOCOL = Protocol(
    seeds=(0,), steps=8, people=4, identities=24, data_views=4, settings=("data.validation_identities=4",)
)
QUERIES, QUICK_QUERIES, SEARCH_QUERIES = 200, 40, 20
BATCHES = (1, 8)
REPEATS = 15
RUNS = Path("checkpoints/bench-variants")


def run(quick: bool) -> Report:
    """`glimpse bench variants`."""
    return table(METHODS[:3] if quick else METHODS, QUICK_QUERIES if quick else QUERIES)


def table(methods: Sequence[str], queries: int) -> Report:
    """Trains whatever is not in `RUNS` yet, exports it, and prints a row for each method and precision."""
    report, console = Report("variants"), Console(width=10_000)
    lines = [
        "| method | precision | MiB | ms at 1 | ms at 8 | least cosine | visibility off | same first | same ten "
        "| mAP lost | kept in float32 | gate |",
        "| --- " * 12 + "|",
    ]
    for method in methods:
        console.print(f"{method} ...", style="dim", highlight=False)
        judged = _exported(method, queries)
        latencies = _latencies(judged)
        for each in judged:
            figures = each.verdict.figures
            name, size = figures.precision, len(each.graph) / 2**20
            alone, eight = latencies[name]
            report.add(Row(f"{method}_{name}_size", size, "MiB"))
            report.add(Row(f"{method}_{name}_batch1", alone, "ms"))
            report.add(Row(f"{method}_{name}_batch8", eight, "ms"))
            cells = (
                method,
                name,
                f"{size:.1f}",
                f"{alone:.1f}",
                f"{eight:.1f}",
                f"{min(figures.min_cosine.values()):.4f}",
                f"{max(figures.max_visibility_difference.values()):.4f}",
                f"{figures.own.top1:.1%}",
                f"{figures.own.top10:.1%}",
                f"{100 * figures.own.mAP_drop:+.2f} ({100 * figures.own.mAP_drop_interval[0]:+.2f} .. "
                f"{100 * figures.own.mAP_drop_interval[1]:+.2f})",
                ", ".join(each.entry.kept_in_float) or "nothing",
                "holds" if each.verdict.passed else f"{len(each.verdict.problems)} limits missed",
            )
            lines.append(f"| {' | '.join(cells)} |")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    return report


def _exported(method: str, queries: int) -> tuple[Judged, ...]:
    from trainer.loop import train

    recipe = PROTOCOL.recipe(method)
    checkpoint = RUNS / method / "checkpoint.pt"
    if not checkpoint.exists():
        checkpoint = train(recipe, RUNS / method, seed=0, command="glimpse bench variants", progress=False)
    try:
        return export(
            checkpoint,
            RUNS / method / "bundle",
            precisions=("float16", "int8"),
            queries=queries,
            search_queries=SEARCH_QUERIES,
        ).judged
    except GateFailed as error:
        return error.judged


def _latencies(judged: Sequence[Judged]) -> dict[str, tuple[float, float]]:
    """Precision -> median ms a call at batch 1 and 8; the precisions take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    sessions = {
        each.verdict.figures.precision: onnxruntime.InferenceSession(
            each.graph, options, providers=["CPUExecutionProvider"]
        )
        for each in judged
    }
    size = (PROTOCOL.height, PROTOCOL.width, 3)
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, *size), dtype=np.uint8)
        seconds: dict[str, list[float]] = {name: [] for name in sessions}
        for repeat in range(REPEATS + 2):
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, {"images": images})
                if repeat >= 2:
                    seconds[name].append(time.perf_counter() - start)
        for name, values in seconds.items():
            found[name].append(1e3 * statistics.median(values))
    return {name: (found[name][0], found[name][1]) for name in PRECISIONS if name in found}


if __name__ == "__main__":
    run(quick=False)
