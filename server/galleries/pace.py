"""What a gallery learns from its own searches: how long an exact one takes, and how much a fast one finds."""

from __future__ import annotations

import threading

FIXED_SECONDS = 0.0005
"""What a search costs before it looks at a row; a tiny gallery must not seem slow per row."""
SMOOTHING = 0.1
FORGETTING = 0.98


class Pace:
    """Running figures; every method may be called from any thread.

    Args:
        recall_every: one in so many fast searches is compared with the exact ranking; 0 compares none.
    """

    def __init__(self, recall_every: int) -> None:
        self._recall_every = recall_every
        self._lock = threading.Lock()
        self._seconds_per_row: float | None = None
        self._fast_searches = 0
        self._found = 0.0
        self._expected = 0.0

    def exact_took(self, rows: int, seconds: float) -> None:
        """Notes an exact search of ``rows`` rows."""
        if rows == 0:
            return
        fresh = max(0.0, seconds - FIXED_SECONDS) / rows
        with self._lock:
            known = self._seconds_per_row
            self._seconds_per_row = fresh if known is None else known + SMOOTHING * (fresh - known)

    def exact_seconds(self, rows: int) -> float:
        """How long an exact search of ``rows`` rows is likely to take; 0 before the first one."""
        known = self._seconds_per_row
        return 0.0 if known is None else FIXED_SECONDS + known * rows

    def sample_is_due(self) -> bool:
        """Counts a fast search; True for the first one and then for every ``recall_every``-th."""
        if self._recall_every == 0:
            return False
        with self._lock:
            self._fast_searches += 1
            return (self._fast_searches - 1) % self._recall_every == 0

    def recalled(self, found: int, expected: int) -> None:
        """Notes that a fast search found so many of the exact matches."""
        with self._lock:
            self._found = FORGETTING * self._found + found
            self._expected = FORGETTING * self._expected + expected

    @property
    def recall(self) -> float | None:
        """Share of the exact matches found, recent samples weighing more; None before the first."""
        with self._lock:
            return self._found / self._expected if self._expected > 0 else None
