"""Which images make a batch: P identities with K images each, or any images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class IdentitySampler(Sampler[list[tuple[int, int]]]):  # type: ignore[misc]
    """Yields ``steps`` batches of P * K ``(row, draw)`` pairs; ``draw`` seeds the row's augmentation.

    Identities are taken in a shuffled order without replacement, then shuffled again (or, with ``shares``, drawn by
    them); an identity's images are drawn without replacement where it has K of them, else with.

    Args:
        identities: int64 ``(N,)``, the identity of each row, from 0.
        people: P. views: K. steps: batches to give in all. seed: decides everything.
        start: batches that were given before: they are drawn and left out, so that a resumed run goes on as an
            unbroken one.
        shares: ``(C,)`` how often each identity is drawn, summing to 1.

    Raises:
        ValueError: fewer than P identities.
    """

    def __init__(
        self,
        identities: NDArray[np.int64],
        people: int,
        views: int,
        steps: int,
        seed: int,
        *,
        start: int = 0,
        shares: NDArray[np.float64] | None = None,
    ) -> None:
        self.rows = [np.flatnonzero(identities == identity) for identity in np.unique(identities)]
        if len(self.rows) < people:
            raise ValueError(f"a batch needs {people} identities, the data has {len(self.rows)}")
        self.people, self.views, self.steps, self.seed, self.start = people, views, steps, seed, start
        self.shares = shares

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng(self.seed)
        order: list[int] = []
        draw = 0
        for step in range(self.steps):
            if self.shares is not None:
                chosen = random.choice(len(self.rows), self.people, replace=False, p=self.shares).tolist()
            else:
                if len(order) < self.people:
                    order = random.permutation(len(self.rows)).tolist()
                chosen, order = order[: self.people], order[self.people :]
            batch = []
            for person in chosen:
                rows = self.rows[person]
                for row in random.choice(rows, self.views, replace=len(rows) < self.views):
                    batch.append((int(row), draw))
                    draw += 1
            if step >= self.start:
                yield batch


class UniformSampler(Sampler[list[tuple[int, int]]]):  # type: ignore[misc]
    """Yields ``steps`` batches of ``size`` ``(row, draw)`` pairs in shuffled order, every image once an epoch.

    The end of an epoch that does not fill a batch is left out. ``start`` as in `IdentitySampler`.
    """

    def __init__(self, count: int, size: int, steps: int, seed: int, *, start: int = 0) -> None:
        if count < size:
            raise ValueError(f"a batch needs {size} images, the data has {count}")
        self.count, self.size, self.steps, self.seed, self.start = count, size, steps, seed, start

    def __len__(self) -> int:
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng(self.seed)
        order: list[int] = []
        for step in range(self.steps):
            if len(order) < self.size:
                order = random.permutation(self.count).tolist()
            rows, order = order[: self.size], order[self.size :]
            if step >= self.start:
                yield [(row, step * self.size + i) for i, row in enumerate(rows)]
