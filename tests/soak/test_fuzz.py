"""The short form of fuzzing: everything that is wrong at random is refused or answered, and harms nothing."""

from __future__ import annotations

from pathlib import Path

from tests.soak.fuzz import fuzz


def test_inputs_made_wrong_at_random_crash_nothing_and_harm_no_neighbour(tmp_path: Path) -> None:
    harm = fuzz(tmp_path, image_count=320, message_count=300, manifest_count=60)
    assert harm.images >= 300
    assert harm.crashes == []
    assert harm.neighbours_harmed == 0
    assert harm.sound, harm.describe()
    assert {"OK", "INVALID_ARGUMENT"} <= set(harm.codes)
