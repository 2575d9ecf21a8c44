"""Turns of threads are short as long as anybody asks for it."""

from __future__ import annotations

import sys

import pytest

from server.threads import SHORT_SECONDS, short_turns


def test_turns_are_short_until_the_last_one_who_asked_is_done() -> None:
    usual = sys.getswitchinterval()
    with short_turns():
        with pytest.raises(KeyError), short_turns():
            raise KeyError
        assert sys.getswitchinterval() == pytest.approx(SHORT_SECONDS, rel=0.01)
    assert sys.getswitchinterval() == usual
