"""Protocols of several trials: every image once, and means by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glimpse.parts import PartFeatures
from glimpse.preprocessing import Preprocessing
from tests.trainer.evaluation.test_report import figures
from tests.trainer.features import random_features
from trainer.data.listing import ImageSet, Listing, Shots
from trainer.evaluation import Report, extract_listing
from trainer.evaluation.trials import extract_trials, mean_of

SIZE = Preprocessing(height=16, width=16)


def test_every_image_is_run_once_and_each_trial_gets_its_own_rows_and_labels() -> None:
    source = random_features(40, seed=1)
    ran: list[int] = []

    def run(images: np.ndarray) -> PartFeatures:
        rows = images[:, 0, 0, 0].astype(np.int64)
        ran.extend(rows.tolist())
        return source[rows]

    def images(first: int, rows: list[int]) -> ImageSet:
        names = tuple(f"i{first + row}" for row in range(20))
        draw = lambda row: np.full((16, 16, 3), first + row, np.uint8)  # noqa: E731
        return ImageSet(names, np.arange(20) % 5, np.arange(20) % 2, draw).take(np.array(rows))

    one = Listing("halves", images(0, [1, 3, 5, 3]), images(20, [0, 2, 4, 6]), ("split 0",))
    other = Listing("halves", images(0, [5, 7]), images(20, [6, 8, 0]), ("split 1",), Shots(np.array([0, 0]), "min"))
    counted: list[tuple[int, int]] = []
    found = extract_trials([one, other], SIZE, run, lambda *seen: counted.append(seen), model={"seed": "1"})
    assert sorted(ran) == [1, 3, 5, 7, 20, 22, 24, 26, 28]
    assert counted[-1] == (9, 9)
    for trial, extraction in zip((one, other), found, strict=True):
        alone = extract_listing(trial, SIZE, run, model={"seed": "1"})
        assert (extraction.name, extraction.facts, extraction.model) == (alone.name, alone.facts, alone.model)
        assert extraction.shots is trial.shots
        for side in ("query", "gallery"):
            mine, expected = getattr(extraction, side), getattr(alone, side)
            assert mine.ids == expected.ids
            np.testing.assert_array_equal(mine.features.vectors, expected.features.vectors)
            np.testing.assert_array_equal(mine.people, expected.people)
            np.testing.assert_array_equal(mine.cameras, expected.cameras)
    with pytest.raises(ValueError, match="there are no trials"):
        extract_trials([], SIZE, run)


def test_a_mean_over_trials_and_its_spread_by_hand() -> None:
    first = Report("halves", ("split 0",), {"weighted": figures([1], [1]), "hidden 0%-1%": figures([1])})
    second = Report("halves", ("split 1",), {"weighted": figures([1], [2])})
    mean = mean_of([first, second])
    assert list(mean.rows) == ["weighted"]  # the other row is not in every trial
    assert mean.rows["weighted"].queries == 4
    assert mean.rows["weighted"].rank1 == 0.75
    assert mean.rows["weighted"].mAP == 0.875
    assert mean.rows["weighted"].mINP == 0.875
    assert mean.rows["weighted"].mAP_trapezoidal == (1 + 0.625) / 2
    assert mean.spread["weighted"]["rank1"] == pytest.approx(math.sqrt(2 * 0.25**2))
    assert mean.spread["weighted"]["mAP"] == pytest.approx(math.sqrt(2 * 0.125**2))
    assert mean.facts == ("split 0", "mean of 2 trials; the facts above are of the first")
    assert mean.to_dict()["spread"]["weighted"]["rank5"] == 0
    assert mean_of([first]) is first
    with pytest.raises(ValueError, match="at least one report"):
        mean_of([])
