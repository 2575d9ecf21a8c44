"""Whoever cuts, edits or deletes the trail of a running server is found, by the server and beside it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from protos.glimpse.v1 import admin_pb2, search_pb2
from server.galleries.database import FILE
from server.security import segments
from server.security.verification import verify_folder
from tests.bundles import encoded, person
from tests.server.running import Running

QUERY = encoded(person(1, shot=5))


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        ("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)", r"rows? [89].* missing"),
        ("UPDATE audit SET row = replace(row, 'crowd', 'other') WHERE seq = 7", "row 7 was changed"),
        ("DELETE FROM audit_segments", "the rows before row 7 are missing"),
        ("DELETE FROM audit_segments; DELETE FROM audit", "rows .* missing"),
        ("", r"segment 000000000001-000000000006\.jsonl\.gz cannot be read"),
    ],
    ids=["newest rows cut off", "row edited", "segment and its entry deleted", "everything deleted", "segment deleted"],
)
def test_a_running_server_finds_what_was_done_to_the_trail(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, statements: str, problem: str
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_ROWS", 6)
    with Running(tmp_path / "data", model) as running:
        running.gallery("crowd")
        for _ in range(7):
            running.search.Search(search_pb2.SearchRequest(gallery="crowd", query_image=QUERY))
        assert running.admin.VerifyAudit(admin_pb2.VerifyAuditRequest()).problem == ""  # waits until all are written
        sealed = segments.seal(running.application.floor.catalog.database)
        assert sealed == ["000000000001-000000000006.jsonl.gz"]
        with closing(sqlite3.connect(tmp_path / "data" / FILE)) as connection:
            connection.executescript(statements)
        if not statements or "audit_segments" in statements:
            (tmp_path / "data" / segments.FOLDER / sealed[0]).unlink()
        assert re.search(problem, running.admin.VerifyAudit(admin_pb2.VerifyAuditRequest()).problem)
        assert re.search(problem, verify_folder(tmp_path / "data").problem)
