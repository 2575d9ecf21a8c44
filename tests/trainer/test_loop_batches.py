"""Which batches come, in what order, over how many devices, and when epochs begin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.trainer.sources import banded_people
from trainer.data.training import TrainingSet
from trainer.loop.batches import TrainingBatches, TrainingContext, epoch_steps
from trainer.recipe import AugmentationRecipe, OcclusionRecipe, ScheduleRecipe


def training_set(views: int = 4) -> TrainingSet:
    return TrainingSet([banded_people()], AugmentationRecipe(), OcclusionRecipe(), 3, group=views)


def batches(data: TrainingSet | None = None, *, steps: int = 6, **options: Any) -> TrainingBatches:
    values = {"people": 6, "views": 4} | options.pop("schedule", {})
    return TrainingBatches(
        data or training_set(), ScheduleRecipe(steps=steps, **values), steps=steps, seed=1, **options
    )


def rows(given: TrainingBatches) -> list[list[int]]:
    return [batch.rows.tolist() for batch in given]


def pixels(given: TrainingBatches) -> np.ndarray:
    return np.concatenate([batch.images.numpy() for batch in given])


def test_starting_later_gives_the_rest_of_the_same_batches_to_the_pixel() -> None:
    whole, rest = batches(), batches(start=4)
    assert (len(whole), len(rest)) == (6, 2)
    np.testing.assert_array_equal(pixels(whole)[4 * 24 :], pixels(rest))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    np.testing.assert_array_equal(pixels(batches()), pixels(batches(schedule={"workers": workers})))


@pytest.mark.parametrize("sampling", ["identities", "uniform"])
def test_devices_share_out_what_one_would_accumulate(sampling: str) -> None:
    one = rows(batches(schedule={"accumulate": 2, "sampling": sampling}, steps=3))
    pair = [rows(batches(schedule={"sampling": sampling}, steps=3, rank=rank, devices=2)) for rank in (0, 1)]
    assert one[0::2] == pair[0]
    assert one[1::2] == pair[1]


def test_every_image_is_seen_once_an_epoch_where_sampling_is_uniform() -> None:
    given = rows(batches(schedule={"sampling": "uniform"}, steps=4))
    for epoch in (given[:2], given[2:]):
        assert sorted(row for batch in epoch for row in batch) == list(range(48))


def test_an_epoch_is_as_many_steps_as_there_are_images() -> None:
    schedule = ScheduleRecipe(steps=9, people=4, views=4)
    assert epoch_steps(schedule, 160) == 10
    assert epoch_steps(schedule, 160, devices=2) == 5
    assert epoch_steps(schedule.model_copy(update={"accumulate": 5}), 160) == 2
    assert epoch_steps(schedule, 3) == 1


def test_epochs_begin_before_their_first_batch_and_not_again_within() -> None:
    events: list[str] = []

    def follow(given: TrainingBatches) -> str:
        events.clear()
        for _ in given:
            events.append("batch")  # noqa: PERF401 -- `begin` adds to the list meanwhile
        return " ".join(events)

    def begin(epoch: int) -> None:
        events.append(f"epoch{epoch}")

    assert follow(batches(begin=begin, steps=5)) == "epoch0 batch batch epoch1 batch batch epoch2 batch"
    # The second epoch had begun before.
    assert follow(batches(begin=begin, steps=5, start=3)) == "batch epoch2 batch"


def test_nothing_is_loaded_before_the_first_batch_is_asked_for() -> None:
    def begin(_: int) -> None:
        raise InterruptedError

    iterator = iter(batches(begin=begin))
    with pytest.raises(InterruptedError):
        next(iterator)


@pytest.mark.parametrize("workers", [0, 1])
def test_pseudo_labels_of_an_epoch_reach_its_batches(workers: int) -> None:
    data = training_set()

    def begin(epoch: int) -> None:
        context = TrainingContext(data, epoch)
        assert context.images([1, 2]).shape == (2, 64, 32, 3)
        np.testing.assert_array_equal(context.images(np.array([7]))[0], data.image(7))
        context.set_pseudo_labels(np.arange(40), np.full((40, 4, 2), epoch, np.uint8))

    seen = []
    for batch in batches(data, begin=begin, steps=4, schedule={"workers": workers}):
        first = batch.rows < 40
        seen.append(np.unique(batch.base.pseudo[first][:, 32, 16]).tolist())
        assert (batch.base.pseudo[~first][:, 32, 16] == 255).all()
    assert seen == [[0], [0], [1], [1]]


def test_pseudo_labels_of_a_wrong_kind_are_refused() -> None:
    context = TrainingContext(training_set(), 0)
    with pytest.raises(ValueError, match=r"2 rows need uint8 labels \(n, h, w\), got int64 \(2, 4, 2\)"):
        context.set_pseudo_labels([0, 1], np.zeros((2, 4, 2), np.int64))
