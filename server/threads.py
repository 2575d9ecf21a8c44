"""Threads beside each other: whose turn it is in an interpreter that runs one at a time.

A search leaves the interpreter for its kernels and comes back a dozen times. If another thread computes in Python just
then, it waits for that one's turn to end, each time: beside an upsert, which counts checksums, a search of 10 ms became
one of 60. Turns are short only while somebody asks for it: under a flood of requests long ones are better, because the
event loop, which always has something to do then, would take its turn from the model's thread as often.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SHORT_SECONDS = 0.0005

_lock = threading.Lock()
_asking = 0
_usual = sys.getswitchinterval()


@contextmanager
def short_turns() -> Iterator[None]:
    """For work that computes in Python and can wait: other threads are let in after `SHORT_SECONDS`."""
    global _asking
    with _lock:
        _asking += 1
        sys.setswitchinterval(SHORT_SECONDS)
    try:
        yield
    finally:
        with _lock:
            _asking -= 1
            if not _asking:
                sys.setswitchinterval(_usual)
