"""The recorder when the disk takes nothing: searches go on, rows wait, and what is lost is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from server.errors import ResourceExhausted
from server.galleries.database import Database
from server.security import recorder as recorders
from server.security.audit import Entry
from server.security.query import Question, ask
from server.security.recorder import LOST, Mode, Recorder
from server.security.segments import FOLDER


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path)) as database:
        yield database


def entry(purpose: str = "", code: str = "OK", method: str = "SearchService/Search") -> Entry:
    made = Entry(method, "anonymous", "ipv4:127.0.0.1:1234", "lobby")
    made.purpose, made.code = purpose, code
    return made


def recording(
    database: Database, work: Callable[[Recorder], Coroutine[Any, Any, None]], mode: Mode = "batched"
) -> None:
    """Runs ``work`` with an open recorder."""

    async def main() -> None:
        recorder = Recorder(mode)
        await recorder.open(database)
        try:
            await work(recorder)
        finally:
            await recorder.close()

    asyncio.run(main())


def rows(database: Database) -> list[tuple[str, str, int]]:
    """Method, purpose and count of every row, the oldest first."""
    page = ask(database, Question(), 0, 1000)
    return [(said.method, said.purpose, said.items) for _, said in reversed(page.rows)]


def full(database: Database, is_full: bool) -> None:
    """Lets the file grow no more, as a full disk would, or grow again."""
    pages = database._writer.execute("PRAGMA page_count").fetchone()[0] if is_full else 2**30
    database._writer.execute(f"PRAGMA max_page_count = {pages}")


def test_what_came_before_the_store_was_open_is_written_then(database: Database) -> None:
    async def main() -> None:
        recorder = Recorder("batched")
        recorder.add(entry("early"))
        await recorder.open(database)
        await recorder.close()

    asyncio.run(main())
    assert rows(database) == [("SearchService/Search", "early", 0)]


def test_rows_wait_while_the_disk_is_full_and_follow_in_order(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorders, "RETRY_SECONDS", 0.001)

    async def work(recorder: Recorder) -> None:
        full(database, True)
        for number in range(300):
            recorder.add(entry(f"{number} " + "x" * 900))
        with pytest.raises(ResourceExhausted):
            await recorder.durable()
        recorder.add(entry("later"))
        full(database, False)
        await recorder.durable()

    recording(database, work)
    assert [purpose.split(" ")[0] for _, purpose, _ in rows(database)] == [*map(str, range(300)), "later"]
    assert "rows of the audit trail wait" in caplog.text


def test_rows_beyond_what_memory_may_hold_are_counted_in_a_row(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "MAX_WAITING", 5)

    async def work(recorder: Recorder) -> None:
        for number in range(12):
            recorder.add(entry(str(number)))
        await recorder.durable()

    recording(database, work)
    assert [purpose for _, purpose, _ in rows(database)] == ["0", "1", "2", "3", "4", ""]
    assert rows(database)[-1] == (LOST, "", 7)


def test_equal_refusals_of_a_moment_are_one_row_and_other_outcomes_are_not(database: Database) -> None:
    async def work(recorder: Recorder) -> None:
        for _ in range(10):
            recorder.add(entry(code="RESOURCE_EXHAUSTED"))
            recorder.add(entry(code="NOT_FOUND"))
        recorder.add(entry(code="RESOURCE_EXHAUSTED", method="SearchService/Extract"))

    recording(database, work)
    calls = [(said.code, said.calls) for _, said in ask(database, Question(), 0, 100).rows]
    assert sorted(calls) == [("NOT_FOUND", 1)] * 10 + [("RESOURCE_EXHAUSTED", 1), ("RESOURCE_EXHAUSTED", 10)]


def test_a_call_whose_transactions_wrote_rows_adds_none_unless_it_failed(database: Database) -> None:
    async def work(recorder: Recorder) -> None:
        for code in ("OK", "CANCELLED"):
            done = entry(code, code)
            done.written()
            recorder.add(done)

    recording(database, work)
    assert [purpose for _, purpose, _ in rows(database)] == ["CANCELLED"]


def test_opening_removes_what_a_kill_left_and_seals_what_is_due(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.security.segments.SEGMENT_ROWS", 3)

    async def fill(recorder: Recorder) -> None:
        for _ in range(4):
            recorder.add(entry())

    recording(database, fill)
    stray = database.folder / FOLDER / "000000000001-000000000009.jsonl.gz.new"
    stray.parent.mkdir()
    stray.write_bytes(b"half")

    async def nothing(recorder: Recorder) -> None:
        assert [path.name for path in stray.parent.iterdir()] == ["000000000001-000000000003.jsonl.gz"]

    with caplog.at_level("INFO"):
        recording(database, nothing)
    assert "a server that was killed had not finished" in caplog.text
    assert "audit trail head 4:" in caplog.text


def test_segments_older_than_the_setting_are_deleted_at_the_next_look(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.security.segments.SEGMENT_ROWS", 2)

    async def fill(recorder: Recorder) -> None:
        for _ in range(6):
            recorder.add(entry())

    async def main(keep_days: float) -> None:
        recorder = Recorder("batched", keep_days)
        await recorder.open(database)
        await recorder.close()

    recording(database, fill)
    asyncio.run(main(0))
    folder = database.folder / FOLDER
    assert len(list(folder.iterdir())) == 3
    with database.write() as connection:
        connection.execute("UPDATE audit_segments SET sealed_at = 0 WHERE first < 5")
    asyncio.run(main(0))
    assert len(list(folder.iterdir())) == 3
    with caplog.at_level("INFO"):
        asyncio.run(main(30))
    assert [path.name[:12] for path in folder.iterdir()] == ["000000000005"]
    assert "older than 30 days" in caplog.text


@pytest.mark.parametrize("failing", ["store", "folder"])
def test_a_full_disk_does_not_keep_a_server_from_starting(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    async def fill(recorder: Recorder) -> None:
        for number in range(20):
            recorder.add(entry(str(number) + "x" * 900))

    async def nothing(recorder: Recorder) -> None:
        pass

    recording(database, fill)
    monkeypatch.setattr("server.security.segments.SEGMENT_ROWS", 20)
    with monkeypatch.context() as patch:
        if failing == "store":
            patch.setattr(database, "write", _refuse)
        else:
            patch.setattr("server.security.segments.os.fsync", _no_space)
        recording(database, nothing)
    assert "upkeep failed" in caplog.text
    assert len(rows(database)) == 20
    recording(database, nothing)
    assert [path.name for path in (database.folder / FOLDER).iterdir()] == ["000000000001-000000000020.jsonl.gz"]
    assert len(rows(database)) == 20


def _refuse() -> Any:
    raise ResourceExhausted("disk is full")


def _no_space(handle: int) -> None:
    raise OSError(28, "No space left on device")
