"""Conflicting wheels, by name."""

from __future__ import annotations

import pytest

from glimpse.runtime.wheels import WheelConflict, check_wheels, find_conflicts


def test_both_onnxruntime_wheels_are_named_with_the_repair() -> None:
    with pytest.raises(WheelConflict) as conflict:
        check_wheels(["numpy", "onnxruntime", "onnxruntime-gpu", "faiss-cpu"])
    text = str(conflict.value)
    assert "onnxruntime and onnxruntime-gpu" in text
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in text
    assert "pip install --force-reinstall --no-deps onnxruntime-gpu" in text


@pytest.mark.parametrize("build", ["faiss-gpu", "faiss-gpu-cu12", "faiss_gpu_cuvs", "faiss-cuda"])
def test_every_gpu_build_of_faiss_conflicts_with_the_one_for_the_cpu(build: str) -> None:
    (conflict,) = find_conflicts(["faiss-cpu", build])
    assert conflict.module == "faiss"
    assert conflict.keep == build.replace("_", "-")


def test_both_families_are_reported_at_once() -> None:
    names = ["onnxruntime", "onnxruntime-gpu", "faiss-cpu", "faiss-gpu"]
    assert [conflict.module for conflict in find_conflicts(names)] == ["onnxruntime", "faiss"]


@pytest.mark.parametrize(
    "installed",
    [
        ["onnxruntime", "faiss-cpu"],
        ["onnxruntime-gpu", "faiss-gpu-cuvs"],
        ["onnxruntime", "onnxruntime-extensions", "onnxruntime-ep-nv-tensorrt-rtx-cu13"],
        [],
    ],
)
def test_wheels_that_do_not_share_a_module_are_no_conflict(installed: list[str]) -> None:
    assert find_conflicts(installed) == []


def test_this_environment_has_no_conflict() -> None:
    check_wheels()
