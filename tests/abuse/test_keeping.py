"""Absurd erasures, snapshots, aliases and migrations: each is refused with a sentence, and the server is unharmed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from protos.glimpse.v1 import gallery_pb2, search_pb2
from tests.abuse.serving import GOOD_IMAGE, Serving

INVALID, MISSING, WRONG, TAKEN = "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"
NAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "a\0b",
    "a\n",
    "tür",
    "x'; DROP TABLE items; --",
    "\x1b[31m",
)
LONG = "x" * 5000
Filter = search_pb2.Filter

REFUSED: list[tuple[str, Any, str, list[str]]] = [
    ("Erase", gallery_pb2.EraseRequest(), INVALID, ["say whom to erase"]),
    ("Erase", gallery_pb2.EraseRequest(gallery="crowd"), INVALID, ["say whom to erase"]),
    ("Erase", gallery_pb2.EraseRequest(gallery="crowd", filter=Filter()), INVALID, ["empty filter would erase"]),
    ("Erase", gallery_pb2.EraseRequest(gallery="attic", item_ids=["a"]), MISSING, ["no gallery 'attic'"]),
    ("Erase", gallery_pb2.EraseRequest(item_ids=[""]), INVALID, ["each of item_ids", "1 to 256"]),
    ("Erase", gallery_pb2.EraseRequest(person_ids=[LONG]), INVALID, ["each of person_ids", "1 to 256"]),
    ("Erase", gallery_pb2.EraseRequest(item_ids=["x"] * 10_001), INVALID, ["item_ids has 10,001 entries"]),
    ("Erase", gallery_pb2.EraseRequest(filter=Filter(exclude=[Filter()])), INVALID, ["empty entry of filter.exclude"]),
    ("CreateSnapshot", gallery_pb2.CreateSnapshotRequest(gallery="attic"), MISSING, ["no gallery 'attic'"]),
    ("CreateSnapshot", gallery_pb2.CreateSnapshotRequest(), MISSING, ["no gallery ''"]),
    ("DeleteSnapshot", gallery_pb2.DeleteSnapshotRequest(), INVALID, ["snapshot name ''"]),
    ("DeleteSnapshot", gallery_pb2.DeleteSnapshotRequest(snapshot="none"), MISSING, ["no snapshot 'none'"]),
    ("RestoreSnapshot", gallery_pb2.RestoreSnapshotRequest(snapshot="none"), MISSING, ["no snapshot 'none'"]),
    ("SetAlias", gallery_pb2.SetAliasRequest(alias="a"), MISSING, ["no gallery ''"]),
    ("SetAlias", gallery_pb2.SetAliasRequest(alias="crowd", gallery="loose"), TAKEN, ["'crowd' is a gallery"]),
    ("DeleteAlias", gallery_pb2.DeleteAliasRequest(alias=LONG), MISSING, ["no alias"]),
    ("MigrateGallery", gallery_pb2.MigrateGalleryRequest(), MISSING, ["no gallery ''"]),
    (
        "MigrateGallery",
        gallery_pb2.MigrateGalleryRequest(gallery="crowd", into="crowd-2", alias="a"),
        WRONG,
        ["keeps no images"],
    ),
    *(
        (method, request(name), INVALID, ["name"])
        for name in NAMES
        for method, request in (
            ("CreateSnapshot", lambda name: gallery_pb2.CreateSnapshotRequest(gallery="crowd", snapshot=name)),
            ("RestoreSnapshot", lambda name: gallery_pb2.RestoreSnapshotRequest(snapshot=name)),
            ("DeleteSnapshot", lambda name: gallery_pb2.DeleteSnapshotRequest(snapshot=name)),
            ("SetAlias", lambda name: gallery_pb2.SetAliasRequest(alias=name, gallery="crowd")),
        )
    ),
]


@pytest.mark.parametrize(("method", "request_", "code", "words"), REFUSED)
def test_absurd_orders_are_refused(server: Serving, method: str, request_: Any, code: str, words: list[str]) -> None:
    server.check_refused(server.ask(method, request_), code, words)


def test_a_snapshot_that_somebody_has_written_is_refused(server: Serving) -> None:
    made = server.ask("CreateSnapshot", gallery_pb2.CreateSnapshotRequest(gallery="crowd", snapshot="mine"))
    assert made.code == "OK"
    path: Path = server.data / "snapshots" / "mine.snapshot"
    sound = path.read_bytes()
    header = sound.index(b"{")
    for content in (
        b"",
        b"\0" * 1000,
        sound[:100],
        sound[: len(sound) // 2],
        sound[:header] + b"[" * 500 + sound[header + 500 :],
        sound[:8] + b"\xff\xff\xff\xff" + sound[12:],
        sound + b"\0" * 4096,
    ):
        path.write_bytes(content)
        for target in ("crowd", "crowd-2"):
            request = gallery_pb2.RestoreSnapshotRequest(snapshot="mine", gallery=target, replace=True)
            server.check_refused(server.ask("RestoreSnapshot", request), WRONG, ["'mine' cannot be restored"])
        erase = server.ask("Erase", gallery_pb2.EraseRequest(item_ids=["nobody"]))
        server.check_refused(erase, WRONG, ["'mine' cannot be searched", "delete it and erase again"])
    listed = server.ask("ListSnapshots", gallery_pb2.ListSnapshotsRequest())
    assert [each.snapshot for each in listed.response.snapshots] == ["mine"]
    assert server.ask("DeleteSnapshot", gallery_pb2.DeleteSnapshotRequest(snapshot="mine")).code == "OK"


def test_everything_at_once_is_answered(server: Serving, scratch: str) -> None:
    items = [gallery_pb2.Item(item_id=f"s{n}", image=GOOD_IMAGE, person_id="guest") for n in range(20)]

    def ask(n: int) -> str:
        if n % 5 == 0:
            return server.ask("Erase", gallery_pb2.EraseRequest(gallery=scratch, item_ids=[f"s{n % 20}"])).code
        if n % 5 == 1:
            request = gallery_pb2.CreateSnapshotRequest(gallery=scratch, snapshot=f"s-{n}")
            return server.ask("CreateSnapshot", request).code
        if n % 5 == 2:
            return server.ask("Search", search_pb2.SearchRequest(gallery=scratch, query_image=GOOD_IMAGE)).code
        if n % 5 == 3:
            return "OK" if all(result.status.code == 0 for result in server.upsert(items, scratch)) else "refused"
        request = gallery_pb2.RestoreSnapshotRequest(snapshot="s-1", gallery=f"again-{n}")
        code = server.ask("RestoreSnapshot", request).code
        if code == "OK":
            return server.ask("DeleteGallery", gallery_pb2.DeleteGalleryRequest(gallery=f"again-{n}")).code
        return "OK" if code == MISSING else code  # before it was made

    with ThreadPoolExecutor(8) as callers:
        codes = list(callers.map(ask, range(40)))
    assert set(codes) == {"OK"}
    for each in server.ask("ListSnapshots", gallery_pb2.ListSnapshotsRequest()).response.snapshots:
        assert each.damage == ""
        server.ask("DeleteSnapshot", gallery_pb2.DeleteSnapshotRequest(snapshot=each.snapshot))
