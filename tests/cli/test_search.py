"""`glimpse search`: options, table, JSON, picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest
import typer
from typer.testing import Result

from glimpse.cli.filters import parse_box, parse_filter, parse_weights
from glimpse.client import Box, Filter
from tests.client.fake_server import FakeServer


@pytest.fixture
def indexed(glimpse: Callable[..., Result], server: FakeServer, crops: Path) -> FakeServer:
    assert glimpse("index", "lobby", crops, "--keep-images", server=server).exit_code == 0
    server.requests.clear()
    return server


def test_conditions_become_a_filter() -> None:
    conditions = [("camera", "c1"), ("camera", "c2"), ("after", "2026-05-01"), ("attribute", "bag=true")]
    assert parse_filter(conditions, ["person=7,camera=c1", "item=x"]) == Filter(
        camera_ids=["c1", "c2"],
        captured_after=datetime(2026, 5, 1, tzinfo=UTC),
        attributes={"bag": True},
        exclude=[Filter(person_ids=["7"], camera_ids=["c1"]), Filter(item_ids=["x"])],
    )
    assert parse_filter([], []) is None


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("person", "expected KEY=VALUE"),
        ("colour=red", "unknown key 'colour'; choose one of person, camera"),
        ("after=soon", "expected a time such as"),
    ],
)
def test_a_wrong_exclusion_is_a_usage_error(entry: str, reason: str) -> None:
    with pytest.raises(typer.BadParameter, match=reason):
        parse_filter([], [entry])


def test_weights_and_boxes_are_read_or_refused() -> None:
    assert parse_weights(["upper=1", "head=0.5"]) == {"upper": 1.0, "head": 0.5}
    assert parse_box("1,2,30,40") == Box(1, 2, 30, 40)
    with pytest.raises(typer.BadParameter, match="PART=WEIGHT"):
        parse_weights(["upper=much"])
    with pytest.raises(typer.BadParameter, match="x,y,width,height"):
        parse_box("1,2,3")


def test_a_search_prints_ranked_matches(glimpse: Callable[..., Result], indexed: FakeServer, crops: Path) -> None:
    result = glimpse("search", "lobby", crops / "0001_c1s1_000001_00.png", "--top-k", "3")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "0001_c1s1_000001_00.png"
    assert "upper 0.50" in lines[1]
    assert lines[3].split() == ["1", "0000_c1s1_000000_00.png", "0000", "c1", "0.1000", "0.50"]
    assert "exact ranking" in lines[6]


def test_an_explanation_shows_each_parts_similarity_and_share(
    glimpse: Callable[..., Result], indexed: FakeServer, crops: Path
) -> None:
    result = glimpse("search", "lobby", crops / "0001_c1s1_000001_00.png", "-k", "1", "--explain")
    heading, _, first, second = result.stdout.splitlines()[2:6]
    assert heading.split()[-1:] == ["distance"] or "global" in result.stdout
    assert first.split()[-3:] == ["0.1000", "0.90", "0.80"]
    assert second.split()[-3:] == ["0.50", "75%", "25%"]


def test_options_reach_the_server(glimpse: Callable[..., Result], indexed: FakeServer, crops: Path) -> None:
    image = crops / "0001_c1s1_000001_00.png"
    options = ["--camera", "c1", "--exclude", "person=0001,camera=c1", "--part", "upper=1", "--mode", "exact"]
    options += ["--min-joint", "0.2", "--box", "0,0,16,32", "--purpose", "test", "--include-incomparable"]
    assert glimpse("search", "lobby", image, *options).exit_code == 0
    (request,) = indexed.requests
    assert list(request.filter.camera_ids) == ["c1"]
    assert list(request.filter.exclude[0].person_ids) == ["0001"]
    assert request.part_weights == {"upper": 1}
    assert request.mode == request.EXACT
    assert request.min_joint_visibility == pytest.approx(0.2)
    assert request.box.height == 32
    assert request.purpose == "test"
    assert request.include_incomparable


def test_a_tracklet_is_one_query_of_all_images(
    glimpse: Callable[..., Result], indexed: FakeServer, crops: Path
) -> None:
    images = sorted(crops.glob("0001*.png"))
    assert glimpse("search", "lobby", *images, "--tracklet").exit_code == 0
    (request,) = indexed.requests
    assert len(request.tracklet.images) == 2


def test_json_holds_every_query_and_a_failed_one_its_error(
    glimpse: Callable[..., Result], indexed: FakeServer, crops: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"bad image")
    result = glimpse("search", "lobby", crops / "0001_c1s1_000001_00.png", tmp_path / "bad.jpg", "--json")
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)["queries"]
    assert len(good["matches"]) == 10
    assert good["matches"][0]["distance"] == pytest.approx(0.1)
    assert good["visibility"] == {"global": 1.0, "upper": 0.5}
    assert bad["error"] == {"code": "INVALID_ARGUMENT", "message": "the image cannot be decoded"}
    assert "bad.jpg: the image cannot be decoded" in result.stderr


def test_a_query_by_item_leaves_it_out(glimpse: Callable[..., Result], indexed: FakeServer) -> None:
    result = glimpse("search", "lobby", "--item-id", "0001_c1s1_000001_00.png", "--json")
    matches = json.loads(result.stdout)["queries"][0]["matches"]
    assert len(matches) == 9


def test_the_picture_is_saved_with_images_from_the_gallery(
    glimpse: Callable[..., Result], indexed: FakeServer, crops: Path, tmp_path: Path
) -> None:
    target = tmp_path / "results.png"
    result = glimpse("search", "lobby", crops / "0001_c1s1_000001_00.png", "-k", "3", "--save", target)
    assert result.exit_code == 0, result.stderr
    picture = cv2.imread(str(target))
    assert picture.shape[1] > 4 * 150


def test_a_picture_of_a_kind_that_opencv_cannot_write_is_refused(
    glimpse: Callable[..., Result], indexed: FakeServer, crops: Path, tmp_path: Path
) -> None:
    result = glimpse("search", "lobby", crops / "0001_c1s1_000001_00.png", "--save", tmp_path / "results.docx")
    assert result.exit_code == 1
    assert "use .png or .jpg" in result.stderr


def test_a_box_goes_with_one_image_only(glimpse: Callable[..., Result], server: FakeServer) -> None:
    assert glimpse("search", "lobby", "--item-id", "x", "--box", "0,0,1,1", server=server).exit_code == 2
