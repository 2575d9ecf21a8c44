"""Half splits: a set without a training part is tested on a random half of its people and trained on the other.

AFPB (Zhuo et al., ICME 2018) and T-MSPR report such figures; neither published its splits, so ours are seeded draws
and only their mean over all trials means anything. They do not compare with figures of models trained elsewhere.
"""

from __future__ import annotations

import numpy as np

from trainer.data.listing import DatasetError, ImageSet, Int64

TRIALS = 10


def half(people: Int64, split: int) -> tuple[Int64, Int64]:
    """Training people and test people of one split, sorted; of an odd number the test half has one more.

    Args:
        people: person numbers, repeated or not; their set alone decides.
        split: 0 to 9, the seed.

    Raises:
        DatasetError: no such split, or fewer than 4 people.
    """
    if not isinstance(split, int) or not 0 <= split < TRIALS:
        raise DatasetError(f"split must be 0 to {TRIALS - 1}, got {split!r}")
    everybody = np.unique(people)
    if len(everybody) < 4:
        raise DatasetError(f"a half split needs at least 4 people, got {len(everybody)}")
    shuffled = np.random.default_rng(split).permutation(everybody)
    return np.sort(shuffled[: len(shuffled) // 2]), np.sort(shuffled[len(shuffled) // 2 :])


def half_fact(split: int) -> str:
    """What a report says beside a figure."""
    return (
        f"half split {split} of {TRIALS}, seed {split}: half of the people train, the other half tests; "
        f"report the mean of all {TRIALS}"
    )


def take_people(images: ImageSet, people: Int64) -> ImageSet:
    """The images of some people."""
    return images.take(np.flatnonzero(np.isin(images.people, people)))
