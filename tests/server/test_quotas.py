"""Room on disk and in memory: what counts, and when writes are refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.errors import ResourceExhausted
from server.quotas import Quotas, container_bytes, folder_bytes, resident_bytes

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_writes_are_refused_above_the_disk_quota_and_resume_by_themselves(tmp_path: Path) -> None:
    clock = Clock()
    quotas = Quotas(tmp_path, disk_bytes=2 * MIB, clock=clock)
    quotas.check()
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "one.seg").write_bytes(bytes(3 * MIB))
    quotas.check()  # it has looked this second
    clock.now += 1
    with pytest.raises(ResourceExhausted, match=r"takes 3 MiB and may take 2 MiB: writes are refused") as refused:
        quotas.check()
    assert refused.value.retry_after
    (tmp_path / "segments" / "one.seg").unlink()
    clock.now += 1
    quotas.check()


def test_pages_that_a_database_keeps_free_do_not_count(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "glimpse.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (data BLOB)")
        database.executemany("INSERT INTO t VALUES (?)", [(bytes(MIB),)] * 4)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert folder_bytes(tmp_path) > 4 * MIB
        database.execute("DELETE FROM t")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (tmp_path / "glimpse.db").stat().st_size > 4 * MIB
        assert folder_bytes(tmp_path) < MIB


def test_file_that_is_no_database_counts_whole(tmp_path: Path) -> None:
    (tmp_path / "odd.db").write_bytes(b"x" * MIB)
    assert folder_bytes(tmp_path) == MIB


def test_writes_are_refused_above_the_memory_limit(tmp_path: Path) -> None:
    used = [MIB]
    quotas = Quotas(tmp_path, memory_bytes=10 * MIB, resident=lambda: used[0])
    quotas.check()
    used[0] = 11 * MIB
    with pytest.raises(ResourceExhausted, match=r"takes 11 MiB of memory and may take 10 MiB"):
        quotas.check()
    used[0] = 9 * MIB
    quotas.check()


def test_without_a_limit_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.quotas.container_bytes", lambda: 0)
    Quotas(tmp_path, resident=lambda: 1 << 50).check()


def test_limit_of_the_container_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("104857600\n")
    assert container_bytes(limit) == 100 * MIB
    monkeypatch.setattr("server.quotas.container_bytes", lambda: container_bytes(limit))
    assert Quotas(tmp_path).memory_bytes == 90 * MIB
    limit.write_text("max\n")
    assert container_bytes(limit) == 0
    assert container_bytes(tmp_path / "missing") == 0


def test_resident_memory_of_this_process_is_told() -> None:
    assert resident_bytes() > 10 * MIB
    assert resident_bytes(Path("nowhere")) == 0
