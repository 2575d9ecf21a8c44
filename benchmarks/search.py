"""Part-aware search against its floor, the field's code, torch, Faiss, Qdrant and Milvus, on one gallery at a time.

Galleries are generated (`benchmarks.galleries.generator`): P = 8 parts of 256, 62 % of the items partly hidden. Ours
and one peer at a time stand ready in processes of their own and take turns; recall is against `glimpse.distance` for
every number of visible parts from 2 to P. Every piece is kept in ``--runs`` and not measured again, so that the long
run can be interrupted. Beside the figures a Markdown table and two plots are written there.

    glimpse bench search                                        100,000 and 1,000,000 items, 1 and 2 threads
    python -m benchmarks.search --items 100000 --threads 1 --peer torch --peer ivf
    python -m benchmarks.search --items 1000000 --only served   the same gallery through gRPC
    python -m benchmarks.search --real PATH                     the gallery of a Market-1501 folder, with glimpse-lite
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.galleries.alone import alone
from benchmarks.galleries.comparing import OURS, Effort, compare
from benchmarks.galleries.contenders import CONTENDERS, why_not
from benchmarks.galleries.generator import GallerySpec, gallery_problem
from benchmarks.galleries.living import PACE, filtered, growing, rebuilt, sized
from benchmarks.galleries.pieces import Pieces
from benchmarks.galleries.plots import plot_recall_by_parts, plot_recall_latency
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.served import served
from benchmarks.galleries.summary import (
    Comparison,
    comparison_rows,
    growth_rows,
    living_rows,
    served_rows,
)
from benchmarks.galleries.tables import markdown
from benchmarks.report import Report, Row

PEERS = tuple(name for name in CONTENDERS if name != OURS)
KINDS = ("compare", "filter", "adds", "build", "memory", "served")
SMALL = 20_000
"""Where databases are measured too, which take hours to fill with more."""
SIZED = 66_000
"""Items that memory is measured with: in batches of 1,000 two whole segments, so that nothing but those counts."""
CACHE = Path("checkpoints/search-galleries")
RUNS = Path("checkpoints/bench-search")
QUICK_RUNS = Path("checkpoints/bench-search-quick")
MEMORY_GB = 8.0


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    sizes: tuple[int, ...] = (SMALL, 100_000, 1_000_000)
    threads: tuple[int, ...] = (1, 2)
    peers: tuple[str, ...] = PEERS
    kinds: tuple[str, ...] = KINDS
    effort: Effort = field(default_factory=Effort)
    memory_gb: float = MEMORY_GB
    """A contender that needs more, together with ours, is left out."""
    adds: int = 20_000
    seconds: float = 3.0
    """Of one stretch of load."""
    real: Path | None = None
    """Measure real features from there instead of generated ones."""
    anew: bool = False
    """Measure what was measured before, too."""


FULL = Plan()
QUICK = Plan(
    sizes=(SMALL,),
    threads=(1,),
    kinds=("compare", "filter", "adds", "build", "memory"),
    effort=Effort(rounds=3, turn_seconds=0.1),
    adds=5_000,
    seconds=1.0,
    anew=True,
)


def run(quick: bool) -> Report:
    """`glimpse bench search`; ``quick`` takes 20,000 items and one thread, and keeps only the galleries."""
    return measure(QUICK if quick else FULL, QUICK_RUNS if quick else RUNS, CACHE)


def measure(plan: Plan, runs: Path, cache: Path) -> Report:
    """Measures what is not in ``runs`` yet, writes ``table.md`` and the plots there, and gives all figures."""
    report, pieces = Report("search"), Pieces(runs)
    comparisons: list[Comparison] = []
    skipped: list[str] = []
    rows: list[Row] = []
    for problem in problems(plan, cache):
        comparisons += _compared(plan, problem, pieces, cache, skipped)
        rows += _lived(plan, problem, pieces, cache)
        rows += _served(plan, problem, pieces, cache)
    for one in comparisons:
        rows += comparison_rows(one)
    rows += growth_rows(comparisons)
    for row in rows:
        report.add(row)
    runs.mkdir(parents=True, exist_ok=True)
    report.write_json(runs / "report.json")
    if comparisons:
        about = ", ".join(f"{name} {version}" for name, version in report.versions.items())
        text = markdown(comparisons, skipped, f"{report.machine['cpu']}, {report.machine['cores']} cores; {about}")
        (runs / "table.md").write_text(text)
        plot_recall_latency(comparisons, runs / "recall-latency.png")
        plot_recall_by_parts(comparisons, runs / "recall-by-parts.png")
        print(f"{text}\nwritten to {runs}: table.md, recall-latency.png, recall-by-parts.png, report.json")
    return report


def problems(plan: Plan, cache: Path) -> Iterator[SearchProblem]:
    """The galleries of a plan, one at a time."""
    if plan.real is not None:
        from benchmarks.galleries.real import real_problem

        yield real_problem(plan.real, cache)
        return
    for items in plan.sizes:
        yield gallery_problem(GallerySpec(items), cache)


def _compared(
    plan: Plan, problem: SearchProblem, pieces: Pieces, cache: Path, skipped: list[str]
) -> Iterator[Comparison]:
    if "compare" not in plan.kinds:
        return
    items, cores = len(problem), len(os.sched_getaffinity(0))
    for threads in plan.threads:
        with_recall = threads == min(plan.threads)
        for peer in plan.peers:
            reason = why_not(peer, items, threads, cores, plan.memory_gb * 1e9)
            if reason is not None:
                skipped.append(f"{items:,} items, {threads} thread(s): {reason}")
                continue
            asked = {"problem": problem.name, "effort": asdict(plan.effort), "recall": with_recall}
            figures = _piece(
                plan,
                pieces,
                f"compare-{problem.name}-{threads}t-{peer}",
                asked,
                lambda peer=peer, threads=threads, recall=with_recall: compare(
                    problem, peer, threads, cache, plan.effort, recall
                ),
            )
            yield Comparison(items, threads, peer, figures)


def _lived(plan: Plan, problem: SearchProblem, pieces: Pieces, cache: Path) -> Iterator[Row]:
    items, folder = len(problem), problem.folder
    work: dict[str, tuple[Any, ...]] = {
        "filter": (1, filtered, folder, cache, plan.effort.rounds, plan.effort.turn_seconds),
        "adds": (min(2, len(os.sched_getaffinity(0))), growing, folder, cache, plan.adds, plan.seconds, PACE),
        "build": (1, rebuilt, folder, cache),
        "memory": (1, sized, folder, cache, min(items, SIZED)),
    }
    for kind, arguments in work.items():
        if kind in plan.kinds:
            asked = {"problem": problem.name, "arguments": list(arguments[4:])}
            result = _piece(plan, pieces, f"{kind}-{problem.name}", asked, lambda given=arguments: alone(*given))
            yield from living_rows(items, kind, result)


def _served(plan: Plan, problem: SearchProblem, pieces: Pieces, cache: Path) -> Iterator[Row]:
    if "served" not in plan.kinds:
        return
    for threads in plan.threads:
        asked = {"problem": problem.name, "rounds": plan.effort.rounds, "seconds": plan.seconds}
        result = _piece(
            plan,
            pieces,
            f"served-{problem.name}-{threads}t",
            asked,
            lambda threads=threads: served(problem, threads, cache, plan.effort.rounds, plan.seconds),
        )
        yield from served_rows(len(problem), threads, result)


def _piece(plan: Plan, pieces: Pieces, name: str, asked: dict[str, Any], work: Any) -> dict[str, Any]:
    if plan.anew:
        pieces.forget(name)
    return pieces.measured(name, asked, work)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, action="append", default=[], help="size of a gallery; default three sizes")
    parser.add_argument("--threads", type=int, action="append", default=[], help="default 1 and 2")
    parser.add_argument("--peer", action="append", choices=PEERS, default=[], help="default all")
    parser.add_argument("--only", action="append", choices=KINDS, default=[], help="default all kinds")
    parser.add_argument("--rounds", type=int, default=Effort.rounds)
    parser.add_argument("--turn-seconds", type=float, default=Effort.turn_seconds)
    parser.add_argument("--memory", type=float, default=MEMORY_GB, metavar="GB", help="of ours and a peer together")
    parser.add_argument("--real", type=Path, help="a Market-1501 folder, or a file of `evaluate --features-out`")
    parser.add_argument("--anew", action="store_true", help="measure again what was measured before")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    plan = Plan(
        sizes=tuple(given.items) or FULL.sizes,
        threads=tuple(given.threads) or FULL.threads,
        peers=tuple(given.peer) or PEERS,
        kinds=tuple(given.only) or KINDS,
        effort=Effort(given.rounds, given.turn_seconds),
        memory_gb=given.memory,
        real=given.real,
        anew=given.anew,
    )
    report = measure(plan, given.runs, given.cache)
    report.print()
    if given.json:
        report.write_json(given.json)


if __name__ == "__main__":
    main()
