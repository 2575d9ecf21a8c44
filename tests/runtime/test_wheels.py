"""Conflicting wheels, by name."""

from __future__ import annotations

import pytest

from glimpse.runtime.wheels import WheelConflict, check_wheels, find_conflicts


def test_both_onnxruntime_wheels_are_named_with_the_repair() -> None:
    with pytest.raises(WheelConflict) as conflict:
        check_wheels(["numpy", "onnxruntime", "onnxruntime-gpu"])
    text = str(conflict.value)
    assert "onnxruntime and onnxruntime-gpu" in text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in text
    assert "pip install --force-reinstall --no-deps onnxruntime-gpu" in text


@pytest.mark.parametrize(
    "installed",
    [
        ["onnxruntime", "numpy"],
        ["onnxruntime-gpu"],
        ["onnxruntime", "onnxruntime-extensions", "onnxruntime-ep-nv-tensorrt-rtx-cu13"],
        [],
    ],
)
def test_wheels_that_do_not_share_a_module_are_no_conflict(installed: list[str]) -> None:
    assert find_conflicts(installed) == []


def test_this_environment_has_no_conflict() -> None:
    check_wheels()
