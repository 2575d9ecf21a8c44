"""Batches in training order, from any step on, and the epochs that begin among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from trainer.data.batch import Batch
from trainer.data.sampler import IdentitySampler, UniformSampler
from trainer.data.training import TrainingSet
from trainer.recipe import ScheduleRecipe

Key = tuple[int, int]


class TrainingContext:
    """The training set as a method's ``begin_epoch`` sees it (`trainer.methods.Context`)."""

    def __init__(self, data: TrainingSet, epoch: int) -> None:
        self.epoch = epoch
        self.identities: NDArray[np.int64] = data.identities
        self._data = data

    def images(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Untouched images ``(n, H, W, 3)``."""
        return np.stack([self._data.image(int(row)) for row in rows])

    def set_pseudo_labels(self, rows: Sequence[int] | NDArray[np.int64], labels: NDArray[np.uint8]) -> None:
        """Labels ``(n, h, w)`` that the samples of ``rows`` carry from now on; others keep theirs, 255 at first.

        Raises:
            ValueError: not one label map of unsigned bytes for each row.
        """
        if labels.ndim != 3 or len(labels) != len(rows) or labels.dtype != np.uint8:
            raise ValueError(f"{len(rows)} rows need uint8 labels (n, h, w), got {labels.dtype} {labels.shape}")
        pseudo = self._data.pseudo
        if pseudo is None or pseudo.shape[1:] != labels.shape[1:]:
            pseudo = np.full((len(self._data), *labels.shape[1:]), 255, np.uint8)
            self._data.pseudo = pseudo
        pseudo[np.asarray(rows)] = labels


class TrainingBatches:
    """All batches of a training that are still to come, as one iterable that Lightning takes for a loader.

    Lightning sees a single epoch; the method's epochs, so many steps that every image can be seen once, begin within:
    ``begin`` is called just before the first batch of each is loaded, when everything of the step before is done.

    Over several devices a step consists of ``accumulate`` batches *a device*. The sampler's batches are dealt out in
    turn, so device 0 of 2 takes the 1st, 3rd, 5th ... of the very sequence that one device with twice the
    accumulation would take: identities stay P x K within a device, and no image is seen twice.

    Args:
        data: the training set.
        schedule: batches and workers.
        steps: optimiser steps of the whole training. start: of them done.
        seed: of the sampler.
        shares: how often each identity is drawn (`trainer.data.training.shares_of`).
        begin: called with the epoch; see above. Left out, loading never pauses between epochs.
        rank, devices: which of how many devices this is.

    Raises:
        ValueError: fewer identities, or images, than a batch needs.
    """

    def __init__(
        self,
        data: TrainingSet,
        schedule: ScheduleRecipe,
        *,
        steps: int,
        seed: int,
        start: int = 0,
        shares: NDArray[np.float64] | None = None,
        begin: Callable[[int], None] | None = None,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.data, self.schedule, self.begin = data, schedule, begin
        self.steps, self.start = steps, start
        self.epoch_steps = epoch_steps(schedule, len(data), devices)
        self.rank, self.devices = rank, devices
        self._per_step = schedule.accumulate * devices
        self._sampler = self._build_sampler(seed, shares)

    def __len__(self) -> int:
        return max(0, self.steps - self.start) * self.schedule.accumulate

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing is loaded, and no epoch begun, before the first batch is asked for.
        keys = islice(iter(self._sampler), self.rank, None, self.devices)
        loaded: Iterator[Batch] | None = None
        step = self.start
        while step < self.steps:
            epoch, inside = divmod(step, self.epoch_steps)
            end = min(self.steps, (epoch + 1) * self.epoch_steps)
            if self.begin is not None and inside == 0:
                self.begin(epoch)
            if loaded is None or self.begin is not None:
                # Workers hold a copy of the data from their start: they start anew when it may have changed.
                last = end if self.begin is not None else self.steps
                loaded = iter(self._loader(keys, (last - step) * self.schedule.accumulate))
            yield from islice(loaded, (end - step) * self.schedule.accumulate)
            step = end

    def _build_sampler(self, seed: int, shares: NDArray[np.float64] | None) -> Sampler[list[Key]]:
        schedule = self.schedule
        steps, start = self.steps * self._per_step, self.start * self._per_step
        if schedule.sampling == "uniform":
            size = schedule.people * schedule.views
            return UniformSampler(len(self.data), size, steps, seed, start=start)
        return IdentitySampler(
            self.data.identities, schedule.people, schedule.views, steps, seed, start=start, shares=shares
        )

    def _loader(self, keys: Iterator[list[Key]], count: int) -> DataLoader[Any]:
        return DataLoader(
            self.data,
            batch_sampler=_Next(keys, count),
            collate_fn=Batch.of,
            num_workers=self.schedule.workers,
            # Its own: every loader draws a seed, and the method's draws must not depend on how often one is made.
            generator=torch.Generator().manual_seed(0),
        )


def epoch_steps(schedule: ScheduleRecipe, images: int, devices: int = 1) -> int:
    """Optimiser steps of one epoch: as many as it takes to see so many images, at least one."""
    return max(1, round(images / (schedule.people * schedule.views * schedule.accumulate * devices)))


class _Next(Sampler[list[Key]]):  # type: ignore[misc]
    """The next so many of an iterator that others go on with."""

    def __init__(self, keys: Iterator[list[Key]], count: int) -> None:
        self.keys, self.count = keys, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[Key]]:
        return islice(self.keys, self.count)
