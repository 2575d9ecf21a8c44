"""What a server writes into its audit trail: every call that reads or changes, in the change's own transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from protos.glimpse.v1 import admin_pb2, gallery_pb2, search_pb2
from server.galleries import database as databases
from server.galleries.database import FILE
from server.security.audit import Entry
from server.security.credentials import AccessFile
from server.security.recorder import Recorder
from server.security.roles import ACCESS, Role
from server.security.verification import verify_folder
from tests.bundles import encoded, person
from tests.server.running import Running
from tests.server.security.calls import METHODS, bearer, call, request_for

QUERY = encoded(person(1, shot=5))


class Trail:
    """A server and what it has written down since the last look, newest last."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self._seen = 0
        self.look()

    def look(self) -> list[admin_pb2.AuditRow]:
        response = self.running.admin.QueryAudit(admin_pb2.QueryAuditRequest(page_size=1000))
        rows = [row for row in reversed(response.rows) if row.sequence > self._seen]
        self._seen = response.rows[0].sequence if response.rows else 0
        return [row for row in rows if row.method != "AdminService/QueryAudit"]

    def about(self, **fields: str) -> list[int]:
        """Rows that are found by an item or person."""
        response = self.running.admin.QueryAudit(admin_pb2.QueryAuditRequest(**fields))
        return [row.sequence for row in response.rows]


@pytest.fixture
def trail(server: Running) -> Trail:
    return Trail(server)


def on_disk(folder: Path) -> list[dict[str, Any]]:
    """The rows of the file itself, as another process sees them."""
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return [json.loads(text) for (text,) in connection.execute("SELECT row FROM audit ORDER BY seq")]


@pytest.mark.parametrize("method", METHODS)
def test_a_call_leaves_a_row_if_its_method_is_about_people(trail: Trail, method: str) -> None:
    code, _ = call(trail.running.channel, method, request_for(method, "nowhere"))
    name = method.removeprefix("/glimpse.v1.")
    rows = trail.look()
    if method.endswith("QueryAudit"):  # which `look` leaves out
        rows = [row for row in _all(trail.running) if row.method == name][:1]
    if ACCESS[method].audit:
        assert [(row.method, row.code) for row in rows] == [(name, code)]
        assert rows[0].caller == "anonymous"
        assert rows[0].peer.startswith("ipv4:127.0.0.1")
        if ACCESS[method].galleries:
            assert rows[0].gallery == "nowhere"
    else:
        assert rows == []
    if method.endswith("/CreateGallery"):
        trail.running.galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(gallery="nowhere"))


def _all(running: Running) -> list[admin_pb2.AuditRow]:
    return list(running.admin.QueryAudit(admin_pb2.QueryAuditRequest(page_size=1000)).rows)


def test_a_search_tells_who_asked_why_and_about_whom_but_holds_no_id(trail: Trail) -> None:
    request = search_pb2.SearchRequest(gallery="crowd", query_image=QUERY, top_k=3, purpose="missing person 17")
    matches = trail.running.search.Search(request).matches
    (row,) = trail.look()
    assert (row.method, row.gallery, row.purpose, row.top_k, row.items, row.code) == (
        "SearchService/Search",
        "crowd",
        "missing person 17",
        3,
        3,
        "OK",
    )
    for match in matches:
        assert row.sequence in trail.about(gallery="crowd", item_id=match.item_id)
        assert row.sequence in trail.about(gallery="crowd", person_id=match.person_id)
    absent = next(str(n) for n in range(12) if str(n) not in {match.person_id for match in matches})
    assert row.sequence not in trail.about(gallery="crowd", person_id=absent)
    assert row.sequence not in trail.about(gallery="other", person_id=matches[0].person_id)


def test_every_request_of_a_search_stream_is_a_row(trail: Trail) -> None:
    requests = [
        search_pb2.SearchRequest(gallery="crowd", item_id="1-0", purpose="first", top_k=2),
        search_pb2.SearchRequest(gallery="nowhere", item_id="1-0", purpose="second"),
        search_pb2.SearchRequest(gallery="crowd", purpose="third"),
    ]
    assert len(list(trail.running.search.SearchStream(iter(requests)))) == 3
    rows = sorted(trail.look(), key=lambda row: row.purpose)
    assert [(row.purpose, row.gallery, row.code, row.items) for row in rows] == [
        ("first", "crowd", "OK", 2),
        ("second", "nowhere", "NOT_FOUND", 0),
        ("third", "crowd", "INVALID_ARGUMENT", 0),
    ]


def test_a_whole_ranking_is_a_row_a_page(trail: Trail) -> None:
    request = search_pb2.SearchRequest(gallery="crowd", item_id="1-0", purpose="all")
    pages = list(trail.running.search.SearchAll(request))
    rows = trail.look()
    assert [(row.method, row.purpose, row.items) for row in rows] == [
        ("SearchService/SearchAll", "all", len(page.matches)) for page in pages
    ]
    assert rows[0].sequence in trail.about(gallery="crowd", person_id="7")


def test_items_that_are_read_listed_changed_and_deleted_leave_their_rows(trail: Trail) -> None:
    running = trail.running
    running.gallery("changing")
    item = gallery_pb2.Item(item_id="a", image=encoded(person(1)), person_id="anna")
    bad = gallery_pb2.Item(item_id="b")
    gone = gallery_pb2.Item(item_id="c", image=encoded(person(2)), person_id="carl")
    running.upsert("changing", [item, bad, gone])
    running.galleries.GetItem(gallery_pb2.GetItemRequest(gallery="changing", item_id="a"))
    running.galleries.ListItems(gallery_pb2.ListItemsRequest(gallery="changing"))
    running.galleries.UpdateItem(gallery_pb2.UpdateItemRequest(gallery="changing", item_id="a", person_id="ben"))
    running.galleries.DeleteItems(gallery_pb2.DeleteItemsRequest(gallery="changing", item_ids=["c"]))
    delete = gallery_pb2.DeleteItemsRequest(gallery="changing", filter=search_pb2.Filter(person_ids=["ben"]))
    running.galleries.DeleteItems(delete)
    running.galleries.DeleteItems(delete)  # nobody is left: no transaction, a row all the same
    running.galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(gallery="changing"))
    rows = {row.sequence: (row.method.partition("/")[2], row.gallery, row.items, row.code) for row in trail.look()}
    assert sorted(rows.values()) == [
        ("CreateGallery", "changing", 0, "OK"),
        ("DeleteGallery", "changing", 0, "OK"),
        ("DeleteItems", "changing", 0, "OK"),
        ("DeleteItems", "changing", 1, "OK"),
        ("DeleteItems", "changing", 1, "OK"),
        ("GetItem", "changing", 1, "OK"),
        ("ListItems", "changing", 2, "OK"),
        ("UpdateItem", "changing", 1, "OK"),
        ("Upsert", "changing", 2, "OK"),
    ]

    def methods(**about: str) -> set[str]:
        return {rows[sequence][0] for sequence in trail.about(gallery="changing", **about)}

    assert methods(item_id="a") == {"Upsert", "GetItem", "ListItems", "UpdateItem", "DeleteItems"}
    assert methods(person_id="anna") == {"Upsert", "GetItem", "ListItems", "UpdateItem"}  # whose it was, too
    assert methods(person_id="ben") == {"UpdateItem", "DeleteItems"}
    assert methods(person_id="carl") == {"Upsert", "ListItems", "DeleteItems"}  # deleted by the item's id alone
    assert methods(item_id="b") == set()


def test_an_upsert_that_replaces_items_names_the_people_whose_they_were(trail: Trail) -> None:
    running = trail.running
    running.gallery("replacing")
    for person_id in ("anna", "ben", "ben"):
        item = gallery_pb2.Item(item_id="a", image=encoded(person(1)), person_id=person_id)
        running.upsert("replacing", [item])
    upserts = [row for row in trail.look() if row.method.endswith("/Upsert")]
    first, second, third = sorted(upserts, key=lambda row: row.sequence)
    assert [row.items for row in (first, second, third)] == [1, 1, 1]
    named = {name: trail.about(gallery="replacing", person_id=name) for name in ("anna", "ben")}
    assert set(named["anna"]) == {first.sequence, second.sequence}
    assert set(named["ben"]) == {second.sequence, third.sequence}


def test_a_gallery_has_its_own_name_in_every_row_whatever_its_caller_calls_it(trail: Trail) -> None:
    running = trail.running
    running.gallery("new-lobby")
    running.application.floor.catalog.set_alias("lobby", "new-lobby")
    trail.look()
    item = gallery_pb2.Item(item_id="a", image=encoded(person(1)), person_id="anna")
    requests = [gallery_pb2.UpsertRequest(gallery="lobby", items=[item]), gallery_pb2.UpsertRequest(items=[item])]
    assert len(list(running.galleries.Upsert(iter(requests)))) == 2
    request = search_pb2.SearchRequest(gallery="lobby", query_image=QUERY)
    assert running.search.Search(request).matches
    assert len(list(running.search.SearchStream(iter([request])))) == 1
    assert len(list(running.search.SearchAll(request))) == 1
    rows = trail.look()
    assert [row.gallery for row in rows] == ["new-lobby"] * 5
    for name in ("lobby", "new-lobby"):
        assert set(trail.about(gallery=name, person_id="anna")) >= {row.sequence for row in rows}


def test_snapshots_aliases_and_migrations_are_named_in_their_rows(trail: Trail) -> None:
    running = trail.running
    galleries = running.galleries
    running.gallery("kept")
    running.upsert("kept", [gallery_pb2.Item(item_id="a", image=encoded(person(1)))])
    trail.look()
    galleries.SetAlias(gallery_pb2.SetAliasRequest(alias="front", gallery="kept"))
    galleries.CreateSnapshot(gallery_pb2.CreateSnapshotRequest(gallery="front", snapshot="nightly"))
    made = galleries.CreateSnapshot(gallery_pb2.CreateSnapshotRequest(gallery="kept")).snapshot
    galleries.RestoreSnapshot(gallery_pb2.RestoreSnapshotRequest(snapshot="nightly", replace=True))
    galleries.RestoreSnapshot(gallery_pb2.RestoreSnapshotRequest(snapshot="nightly", gallery="kept-2"))
    galleries.DeleteSnapshot(gallery_pb2.DeleteSnapshotRequest(snapshot="nightly"))
    galleries.DeleteSnapshot(gallery_pb2.DeleteSnapshotRequest(snapshot=made))
    with pytest.raises(grpc.RpcError):
        galleries.DeleteSnapshot(gallery_pb2.DeleteSnapshotRequest(snapshot="nightly"))
    with pytest.raises(grpc.RpcError):
        galleries.MigrateGallery(gallery_pb2.MigrateGalleryRequest(gallery="kept", into="crowd", alias="front"))
    galleries.DeleteAlias(gallery_pb2.DeleteAliasRequest(alias="front"))
    rows = [(row.method.partition("/")[2], row.gallery, row.target, row.items, row.code) for row in trail.look()]
    assert sorted(rows) == sorted(
        [
            ("SetAlias", "kept", "alias front", 0, "OK"),
            ("CreateSnapshot", "kept", "snapshot nightly", 1, "OK"),
            ("CreateSnapshot", "kept", f"snapshot {made}", 1, "OK"),
            ("RestoreSnapshot", "kept", "snapshot nightly", 1, "OK"),
            ("RestoreSnapshot", "kept-2", "snapshot nightly", 1, "OK"),
            ("DeleteSnapshot", "kept", "snapshot nightly", 1, "OK"),
            ("DeleteSnapshot", "kept", f"snapshot {made}", 1, "OK"),
            ("DeleteSnapshot", "", "snapshot nightly", 0, "NOT_FOUND"),
            ("MigrateGallery", "kept", "alias front, gallery crowd", 0, "FAILED_PRECONDITION"),
            ("DeleteAlias", "kept", "alias front", 0, "OK"),
        ]
    )


def test_a_change_is_on_disk_with_its_row_when_it_is_acknowledged(server: Running) -> None:
    server.gallery("together")
    before = len(on_disk(server.settings.data))
    server.upsert("together", [gallery_pb2.Item(item_id="a", image=encoded(person(1)))])
    added = on_disk(server.settings.data)[before:]
    assert [(row["method"], row["gallery"]) for row in added if row["gallery"] == "together"][-1:] == [
        ("GalleryService/Upsert", "together")
    ]


def test_what_cannot_be_audited_is_not_done(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gallery("all-or-nothing")

    def broken(*arguments: Any) -> None:
        raise sqlite3.OperationalError("no room for the row")

    with monkeypatch.context() as patch:
        patch.setattr(databases, "append", broken)
        with pytest.raises(grpc.RpcError) as error:
            server.upsert("all-or-nothing", [gallery_pb2.Item(item_id="a", image=encoded(person(1)))])
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    info = server.galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery="all-or-nothing"))
    assert (info.items, info.sequence) == (0, 0)
    (row,) = [row for row in _all(server) if row.gallery == "all-or-nothing" and row.method.endswith("Upsert")]
    assert row.code == "UNAVAILABLE"


def test_what_the_server_deletes_by_itself_is_a_row_in_the_same_transaction(trail: Trail) -> None:
    running = trail.running
    running.gallery("brief", retention=Duration(nanos=1000))
    running.upsert("brief", [gallery_pb2.Item(item_id="a", image=encoded(person(1)))])
    running.application.floor.catalog.expire(2**60)
    (row,) = [row for row in trail.look() if row.caller == "server"]
    assert (row.method, row.gallery, row.items, row.code) == ("Retention", "brief", 1, "OK")
    assert row.sequence in trail.about(gallery="brief", item_id="a")


@pytest.fixture
def closed(tmp_path: Path, model: Path) -> Iterator[tuple[Running, dict[str, str]]]:
    """A server that asks for tokens, and an admin's and a reader's."""
    file = AccessFile(tmp_path / "data")
    tokens = {str(role): file.create(role)[1] for role in Role}
    with Running(tmp_path / "data", model) as running:
        yield running, tokens


def test_callers_are_named_by_their_token_and_floods_of_refusals_are_few_rows(
    closed: tuple[Running, dict[str, str]],
) -> None:
    running, tokens = closed
    for _ in range(40):
        with pytest.raises(grpc.RpcError):
            running.search.Search(search_pb2.SearchRequest(gallery="crowd"))
    with pytest.raises(grpc.RpcError):
        running.galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery="crowd"))  # of no people, but an attempt
    with pytest.raises(grpc.RpcError):
        running.galleries.CreateGallery(
            gallery_pb2.CreateGalleryRequest(gallery="mine"), metadata=bearer(tokens["reader"])
        )
    metadata = bearer(tokens["admin"])
    rows = running.admin.QueryAudit(admin_pb2.QueryAuditRequest(), metadata=metadata).rows
    refused = [row for row in rows if row.code == "UNAUTHENTICATED"]
    assert sum(row.calls for row in refused if row.method == "SearchService/Search") == 40
    assert len(refused) < 20
    assert {row.caller for row in refused} == {"unknown"}
    (denied,) = [row for row in rows if row.code == "PERMISSION_DENIED"]
    reader = next(grant for grant in AccessFile(running.settings.data).read() if grant.role == "reader")
    assert denied.caller == reader.name
    assert tokens["reader"] not in str(on_disk(running.settings.data))


def test_a_strict_server_answers_only_what_is_on_record(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model, audit="strict") as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        running.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0"))
        assert on_disk(tmp_path / "data")[-1]["method"] == "SearchService/Search"
        for number, _ in enumerate(
            running.search.SearchStream(
                search_pb2.SearchRequest(gallery="crowd", item_id="0-0", purpose=str(number)) for number in range(3)
            )
        ):
            assert str(number) in {row["purpose"] for row in on_disk(tmp_path / "data")}
        list(running.search.SearchAll(search_pb2.SearchRequest(gallery="crowd", item_id="0-0")))
        assert on_disk(tmp_path / "data")[-1]["method"] == "SearchService/SearchAll"


@pytest.mark.parametrize("mode", ["strict", "batched"])
def test_on_a_full_disk_a_strict_server_refuses_and_another_one_answers(tmp_path: Path, model: Path, mode: str) -> None:
    with Running(tmp_path / "data", model, audit=mode) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        writer = running.application.floor.catalog.database._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")
        request = search_pb2.SearchRequest(gallery="crowd", item_id="0-0", purpose="x" * 1000)
        outcomes = {call(running.channel, "/glimpse.v1.SearchService/Search", request)[0] for _ in range(60)}
        assert outcomes == ({"OK", "RESOURCE_EXHAUSTED"} if mode == "strict" else {"OK"})
        writer.execute(f"PRAGMA max_page_count = {2**30}")
        assert call(running.channel, "/glimpse.v1.SearchService/Search", request)[0] == "OK"
        purposes = [row.purpose for row in _all(running) if row.method == "SearchService/Search"]
        assert purposes == ["x" * 1000] * 61  # the refused ones too: they were asked


def test_a_server_told_not_to_audit_writes_nothing_of_its_callers(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model, audit="off") as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        running.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0"))
    assert on_disk(tmp_path / "data") == []


def test_rows_that_waited_are_written_when_the_server_stops(tmp_path: Path, model: Path) -> None:
    with Running(tmp_path / "data", model) as running:
        running.gallery("crowd")
        running.crowd("crowd", 2)
        running.search.Search(search_pb2.SearchRequest(gallery="crowd", item_id="0-0"))
    assert on_disk(tmp_path / "data")[-1]["method"] == "SearchService/Search"
    assert verify_folder(tmp_path / "data").problem == ""


def test_the_trail_of_a_busy_server_is_whole_while_it_is_written(server: Running) -> None:
    answer = server.admin.VerifyAudit(admin_pb2.VerifyAuditRequest())
    assert (answer.problem, answer.first) == ("", 1)
    assert answer.rows > 0
    later = server.admin.VerifyAudit(admin_pb2.VerifyAuditRequest(head=answer.head))
    assert later.problem == ""
    assert verify_folder(server.settings.data).problem == ""
    wrong = admin_pb2.VerifyAuditRequest(head=f"1:{'0' * 64}")
    assert "rewritten" in server.admin.VerifyAudit(wrong).problem


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (admin_pb2.QueryAuditRequest(page_size=1001), "1 to 1000"),
        (admin_pb2.QueryAuditRequest(page_token="x"), "not one that QueryAudit gave"),
        (admin_pb2.QueryAuditRequest(person_id="anna"), "needs its gallery"),
    ],
)
def test_questions_that_cannot_be_answered_are_refused_in_words(
    server: Running, request_: admin_pb2.QueryAuditRequest, sentence: str
) -> None:
    with pytest.raises(grpc.RpcError, match=sentence) as error:
        server.admin.QueryAudit(request_)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError, match="expected NUMBER:HASH"):
        server.admin.VerifyAudit(admin_pb2.VerifyAuditRequest(head="x"))


def test_an_entry_of_a_recorder_that_is_off_goes_nowhere() -> None:
    recorder = Recorder("off")
    recorder.add(Entry("SearchService/Search", "anonymous", ""))
    assert not recorder._waiting
