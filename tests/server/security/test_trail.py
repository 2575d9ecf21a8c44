"""The chain of rows: what was changed, removed or reordered is found, across sealed segments too."""

from __future__ import annotations

import gzip
import hmac
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.errors import FailedPrecondition, InvalidArgument
from server.galleries.database import FILE, Database
from server.security import audit, query, segments
from server.security.audit import MAX_IDS, Entry
from server.security.query import Question, ask
from server.security.segments import FOLDER, PRUNED, prune, seal, sweep
from server.security.trail import BEGINNING, Digester, append, hash_of, head_of, text_of
from server.security.verification import Ends, Head, Verdict, verify, verify_folder


def row(database: Database, method: str = "SearchService/Search", **fields: object) -> tuple[str, bytes]:
    entry = Entry(method, "token:abcdefgh", "ipv4:127.0.0.1:9", "lobby")
    for name, value in fields.items():
        setattr(entry, name, value)
    return text_of(entry), database.digester.all_of(entry)


def fill(database: Database, count: int, **fields: object) -> None:
    with database.write() as connection:
        append(connection, [row(database, items=[f"item-{n}"], count=1, **fields) for n in range(count)])


def check(database: Database, head: Head | None = None) -> Verdict:
    with database.read() as connection:
        ends = Ends.read(connection)
    return verify(ends, database.folder, head)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path)) as database:
        yield database


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 4)


def test_an_empty_trail_is_whole(database: Database) -> None:
    assert check(database) == Verdict(0, 0, Head(0, BEGINNING), "")


def test_each_hash_covers_the_one_before(database: Database) -> None:
    fill(database, 3)
    with database.read() as connection:
        rows = connection.execute("SELECT seq, row, digests, hash FROM audit ORDER BY seq").fetchall()
        head = head_of(connection)
    before = BEGINNING
    for seq, text, digests, digest in rows:
        assert digest == hash_of(before, seq, text, digests)
        before = digest
    assert head == (3, before)
    assert check(database) == Verdict(3, 1, Head(3, before), "")


TAMPERING: dict[str, tuple[str, str]] = {
    "changed": ("UPDATE audit SET row = replace(row, 'abcdefgh', 'hgfedcba') WHERE seq = 5", "row 5 was changed"),
    "digests changed": ("UPDATE audit SET digests = zeroblob(12) WHERE seq = 5", "row 5 was changed"),
    "hash changed": ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 5", "row 5 was changed"),
    "removed": ("DELETE FROM audit WHERE seq = 5", "row 5 is missing"),
    "several removed": ("DELETE FROM audit WHERE seq BETWEEN 4 AND 6", "rows 4 to 6 are missing"),
    "first removed": ("DELETE FROM audit WHERE seq < 3", "rows before row 3 are missing"),
    "last removed": ("DELETE FROM audit WHERE seq = 10", "row 10 is missing"),
    "all removed": ("DELETE FROM audit", "rows 1 to 10 are missing"),
    "renumbered": (
        "DELETE FROM audit WHERE seq = 5; UPDATE audit SET seq = seq - 1 WHERE seq > 5",
        "row 5 was changed",
    ),
    "reordered": (
        "UPDATE audit SET seq = CASE seq WHEN 5 THEN 106 WHEN 6 THEN 105 END WHERE seq IN (5, 6);"
        "UPDATE audit SET seq = seq - 100 WHERE seq > 100",
        "row 5 was changed",
    ),
    "added": ("INSERT INTO audit SELECT 11, row, digests, hash FROM audit WHERE seq = 10", "row 11 was changed"),
    "head moved": ("UPDATE audit_head SET seq = 11", "row 11 is missing"),
    "head changed": ("UPDATE audit_head SET hash = zeroblob(32)", "another one than the head"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found_and_named(tmp_path: Path, how: str) -> None:
    with closing(Database(tmp_path)) as database:
        fill(database, 10)
    statements, problem = TAMPERING[how]
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.executescript(statements)
    verdict = verify_folder(tmp_path)
    assert problem in verdict.problem


def forge(connection: sqlite3.Connection) -> None:
    """Changes row 5 and everything after it, as someone would who knows how the chain is made."""
    connection.execute("UPDATE audit SET row = replace(row, 'abcdefgh', 'hgfedcba') WHERE seq = 5")
    before = BEGINNING
    for seq, text, digests in connection.execute("SELECT seq, row, digests FROM audit ORDER BY seq").fetchall():
        before = hash_of(before, seq, text, digests)
        connection.execute("UPDATE audit SET hash = ? WHERE seq = ?", (before, seq))
    connection.execute("UPDATE audit_head SET hash = ?", (before,))
    connection.commit()


def test_a_trail_that_was_rewritten_throughout_is_found_by_a_head_noted_before(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as database:
        fill(database, 7)
        noted = check(database).head
        fill(database, 3)
    assert verify_folder(tmp_path, noted).problem == ""
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        forge(connection)
    assert verify_folder(tmp_path).problem == ""  # the chain alone cannot know
    assert "row 7 is another one than the head noted earlier" in verify_folder(tmp_path, noted).problem


def test_an_older_copy_is_found_by_a_head_noted_later(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as database:
        fill(database, 5)
        noted = Head(9, bytes(32))
    assert "ends at row 5, before row 9" in verify_folder(tmp_path, noted).problem


@pytest.mark.parametrize("text", ["", "12", "x:" + "0" * 64, "1:" + "0" * 63, "-1:" + "0" * 64, "1:" + "g" * 64])
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected NUMBER:HASH"):
        Head.parse(text)


def test_a_head_survives_being_written_down() -> None:
    head = Head(12, bytes(range(32)))
    assert Head.parse(str(head)) == head


def test_the_chain_goes_on_across_sealed_segments(database: Database, small_segments: None) -> None:
    fill(database, 10)
    whole = check(database)
    names = seal(database)
    assert names == ["000000000001-000000000004.jsonl.gz", "000000000005-000000000008.jsonl.gz"]
    with database.read() as connection:
        assert [seq for (seq,) in connection.execute("SELECT seq FROM audit ORDER BY seq")] == [9, 10]
    assert check(database) == whole
    fill(database, 3)
    seal(database)
    assert check(database).rows == 13
    assert check(database, whole.head).problem == ""


def test_rows_are_sealed_when_the_oldest_is_old(database: Database, small_segments: None) -> None:
    fill(database, 2)
    assert seal(database) == []
    fill(database, 1, time=0)  # a clock that was wrong: only the oldest row counts
    assert seal(database) == []
    assert seal(database, everything=True) == ["000000000001-000000000003.jsonl.gz"]
    fill(database, 1, time=0)
    assert seal(database) == ["000000000004-000000000004.jsonl.gz"]
    assert check(database).problem == ""


def _swap(folder: Path) -> None:
    first, second = sorted(folder.iterdir())[:2]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def _edit(folder: Path) -> None:
    first = min(folder.iterdir())
    first.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()).replace(b"abcdefgh", b"hgfedcba"), mtime=0))


def _flip(folder: Path) -> None:
    first = min(folder.iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: min(folder.iterdir()).unlink(), "000000000001-000000000004.jsonl.gz cannot be read"),
        (lambda folder: min(folder.iterdir()).write_bytes(b""), "differs from its checksum"),
        (_flip, "differs from its checksum"),
        (_edit, "differs from its checksum"),
        (_swap, "differs from its checksum"),
    ],
    ids=["gone", "empty", "bit", "edited", "swapped"],
)
def test_a_segment_that_was_touched_is_named(
    database: Database, small_segments: None, damage: Callable[[Path], None], problem: str
) -> None:
    fill(database, 10)
    seal(database)
    damage(database.folder / FOLDER)
    assert problem in check(database).problem
    with pytest.raises(FailedPrecondition, match="audit verify"):
        ask(database, Question(), 0, 100)


def test_a_segment_with_a_forged_checksum_does_not_fit_the_chain(tmp_path: Path, small_segments: None) -> None:
    with closing(Database(tmp_path)) as database:
        fill(database, 10)
        seal(database)
    _edit(tmp_path / FOLDER)
    import hashlib

    digest = hashlib.sha256(min((tmp_path / FOLDER).iterdir()).read_bytes()).digest()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE audit_segments SET sha256 = ? WHERE first = 1", (digest,))
        connection.commit()
    assert "row 1 was changed" in verify_folder(tmp_path).problem


def test_a_kill_while_sealing_leaves_the_rows_where_they_were(
    database: Database, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 5)

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            seal(database)
    (database.folder / FOLDER / "000000000001-000000000004.jsonl.gz.new").write_bytes(b"half")
    assert check(database).rows == 5
    assert len(sweep(database)) == 2
    assert list((database.folder / FOLDER).iterdir()) == []
    assert seal(database) == ["000000000001-000000000004.jsonl.gz"]
    assert sweep(database) == []
    assert check(database).problem == ""


def test_old_segments_are_deleted_and_a_row_says_so(database: Database, small_segments: None) -> None:
    fill(database, 12)
    seal(database)
    assert prune(database, keep_days=1) == []
    far = 4_000_000_000.0
    assert len(prune(database, keep_days=1, now=far)) == 2  # the newest stays: the chain goes on from its end
    verdict = check(database)
    assert (verdict.problem, verdict.first, verdict.rows) == ("", 9, 5)
    page = ask(database, Question(method=PRUNED), 0, 10)
    assert [(said.items, said.caller) for _, said in page.rows] == [(8, "server")]
    # whoever deletes a segment by hand is not excused by it
    with database.write() as connection:
        connection.execute("DELETE FROM audit_segments WHERE first = 9")
    assert "rows before row 13 are missing" in check(database).problem


def test_rows_are_found_by_what_they_say_and_whom_they_are_about(database: Database, small_segments: None) -> None:
    with database.write() as connection:
        append(
            connection,
            [
                row(database, items=["a"], people={"anna": None}, time=1_000),
                row(database, items=["b"], people={"ben": None}, time=2_000, code="NOT_FOUND"),
                row(database, "GalleryService/Upsert", items=["a"], people={"ben": None}, time=3_000, caller="server"),
                row(database, items=["a"], gallery="door", time=500),  # a clock that was set back
                row(database, time=5_000, gallery="door"),
            ],
        )
    seal(database)

    def found(**fields: object) -> list[int]:
        return [each.seq for each, _ in ask(database, Question(**fields), 0, 10).rows]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1]
    assert found(gallery="lobby", item_id="a") == [3, 1]
    assert found(gallery="lobby", person_id="ben") == [3, 2]
    assert found(gallery="lobby", person_id="ben", item_id="a") == [3]
    assert found(gallery="door", item_id="a") == [4]
    assert found(gallery="door", person_id="anna") == []
    assert found(method="Upsert") == found(method="GalleryService/Upsert") == [3]
    assert found(caller="abcdefgh") == found(caller="token:abcdefgh") == [5, 4, 2, 1]
    assert found(caller="server") == [3]
    assert found(code="NOT_FOUND") == [2]
    assert found(since=1_000, until=3_000) == [2, 1]
    with pytest.raises(InvalidArgument, match="needs its gallery"):
        Question(item_id="a")


def test_pages_follow_each_other_without_gap_or_repeat(
    database: Database, small_segments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database, 11)
    seal(database)
    monkeypatch.setattr(query, "MAX_LOOKED_AT", 3)
    monkeypatch.setattr(query, "CHUNK", 2)
    for size in (1, 2, 5, 100):
        seen: list[int] = []
        before = 0
        while True:
            page = ask(database, Question(), before, size)
            assert len(page.rows) <= size
            seen += [each.seq for each, _ in page.rows]
            before = page.next_before
            if not before:
                break
        assert seen == list(range(11, 0, -1))


def test_ids_leave_no_trace_but_digests_of_this_stores_key(tmp_path: Path) -> None:
    with closing(Database(tmp_path)) as database:
        fill(database, 2, people={"anna-karenina": None})
        key = database.key("audit")
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"anna-karenina" not in data
    assert b"item-1" not in data
    assert Digester(key).person("lobby", "anna-karenina") in data
    with closing(Database(tmp_path / "another")) as database:
        assert database.key("audit") != key


def test_a_row_about_several_galleries_is_found_by_each(database: Database) -> None:
    with audit.acting("Erase"), database.write():
        audit.touch(["a"], ["anna"], gallery="lobby")
        audit.touch(["b"], ["ben"], gallery="door")

    def found(**fields: str) -> list[int]:
        return [each.seq for each, _ in ask(database, Question(**fields), 0, 10).rows]  # type: ignore[arg-type]

    ((row, said),) = ask(database, Question(), 0, 10).rows
    assert (said.gallery, said.items, len(row.digests)) == ("", 2, 4 * 12)
    assert found(gallery="lobby", item_id="a") == found(gallery="door", person_id="ben") == [1]
    assert found(gallery="door", item_id="a") == found(gallery="lobby", person_id="ben") == []
    assert found(gallery="lobby") == []


def test_digests_are_hmacs() -> None:
    key = bytes(range(32))
    expected = hmac.digest(key, b"person\0lobby\0anna", "sha256")[:12]
    assert Digester(key).person("lobby", "anna") == expected
    assert Digester(key).item("lobby", "anna") != expected
    assert Digester(key).person("door", "anna") != expected


def test_a_row_names_a_bounded_number_of_ids(database: Database) -> None:
    entry = Entry("X", "server", "", "lobby")
    audit.begin(entry)
    try:
        audit.touch([f"i{n}" for n in range(MAX_IDS + 5)], [f"p{n}" for n in range(3)])
    finally:
        audit.begin(None)
    assert (entry.count, len(entry.items), len(entry.people)) == (MAX_IDS + 5, MAX_IDS, 3)
