"""Cores from control groups, on made-up hierarchies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glimpse.runtime import threads


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_version_2_quota_is_read_in_the_process_group(tmp_path: Path) -> None:
    write(tmp_path / "cg" / "kubepods" / "pod1", cpu__max="150000 100000")
    (tmp_path / "cgroup").write_text("0::/kubepods/pod1\n")
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "cgroup") == 1.5


def test_tightest_quota_of_the_ancestors_counts(tmp_path: Path) -> None:
    write(tmp_path / "cg" / "kubepods", cpu__max="50000 100000")
    write(tmp_path / "cg" / "kubepods" / "pod1", cpu__max="400000 100000")
    (tmp_path / "cgroup").write_text("0::/kubepods/pod1\n")
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "cgroup") == 0.5


@pytest.mark.parametrize("text", ["max 100000", "", "not a quota at all"])
def test_no_limit_or_an_unreadable_one_is_no_quota(tmp_path: Path, text: str) -> None:
    write(tmp_path / "cg", cpu__max=text)
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "missing") is None


def test_version_1_quota_is_read(tmp_path: Path) -> None:
    write(tmp_path / "cg" / "cpu,cpuacct" / "docker" / "abc", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    (tmp_path / "cgroup").write_text("12:pids:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "cgroup") == 2.0


def test_version_1_without_a_limit_is_no_quota(tmp_path: Path) -> None:
    write(tmp_path / "cg" / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    (tmp_path / "cgroup").write_text("4:cpu:/\n")
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "cgroup") is None


def test_path_that_climbs_out_of_the_hierarchy_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside", cpu__max="50000 100000")
    (tmp_path / "cg").mkdir()
    (tmp_path / "cgroup").write_text("0::/../outside\n")
    assert threads.cgroup_quota(tmp_path / "cg", tmp_path / "cgroup") is None


@pytest.mark.parametrize(("quota", "affinity", "cores"), [(None, 4, 4), (1.5, 4, 2), (0.2, 4, 1), (8.0, 2, 2)])
def test_cores_are_the_smaller_of_affinity_and_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, affinity: int, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert threads.available_cores() == cores
