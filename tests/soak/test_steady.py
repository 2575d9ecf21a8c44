"""The short form of the long hour: no errors, and memory and files stay as they were."""

from __future__ import annotations

import json
from pathlib import Path

from tests.soak.steady import GROWTH, Arrivals, Course, noting, steady


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
    paused = course(flat, [0.1] * 10)
    paused.left_out = 1
    assert not paused.sound


def test_what_was_due_while_the_machine_stood_still_does_not_come_at_once() -> None:
    arrivals = Arrivals(rate=100.0, begin=5.0)
    now = 5.0
    for _ in range(2000):
        now = max(now, arrivals.due)
        assert arrivals.arrive(now) <= now
    assert 15 < now < 35
    late = now + 0.5  # a short delay is the server's fault as much as anybody's: all that was due is asked
    assert arrivals.arrive(late) < late
    assert arrivals.left_out == 0
    still = arrivals.due + 3.0
    assert arrivals.arrive(still) == still
    assert 295 <= arrivals.left_out <= 300
    assert still < arrivals.due < still + 1
