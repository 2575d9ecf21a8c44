"""Time and peak memory of a piece of work, measured in a process of its own.

The peak is what the work adds to what lay ready before it: the high-water mark of resident memory, reset just before
(Linux: ``/proc/self/clear_refs``), less the resident memory then.
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured:
    """What came out, and what it cost."""

    result: Any
    seconds: float
    extra_bytes: int
    """Beyond what was there before the work."""


def measure(prepare: Callable[..., Any], work: Callable[..., Any], *arguments: Any, repeats: int = 1) -> Measured:
    """Runs ``work(*prepare(*arguments))`` in a new process.

    Args:
        prepare: of a module, makes the input as a tuple; not measured.
        work: of a module; its result is sent back, so it should be small.
        repeats: runs of the work; the seconds are the fastest's, the peak that of all.

    Raises:
        RuntimeError: the work failed, with its trace, or this system tells no peaks.
    """
    if not _RESET.exists():
        raise RuntimeError("peak memory is read from /proc, which this system does not have")
    # A fresh interpreter: a forked child would count what its parent holds.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, prepare, work, arguments, repeats))
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        raise RuntimeError(f"{work.__name__} ended without an answer, exit code {child.exitcode}") from None
    child.join()
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return Measured(*answer)


def _child(
    pipe: Connection, prepare: Callable[..., Any], work: Callable[..., Any], arguments: tuple[Any, ...], repeats: int
) -> None:
    try:
        given = prepare(*arguments)
        gc.collect()
        _RESET.write_text("5")  # the high-water mark starts anew
        before = _resident("VmRSS")
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            result = work(*given)
            best = min(best, time.perf_counter() - start)
        pipe.send((result, best, max(0, _resident("VmHWM") - before)))
    except BaseException:
        pipe.send(f"{work.__name__} failed:\n{traceback.format_exc()}")


def _resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"{_STATUS} has no {name}")
    return 1024 * int(found[1])
