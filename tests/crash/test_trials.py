"""The short form of the kill -9 trials; ``GLIMPSE_TRIALS=50`` makes them long."""

from __future__ import annotations

import os
from pathlib import Path

from tests.crash.trials import KINDS, Step, run_trials

TRIALS = int(os.environ.get("GLIMPSE_TRIALS", "6"))


def test_nothing_is_lost_half_written_or_resurrected_by_kill_9(tmp_path: Path) -> None:
    counts = run_trials(tmp_path / "data", TRIALS)
    assert counts.sound, counts
    assert counts.acknowledged > TRIALS


def test_the_trials_take_every_kind_of_step() -> None:
    assert {Step.of(number).kind for number in range(1, 60)} == set(KINDS)
