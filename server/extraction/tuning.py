"""How many images one run of the model should hold, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

SIZES = (1, 2, 4, 8)
ROUNDS = 3
SLACK = 1.08
"""A batch may take this much more time an image than the best one and still be preferred for its size."""


def best_batch(
    warm: Callable[[Sequence[int]], None], sizes: Sequence[int] = SIZES, clock: Callable[[], float] = time.perf_counter
) -> int:
    """The batch size with the best throughput; of nearly equal ones the largest.

    The larger of two equals, because what surrounds the model (search, the wire) finds warm caches when it runs
    several times in a row: measured on one core, 2 ms a request less at 8 than at 1. On a GPU the largest wins anyway.
    On a CPU activations that no longer fit the cache can cost more than that: EfficientNet-Lite0 at 256x128 is 12 %
    slower at 8 than at 4.

    Args:
        warm: `Session.warm`: runs black images in the given batch sizes.
        sizes: what to try, ascending. Much slower than the best so far ends the search.
    """
    seconds: dict[int, float] = {}
    for size in sizes:
        warm([size])  # the first run of a size allocates
        seconds[size] = min(_seconds(warm, size, clock) for _ in range(ROUNDS)) / size
        if seconds[size] > 1.25 * min(seconds.values()):
            break
    best = min(seconds.values())
    return max(size for size, each in seconds.items() if each <= SLACK * best)


def _seconds(warm: Callable[[Sequence[int]], None], size: int, clock: Callable[[], float]) -> float:
    started = clock()
    warm([size])
    return clock() - started
