"""The short form of SIGTERM under load: nothing that was accepted fails, nothing that was acknowledged is lost."""

from __future__ import annotations

from pathlib import Path

from tests.soak.stopping import Stops, stop_under_load


def test_sigterm_under_load_fails_no_accepted_request_and_loses_nothing(tmp_path: Path) -> None:
    done = stop_under_load(tmp_path, stops=1)
    assert done.stops == 1
    assert done.sound, done.describe()


def test_whatever_goes_wrong_is_seen() -> None:
    fine = {"stops": 1, "answered": 9, "acknowledged": 3}
    assert Stops(**fine).sound
    assert not Stops(**{**fine, "answered": 0}).sound
    assert not Stops(**fine, unheard=1).sound
    assert not Stops(**fine, lost=1).sound
    broken = Stops(**fine)
    broken.failed["SearchService/Search UNAVAILABLE"] += 1
    assert not broken.sound
    assert "failed 1" in broken.describe()
