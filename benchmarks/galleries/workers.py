"""`Worker`: a contender in a process of its own, on as many cores as it has threads.

BLAS and OpenMP read their thread counts once, when they are loaded, and their idle threads spin: contenders that share
a process would decide each other's figures.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.galleries.contenders import open_contender
from benchmarks.galleries.problem import Int64, SearchProblem, open_problem
from benchmarks.galleries.truth import DEPTH

_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ANSWERED_AT_ONCE = 16


class Worker:
    """Used as a context; every method waits for the child. Its errors are raised here as RuntimeError."""

    def __init__(self, name: str, problem: SearchProblem, threads: int, cache: Path) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, self._child = context.Pipe()
        self._threads = threads
        arguments = (self._child, name, problem.folder, threads, cache)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self.points: tuple[str, ...] = ()
        self.facts: dict[str, float] = {}

    def __enter__(self) -> Worker:
        with confined(self._threads):
            self._process.start()
        self._child.close()  # so that the end of the child is the end of the connection
        self.points, self.facts = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.is_alive() and kind is None:
            self._connection.send(None)
            self._process.join(timeout=60)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._connection.close()

    def turn(self, point: str, batch: int, calls: int, top_k: int) -> tuple[list[float], float]:
        """Seconds of each of ``calls`` searches for the next ``batch`` queries, and the worker's CPU seconds a call."""
        seconds, cpu = self._ask("turn", point, batch, calls, top_k)
        return seconds, cpu

    def answers(self, point: str, count: int) -> list[Int64]:
        """The first `DEPTH` matches of the first ``count`` queries."""
        rows: list[Int64] = self._ask("answers", point, count)
        return rows

    def _ask(self, *task: Any) -> Any:
        self._connection.send(task)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"{self.name} ended, exit code {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name} failed:\n{answer}")
        return answer


@contextmanager
def confined(threads: int) -> Iterator[None]:
    """Children started meanwhile have the last ``threads`` cores of this process and as many threads."""
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise RuntimeError(f"{threads} threads need as many cores, this process has {len(cores)}")
    before = {name: os.environ.get(name) for name in _COUNTS}
    os.environ.update(dict.fromkeys(_COUNTS, str(threads)))
    os.sched_setaffinity(0, set(cores[-threads:]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(cores))
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, name: str, folder: Path, threads: int, cache: Path) -> None:
    try:
        problem = open_problem(folder)
        contender = open_contender(name, problem, threads, cache)
        try:
            connection.send((tuple(contender.points), dict(contender.facts)))
            place = 0
            while (task := connection.recv()) is not None:
                if task[0] == "turn":
                    _, point, batch, calls, top_k = task
                    seconds, cpu = [], time.process_time()
                    for _ in range(calls):
                        queries = _next(problem, place, batch)
                        place += batch
                        start = time.perf_counter()
                        contender.search(point, queries, top_k)
                        seconds.append(time.perf_counter() - start)
                    connection.send((seconds, (time.process_time() - cpu) / calls))
                else:
                    connection.send(_answers(contender, problem, *task[1:]))
        finally:
            contender.close()
    except EOFError:
        pass  # the parent is gone
    except BaseException:
        connection.send(traceback.format_exc())


def _next(problem: SearchProblem, place: int, batch: int) -> Any:
    """``batch`` queries from a place on, over and over."""
    return problem.queries[[(place + i) % len(problem.queries) for i in range(batch)]]


def _answers(contender: Any, problem: SearchProblem, point: str, count: int) -> Sequence[Int64]:
    found: list[Int64] = []
    for start in range(0, count, ANSWERED_AT_ONCE):
        queries = problem.queries[start : min(start + ANSWERED_AT_ONCE, count)]
        found += contender.rows(contender.search(point, queries, DEPTH))
    return found
