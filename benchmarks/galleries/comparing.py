"""One comparison: ours and a peer on one gallery, in turns, so that drift of the machine hits both sides."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.galleries.contenders import contender_spec
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.truth import recall, truth, unlike
from benchmarks.galleries.workers import Worker

OURS = "glimpse"
TOP_K = 10
"""Matches asked for where time is taken; the quality is told of 10 and of 100."""
LONGEST_SEARCH = 8.0
"""A batch that is likely to take more seconds is not timed."""
QUALITY_SECONDS = 60.0
"""What recall may take of a slow contender; it is then told of fewer queries."""
PAUSE_SECONDS = 0.05
"""Between turns: threads of the last one stop spinning."""


@dataclass(frozen=True)
class Effort:
    """How long a comparison measures."""

    rounds: int = 5
    turn_seconds: float = 0.5
    batches: tuple[int, ...] = (1, 16, 64)


def compare(
    problem: SearchProblem, peer: str, threads: int, cache: Path, effort: Effort, with_recall: bool
) -> dict[str, Any]:
    """Figures of ours and of a peer (ours alone where ``peer`` is `OURS`), as JSON:

    ``{contender: {"facts": ..., "points": {point: {"seconds": {batch: [of every round]}, "cpu": .., "quality": ..}}}}``

    ``cpu`` is as ``seconds``, of the contender's process: on a machine that others use too it is the steadier figure,
    with one thread.
    """
    names = list(dict.fromkeys((OURS, peer)))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, problem, threads, cache)) for name in names]
        figures: dict[str, Any] = {
            worker.name: {
                "facts": worker.facts,
                "points": {point: {"seconds": {}, "cpu": {}} for point in worker.points},
            }
            for worker in workers
        }
        for batch in effort.batches:
            for (name, point), rounds in _timed(workers, figures, batch, effort, calls_divisor(problem)).items():
                told = figures[name]["points"][point]
                told["seconds"][str(batch)] = [wall for wall, _ in rounds]
                told["cpu"][str(batch)] = [cpu for _, cpu in rounds]
        if with_recall:
            for worker in workers:
                if contender_spec(worker.name).ranks:
                    for point, told in figures[worker.name]["points"].items():
                        told["quality"] = quality(problem, worker, point, statistics.median(told["seconds"]["1"]))
    return figures


def calls_divisor(problem: SearchProblem) -> int:
    """Single queries are taken in multiples of this: as many numbers of visible parts as there are, in turns."""
    return len(np.unique(problem.visible_parts))


def _timed(
    workers: Sequence[Worker], figures: dict[str, Any], batch: int, effort: Effort, divisor: int
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Seconds and CPU seconds a search in each round by contender and point: means of a turn; they take turns."""
    pairs = [(worker, point) for worker in workers for point in worker.points]
    calls = {}
    for worker, point in pairs:
        before = figures[worker.name]["points"][point]["seconds"]
        smaller = max((int(size) for size in before), default=0)
        if smaller and min(before[str(smaller)]) * batch / smaller > LONGEST_SEARCH:
            continue
        once = min(worker.turn(point, batch, 2, TOP_K)[0])
        wanted = max(1, round(effort.turn_seconds / max(once, 1e-6)))
        calls[worker.name, point] = min(500, max(1, wanted // divisor) * divisor if batch == 1 else wanted)
    rounds: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in calls}
    for _ in range(effort.rounds):
        for worker, point in pairs:
            if (worker.name, point) not in calls:
                continue
            time.sleep(PAUSE_SECONDS)
            seconds, cpu = worker.turn(point, batch, calls[worker.name, point], TOP_K)
            rounds[worker.name, point].append((statistics.fmean(seconds), cpu))
    return rounds


def quality(problem: SearchProblem, worker: Worker, point: str, seconds_a_query: float = 0.0) -> dict[str, Any]:
    """Recall at 10 and at 100, over all queries and by their number of visible parts, and wrong rankings."""
    right, divisor = truth(problem), calls_divisor(problem)
    rounds = min(QUALITY_SECONDS / max(seconds_a_query, 1e-6) / divisor, len(problem.queries) / divisor)
    count = min(len(problem.queries), max(1, round(rounds)) * divisor)
    found = worker.answers(point, count)
    counts = problem.visible_parts[:count]
    told: dict[str, Any] = {"queries": count}
    told["unlike_the_oracle"] = unlike(found, right.rows[:count], right.distance[:count])
    for depth in (10, 100):
        shares = recall(found, right.rows[:count], depth)
        told[f"recall{depth}"] = float(shares.mean())
        told[f"recall{depth}_by_parts"] = {
            str(parts): float(shares[counts == parts].mean()) for parts in np.unique(counts).tolist()
        }
    return told


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median over rounds of how much faster one was in its turn than the other in its own."""
    return statistics.median(left / right for left, right in zip(slow, fast, strict=True))
