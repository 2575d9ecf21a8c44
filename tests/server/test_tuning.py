"""The choice of a batch size, on models whose times are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from server.extraction.tuning import best_batch


@pytest.mark.parametrize(
    ("milliseconds_an_image", "chosen"),
    [
        ({1: 10, 2: 6, 4: 4, 8: 3}, 8),  # a GPU
        ({1: 6.4, 2: 6.3, 4: 6.0, 8: 6.8}, 4),  # a CPU whose cache is full at 8
        ({1: 6.4, 2: 6.4, 4: 6.4, 8: 6.5}, 8),  # the largest of nearly equal ones
        ({1: 8.7, 2: 9.6, 4: 12, 8: 2}, 1),  # far worse ends the search
    ],
)
def test_batch_with_the_best_throughput_is_chosen(milliseconds_an_image: dict[int, float], chosen: int) -> None:
    warm, clock, _ = made_up(milliseconds_an_image)
    assert best_batch(warm, clock=clock) == chosen


def test_search_ends_where_batches_get_much_slower() -> None:
    warm, clock, sizes = made_up({1: 8.7, 2: 9, 4: 17, 8: 30})
    best_batch(warm, clock=clock)
    assert max(sizes) == 4


def made_up(
    milliseconds_an_image: dict[int, float],
) -> tuple[Callable[[Sequence[int]], None], Callable[[], float], list[int]]:
    now = 0.0
    sizes: list[int] = []

    def warm(batches: Sequence[int]) -> None:
        nonlocal now
        for size in batches:
            sizes.append(size)
            now += size * milliseconds_an_image[size]

    return warm, lambda: now, sizes
