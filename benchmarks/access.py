"""Access: what knowing the caller and the audit trail cost a search, without the search itself.

`glimpse bench access` times what the server does beside a search that returns ten matches: recognise the caller,
check role and gallery, gather the row, and later, a thousand at a time, digest, hash and write it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Row
from protos.glimpse.v1 import search_pb2
from server.galleries.database import Database
from server.security.audit import Entry
from server.security.credentials import AccessFile
from server.security.guard import Guard
from server.security.recorder import write_entries
from server.security.roles import ACCESS, Role

METHOD = "/glimpse.v1.SearchService/Search"
GOAL_US = 100
FLUSHED = 1000


class _Peer:
    """The caller's side of a call, with gRPC's own metadata beside the token."""

    def __init__(self, token: str | None) -> None:
        own = (("user-agent", "grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2)"),)
        self._metadata = own if token is None else (*own, ("authorization", f"Bearer {token}"))

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> dict[str, Any]:
        return {}


def run(quick: bool) -> Report:
    report = Report("access")
    rounds, calls = (5, 2_000) if quick else (15, 10_000)
    request = search_pb2.SearchRequest(gallery="lobby", purpose="a missing person", top_k=10)
    matches = [search_pb2.Match(item_id=f"camera-7/{n:06}", person_id=f"{n:04}") for n in range(10)]
    response = search_pb2.SearchResponse(matches=matches)
    access = ACCESS[METHOD]
    entries: list[Entry] = []

    def search(guard: Guard, peer: _Peer) -> None:
        guard.refusal(access, peer.invocation_metadata())
        caller = guard.identify(access, peer)
        entry = Entry("SearchService/Search", caller.name, "ipv4:127.0.0.1:53412")
        guard.allow(access, caller)
        entry.asked(request)
        guard.check(access, caller, request)
        entry.told(response, access.people)
        entries.append(entry)

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        file = AccessFile(data)
        nobody = Guard(file, "auto", certificates=False)
        before = _microseconds(lambda: search(nobody, _OPEN), rounds, calls, entries)
        for _ in range(50):
            _, token = file.create(Role.READER, galleries=("lobby",))
        known, peer = Guard(file, "auto", certificates=False), _Peer(token)
        after = _microseconds(lambda: search(known, peer), rounds, calls, entries)
        with closing(Database(data)) as database:
            written = []
            for _ in range(rounds):
                entries.clear()
                for _ in range(FLUSHED):
                    search(known, peer)
                begun = time.perf_counter()
                write_entries(database, entries)
                written.append((time.perf_counter() - begun) / FLUSHED * 1e6)
    report.add(Row("access_and_audit_of_an_open_server", before, "us/search", f"<= {GOAL_US}"))
    report.add(Row("access_and_audit_with_a_token", after, "us/search", f"<= {GOAL_US}"))
    report.add(Row("audit_row_written_later", statistics.median(written), "us/search", f"<= {GOAL_US}"))
    return report


_OPEN = _Peer(None)


def _microseconds(work: Callable[[], None], rounds: int, calls: int, entries: list[Entry]) -> float:
    """The median over rounds of one call's time."""
    found = []
    for _ in range(rounds):
        entries.clear()
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        found.append((time.perf_counter() - begun) / calls * 1e6)
    return statistics.median(found)
