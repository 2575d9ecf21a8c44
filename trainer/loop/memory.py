"""Memory that a step frees and the next one needs again."""

from __future__ import annotations

import contextlib
import ctypes

_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
_LARGE = 1 << 30
_KEPT = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed, for the life of the process; does nothing with another C library.

    By default glibc gives the hundreds of megabytes of a step's activations back to the system at the end of every
    step, and the next step faults them in again page by page. Kept, a step of `glimpse-baseline` on two cores takes a
    sixth less time (`glimpse bench training`), and inference, which computes less for as much memory, gains more; the
    process stays at the size of its largest step, as it must anyway.
    """
    # No such function outside glibc, no C library by that name outside Unix.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)
