"""Every method in every precision: size, latency, and what the parity gate says; a table in Markdown.

    glimpse bench variants            the table of docs/export.md
    glimpse bench variants --quick    three methods and few people
    python -m benchmarks.variants --method bot    exports and judges one method, and prints nothing but its rows

The checkpoints are those of `glimpse bench methods` where it has run (seed 0), else of a few training steps. Both are
small: they tell people apart poorly, so close neighbours are many and rankings change more easily than a well trained
model's would. What was judged is kept beside the checkpoint in `RUNS` and not judged again; latencies are measured anew
by every run, all methods and precisions in one process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console

from benchmarks.methods import METHODS, Protocol
from benchmarks.report import Report, Row
from exporter.export import GateFailed, export
from exporter.variants import Judged
from glimpse.precision import DEFAULTS, FILES, GateFigures, Precision
from glimpse.runtime.onnx_graph import WIDE_SUMS
from glimpse.runtime.threads import available_cores

PROTOCOL = Protocol(
    seeds=(0,), steps=8, people=4, identities=24, data_views=4, settings=("data.validation_identities=4",)
)
QUERIES, QUICK_QUERIES, SEARCH_QUERIES = 400, 40, 40
BATCHES = (1, 8)
REPEATS = 40
TRAINED = Path("checkpoints/bench-methods")
RUNS = Path("checkpoints/bench-variants")
COLUMNS = (
    "method",
    "precision",
    "MiB",
    "ms at 1",
    "ms at 8",
    "least cosine",
    "visibility off",
    "same first",
    "same ten",
    "mAP lost",
    "kept in float32",
    "gate",
)


@dataclass(frozen=True)
class Tried:
    """One precision of one method."""

    figures: GateFigures
    kept: tuple[str, ...]
    problems: tuple[str, ...]
    graph: bytes


def run(quick: bool) -> Report:
    """`glimpse bench variants`."""
    return table(METHODS[:3] if quick else METHODS, QUICK_QUERIES if quick else QUERIES)


def table(methods: Sequence[str], queries: int, runs: Path = RUNS, trained: Path = TRAINED) -> Report:
    """Exports whatever is not in ``runs`` yet, measures latencies, and prints a row for each method and precision."""
    report, console = Report("variants"), Console(width=10_000)
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for method in methods:
        console.print(f"{method} ...", style="dim", highlight=False)
        tried = judged(method, queries, runs, trained)
        latencies = _latencies(tried)
        for name, each in tried.items():
            figures, size = each.figures, len(each.graph) / 2**20
            alone, eight = latencies[name]
            report.add(Row(f"{method}_{name}_size", size, "MiB"))
            report.add(Row(f"{method}_{name}_batch1", alone, "ms"))
            report.add(Row(f"{method}_{name}_batch8", eight, "ms"))
            report.add(Row(f"{method}_{name}_mAP_lost", 100 * figures.own.mAP_drop, "points"))
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
                ", ".join(group.removeprefix("backbone.").replace("network.", "") for group in each.kept) or "nothing",
                "holds" if not each.problems else f"{len(each.problems)} limits missed",
            )
            lines.append(f"| {' | '.join(cells)} |")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    return report


def judged(method: str, queries: int, runs: Path = RUNS, trained: Path = TRAINED) -> dict[Precision, Tried]:
    """What the gate says of each precision; kept for this checkpoint, these limits and so many queries."""
    checkpoint, folder = _checkpoint(method, runs, trained), runs / method
    done = folder / "judged.json"
    asked: dict[str, Any] = {
        "checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "queries": [queries, SEARCH_QUERIES],
        "limits": {name: entry.limits.model_dump() for name, entry in DEFAULTS.items()},
        "exporter": _digest(Path(__file__).parent.parent / "exporter"),
    }
    if done.is_file():
        kept = json.loads(done.read_text())
        if kept["asked"] == asked:
            return {name: _tried(row, folder / FILES[name]) for name, row in kept["rows"].items()}
    try:
        found: Sequence[Judged] = export(
            checkpoint,
            folder / "bundle",
            precisions=("float16", "int8"),
            queries=queries,
            search_queries=SEARCH_QUERIES,
        ).judged
    except GateFailed as error:
        found = error.judged
    rows = {}
    for each in found:
        name = each.verdict.figures.precision
        (folder / FILES[name]).write_bytes(each.graph)
        rows[name] = {
            "figures": each.verdict.figures.model_dump(mode="json"),
            "kept": list(each.entry.kept_in_float),
            "problems": list(each.verdict.problems),
        }
    done.write_text(json.dumps({"asked": asked, "rows": rows}, indent=2) + "\n")
    return {name: _tried(row, folder / FILES[name]) for name, row in rows.items()}


def _tried(row: dict[str, Any], graph: Path) -> Tried:
    figures = GateFigures.model_validate(row["figures"])
    return Tried(figures, tuple(row["kept"]), tuple(row["problems"]), graph.read_bytes())


def _digest(folder: Path) -> str:
    """Of the code that makes the graphs: one that was made otherwise is another one."""
    digest = hashlib.sha256()
    for name in ("graph", "groups", "half", "int8", "rewrites"):
        digest.update((folder / f"{name}.py").read_bytes())
    return digest.hexdigest()


def _checkpoint(method: str, runs: Path, trained: Path) -> Path:
    """The one of `glimpse bench methods` if there is one, else one of a few steps."""
    from trainer.loop import train

    (runs / method).mkdir(parents=True, exist_ok=True)
    found = trained / f"{method}-0"
    if (found / "result.json").is_file():
        return found / "checkpoint.pt"
    brief = runs / method / "checkpoint.pt"
    if not brief.exists():
        recipe = PROTOCOL.recipe(method)
        brief = train(recipe, runs / method, seed=0, command="glimpse bench variants", progress=False)
    return brief


def _latencies(tried: dict[Precision, Tried]) -> dict[Precision, tuple[float, float]]:
    """Precision -> ms of the fastest call at batch 1 and 8, because a busy machine only adds; they take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry(*WIDE_SUMS)
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(each.graph, options, providers=["CPUExecutionProvider"])
        for name, each in tried.items()
    }
    size = (PROTOCOL.height, PROTOCOL.width, 3)
    found: dict[Precision, list[float]] = {name: [] for name in sessions}
    for batch in BATCHES:
        images = np.random.default_rng(0).integers(0, 256, (batch, *size), dtype=np.uint8)
        seconds: dict[Precision, list[float]] = {name: [] for name in sessions}
        for repeat in range(REPEATS + 2):
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, {"images": images})
                if repeat >= 2:
                    seconds[name].append(time.perf_counter() - start)
        for name, values in seconds.items():
            found[name].append(1e3 * min(values))
    return {name: (values[0], values[1]) for name, values in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--method", action="append", choices=METHODS, default=[], help="default: all")
    parser.add_argument("--queries", type=int, default=QUERIES)
    given = parser.parse_args()
    table(given.method or METHODS, given.queries)
