"""PxK sampling: P identities a batch, K images of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class IdentitySampler(Sampler[list[tuple[int, int]]]):  # type: ignore[misc]
    """Yields ``steps`` batches of P * K ``(row, draw)`` pairs; ``draw`` seeds the row's augmentation.

    Identities are taken in a shuffled order without replacement, then shuffled again; an identity's images are drawn
    without replacement where it has K of them, else with.

    Args:
        identities: int64 ``(N,)``, the identity of each row.
        people: P. views: K. steps: batches to give. seed: decides everything.

    Raises:
        ValueError: fewer than P identities.
    """

    def __init__(self, identities: NDArray[np.int64], people: int, views: int, steps: int, seed: int) -> None:
        self.rows = [np.flatnonzero(identities == identity) for identity in np.unique(identities)]
        if len(self.rows) < people:
            raise ValueError(f"a batch needs {people} identities, the data has {len(self.rows)}")
        self.people, self.views, self.steps, self.seed = people, views, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng(self.seed)
        order: list[int] = []
        draw = 0
        for _ in range(self.steps):
            if len(order) < self.people:
                order = random.permutation(len(self.rows)).tolist()
            chosen, order = order[: self.people], order[self.people :]
            batch = []
            for person in chosen:
                rows = self.rows[person]
                for row in random.choice(rows, self.views, replace=len(rows) < self.views):
                    batch.append((int(row), draw))
                    draw += 1
            yield batch
