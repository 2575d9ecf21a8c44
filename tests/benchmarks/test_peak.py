"""Memory is measured where it is used: in the work, not in what was there before."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peak import measure

MIB = 1 << 20


def prepared(mebibytes: int) -> tuple[np.ndarray]:
    return (np.ones(mebibytes * MIB, np.uint8),)


def copies(data: np.ndarray) -> int:
    doubled = data + data
    return int(doubled[-1])


def fails(data: np.ndarray) -> None:
    raise ValueError("as told")


def test_the_peak_is_that_of_the_work_alone():
    found = measure(prepared, copies, 60, repeats=2)
    assert found.result == 2
    assert 55 * MIB < found.extra_bytes < 75 * MIB
    assert found.seconds > 0


def test_work_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"fails failed:(.|\n)*ValueError: as told"):
        measure(prepared, fails, 1)
