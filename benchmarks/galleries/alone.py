"""Work of a module's function in a process of its own, on so many cores."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.galleries.workers import confined


def alone(threads: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """``work(*arguments)`` in a new process with ``threads`` cores; RuntimeError with its trace when it fails."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, work, arguments))
    with confined(threads):
        child.start()
    theirs.close()
    try:
        worked, answer = ours.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"{work.__name__} ended without an answer, exit code {child.exitcode}") from None
    child.join()
    if not worked:
        raise RuntimeError(answer)
    return answer


def _child(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((True, work(*arguments)))
    except BaseException:
        pipe.send((False, f"{work.__name__} failed:\n{traceback.format_exc()}"))
