"""`glimpse index`: names, manifests, resuming, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePath

import pytest
from typer.testing import Result

from glimpse.cli.boundary import Failure
from glimpse.cli.names import Identity, Names, identity
from glimpse.cli.sources import listing
from protos.glimpse.v1 import gallery_pb2
from tests.client.fake_server import FakeServer


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", Names.MARKET, ("0002", "c1")),
        ("sub/0002_c1s1_000451_03.jpg", Names.MARKET, ("0002", "c1")),
        ("-1_c3s1_000401_03.jpg", Names.MARKET, ("-1", "c3")),
        ("0001_c2_f0046182.jpg", Names.MARKET, ("0001", "c2")),
        ("someone.jpg", Names.MARKET, ("", "")),
        ("anna/photo.jpg", Names.FOLDER, ("anna", "")),
        ("anna/day 1/0007_c2s1.jpg", Names.FOLDER, ("anna", "c2")),
        ("photo.jpg", Names.FOLDER, ("", "")),
        ("0002_c1s1_000451_03.jpg", Names.NONE, ("", "")),
    ],
)
def test_person_and_camera_are_read_from_names(path: str, names: Names, expected: tuple[str, str]) -> None:
    assert identity(PurePath(path), names) == Identity(*expected)


def test_a_folder_lists_images_by_relative_path_and_passes_other_files_over(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/d.webp", "notes.txt", ".hidden.jpg", ".git/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = listing(tmp_path, Names.NONE)
    assert sorted(source.item_id for source in found.sources) == ["a/c.png", "a/d.webp", "b.JPG"]
    assert found.passed_over == 1


def test_a_csv_manifest_gives_metadata_and_attributes(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,item_id,person_id,camera_id,captured_at,bag\n"
        "a.jpg,one,7,c1,2026-05-01T12:00:00Z,red\n"
        '"b, second.jpg",,,,2026-05-01T14:00:00+02:00,\n'
    )
    found = listing(manifest, Names.MARKET)
    assert found.refused == []
    one, two = found.sources
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert (one.item_id, one.path, one.person_id, one.camera_id) == ("one", tmp_path / "a.jpg", "7", "c1")
    assert (one.captured_at, dict(one.attributes)) == (noon, {"bag": "red"})
    assert (two.item_id, two.person_id, two.captured_at, dict(two.attributes)) == ("b, second.jpg", "", noon, {})


def test_a_jsonl_manifest_keeps_the_types_of_attributes(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    rows = [{"path": "a.jpg", "person_id": 7, "bag": True, "floor": 3, "tags": ["x"]}, {"path": "b.jpg"}]
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    one, two = listing(manifest, Names.MARKET).sources
    assert one.person_id == "7"
    assert one.attributes == {"bag": True, "floor": 3, "tags": ["x"]}
    assert two.attributes == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "expected an object, got list"),
        ('{"item_id": "x"}', "path is missing"),
        ('{"path": "a.jpg", "captured_at": "yesterday"}', "captured_at 'yesterday': expected ISO 8601"),
        ('{"path": "a.jpg", "person_id": true}', "person_id must be text, got True"),
        ('{"path": "good.jpg"}', "item_id 'good.jpg' was used before, in line 1"),
    ],
)
def test_a_wrong_row_of_a_manifest_is_refused_by_line_and_the_others_stand(
    tmp_path: Path, row: str, reason: str
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"path": "good.jpg"}\n' + row + '\n{"path": "too.jpg"}\n')
    found = listing(manifest, Names.MARKET)
    assert [source.item_id for source in found.sources] == ["good.jpg", "too.jpg"]
    (refusal,) = found.refused
    assert refusal.where == "m.jsonl:2"
    assert reason in refusal.message


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("m.csv", b"image,person\n", "has no column 'path'; its columns are image, person"),
        ("m.csv", b"\xff\xfe\x00", "is not UTF-8 text"),
        ("m.txt", b"", "is neither a folder nor a .csv or .jsonl manifest"),
    ],
)
def test_a_manifest_that_cannot_be_read_at_all_is_a_failure(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Failure, match=reason):
        listing(tmp_path / name, Names.MARKET)


def test_a_row_with_too_many_fields_is_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\na.jpg,extra\nb.jpg\n")
    found = listing(manifest, Names.MARKET)
    assert [source.item_id for source in found.sources] == ["b.jpg"]
    assert found.refused[0].message == "more fields than columns"


def test_indexing_makes_the_gallery_and_stores_every_image(
    glimpse: Callable[..., Result], server: FakeServer, crops: Path
) -> None:
    result = glimpse("index", "lobby", crops, "--keep-images", server=server)
    assert result.exit_code == 0, result.stderr
    assert server.created["lobby"].keep_images
    item = server.galleries["lobby"]["0003_c2s1_000003_00.png"]
    assert (item.person_id, item.camera_id) == ("0003", "c2")
    assert item.image == (crops / "0003_c2s1_000003_00.png").read_bytes()
    assert len(server.galleries["lobby"]) == 10
    assert "10 stored" in result.stdout
    assert "1 files that are not images passed over" in result.stdout


def test_running_it_again_sends_only_what_is_missing(
    glimpse: Callable[..., Result], server: FakeServer, crops: Path
) -> None:
    glimpse("index", "lobby", crops, server=server)
    del server.galleries["lobby"]["0000_c1s1_000000_00.png"]
    server.requests.clear()
    result = glimpse("index", "lobby", crops, server=server)
    assert "1 stored" in result.stdout
    assert "9 already there" in result.stdout
    assert [len(request.items) for request in server.requests if isinstance(request, gallery_pb2.UpsertRequest)] == [1]
    assert "10 stored" in glimpse("index", "lobby", crops, "--no-resume", server=server).stdout


def test_refused_images_are_reported_and_the_exit_code_says_so(
    glimpse: Callable[..., Result], server: FakeServer, crops: Path, tmp_path: Path
) -> None:
    (crops / "broken.jpg").write_bytes(b"bad image")
    with (crops / "huge.jpg").open("wb") as file:
        file.truncate(17 << 20)
    report = tmp_path / "report.json"
    result = glimpse("index", "lobby", crops, "--report", report, server=server)
    assert result.exit_code == 1
    assert len(server.galleries["lobby"]) == 10
    written = json.loads(report.read_text())
    assert (written["gallery"], written["stored"], written["skipped"]) == ("lobby", 10, 0)
    refused = {entry["item_id"]: entry for entry in written["refused"]}
    assert refused["broken.jpg"]["code"] == "INVALID_ARGUMENT"
    assert refused["huge.jpg"]["code"] == "LOCAL"
    assert "at most 16,777,216" in refused["huge.jpg"]["message"]
    assert "the image cannot be decoded" in result.stderr


def test_a_missing_image_of_a_manifest_fails_alone(
    glimpse: Callable[..., Result], server: FakeServer, crops: Path
) -> None:
    manifest = crops / "m.csv"
    manifest.write_text("path\n0001_c1s1_000001_00.png\nnowhere.png\n")
    result = glimpse("index", "lobby", manifest, server=server)
    assert result.exit_code == 1
    assert list(server.galleries["lobby"]) == ["0001_c1s1_000001_00.png"]
    assert "nowhere.png: No such file or directory" in result.stderr


def test_a_folder_without_images_is_a_failure_and_makes_no_gallery(
    glimpse: Callable[..., Result], server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = glimpse("index", "lobby", tmp_path / "empty", server=server)
    assert result.exit_code == 1
    assert "holds no images" in result.stderr
    assert server.galleries == {}
