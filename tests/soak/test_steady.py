"""The short form of the long hour: no errors, and memory and files stay as they were."""

from __future__ import annotations

import json
from pathlib import Path

from tests.soak.steady import GROWTH, Course, noting, steady


def test_searches_among_adds_and_erases_fail_never_and_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "samples" / "steady.jsonl"
    course = steady(tmp_path, seconds=5, load=0.5, probe=3.0, tell=noting(file))
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(samples) == len(course.p99) > 0
    assert sum(sample["searches"] for sample in samples) <= course.searches
    assert all(0 < sample["p50_ms"] <= sample["p99_ms"] and sample["resident_mib"] > 0 for sample in samples)
    assert not course.errors
    assert course.searches > 0
    assert course.changes > 0
    assert course.growth < GROWTH, course.describe()
    assert course.more_files <= 4, course.describe()


def course(resident: list[int], p99: list[float]) -> Course:
    return Course(searches=1, changes=1, resident=resident, files=[9] * len(resident), p99=p99)


def test_a_leak_and_a_slowdown_are_told_from_a_steady_course() -> None:
    flat = [100 << 20] * 10
    assert course(flat, [0.1] * 10).sound
    assert not course([(100 + 20 * n) << 20 for n in range(10)], [0.1] * 10).sound
    assert not course(flat, [0.1 + 0.1 * n for n in range(10)]).sound
    broken = course(flat, [0.1] * 10)
    broken.errors["INTERNAL"] += 1
    assert not broken.sound
