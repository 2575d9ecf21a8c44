"""What large requests took goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes

LARGE = 1 << 20
"""Bytes from which on a request is worth it."""
SECONDS = 0.5
KEPT = 2 << 20
"""Free bytes that an arena keeps between trims. Setting a threshold ends glibc's own adjustment of this one, and its
128 KiB would give back and fault in again what each batch of searches works with: 80 pages a search, a twentieth of
its time."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


class Trimmer:
    """Has glibc give freed memory back to the system: blocks of a megabyte and more at once, gRPC's many small ones
    every half second while large requests come, and once after.

    By itself glibc keeps both for reuse: sixty requests of 31 MB left 200 MB behind that held nothing any more, now 4.
    Trimming takes a millisecond or two. Elsewhere than on glibc this does nothing.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._malloc_trim = getattr(libc, "malloc_trim", None)
        if self._malloc_trim is not None:
            libc.mallopt(_MMAP_THRESHOLD, LARGE)
            libc.mallopt(_TRIM_THRESHOLD, KEPT)
        self._timer: asyncio.TimerHandle | None = None
        self._more = False

    def large_request(self) -> None:
        """A large request has come. To be called on the event loop."""
        if self._timer is not None:
            self._more = True
        elif self._malloc_trim is not None:
            self._more = False
            self._timer = asyncio.get_running_loop().call_later(SECONDS, self._trim)

    def _trim(self) -> None:
        assert self._malloc_trim is not None
        asyncio.get_running_loop().run_in_executor(None, self._malloc_trim, 0)
        self._timer = None
        if self._more:
            self.large_request()
