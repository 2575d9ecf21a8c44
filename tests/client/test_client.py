"""The client's methods against a server in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from glimpse.client import Client, Filter, GlimpseError, Item, NotFound, Query, SearchResult
from glimpse.parts import Part, PartFeatures, PartSchema
from tests.client.fake_server import FakeServer

SCHEMA = PartSchema((Part("global", 2, always_visible=True), Part("upper", 2)))
FEATURES = PartFeatures(np.array([[1, 0, 0, 1]], np.float32), np.array([[1, 0.5]], np.float32), SCHEMA)


def fill(client: Client, count: int = 5) -> None:
    items = [Item(item_id=f"i{n}", image=b"jpeg", person_id=str(n), camera_id="c1") for n in range(count)]
    assert all(result.ok for result in client.upsert("lobby", items))


def test_search_gives_matches_in_rank_order_with_everything_known_about_them(client: Client) -> None:
    when = datetime(2026, 5, 1, 12, tzinfo=UTC)
    attributes = {"bag": True, "floor": 3, "tags": ["a", "b"], "note": None}
    items = [
        Item(item_id="a", image=b"x", person_id="7", camera_id="c2", captured_at=when, attributes=attributes),
        Item(item_id="b", image=b"y", attributes={"hidden": True}),
    ]
    assert [result.code for result in client.upsert("lobby", items)] == ["OK", "OK"]

    result = client.search("lobby", b"query", explain=True)

    first, second = result
    assert (first.item_id, first.person_id, first.camera_id) == ("a", "7", "c2")
    assert first.captured_at == when
    assert first.attributes == attributes
    assert first.distance == pytest.approx(0.1)
    assert first.probability is None
    assert [part.part for part in first.parts] == ["global", "upper"]
    assert second.distance is None
    assert second.captured_at is None
    assert result.query == {"global": 1.0, "upper": 0.5}
    assert result.model is not None
    assert result.model.name == "fake"
    assert result.model.schema is not None
    assert result.model.schema.same_layout(SCHEMA)
    assert result.exact
    assert result.timings.total == pytest.approx(0.002)


def test_every_search_option_reaches_the_server(client: Client, server: FakeServer) -> None:
    after = datetime(2026, 1, 1, tzinfo=UTC)
    only = Filter(
        camera_ids=["c1"],
        captured_after=after,
        attributes={"bag": True},
        exclude=[Filter(person_ids=["7"], camera_ids=["c1"])],
    )
    client.search(
        "lobby",
        b"frame",
        box=(1, 2, 30, 40),
        top_k=3,
        filter=only,
        part_weights={"upper": 2},
        min_joint_visibility=0.25,
        mode="exact",
        explain=True,
        include_incomparable=True,
        purpose="lost child",
    )
    request = server.requests[-1]
    assert request.gallery == "lobby"
    assert request.query_image == b"frame"
    assert (request.box.x, request.box.y, request.box.width, request.box.height) == (1, 2, 30, 40)
    assert request.top_k == 3
    assert list(request.filter.camera_ids) == ["c1"]
    assert request.filter.captured_after.ToDatetime(tzinfo=UTC) == after
    assert request.filter.attributes["bag"] is True
    assert list(request.filter.exclude[0].person_ids) == ["7"]
    assert request.part_weights == {"upper": 2}
    assert request.min_joint_visibility == 0.25
    assert request.mode == request.EXACT
    assert request.explain
    assert request.include_incomparable
    assert request.purpose == "lost child"


def test_images_may_be_paths_bytes_or_rgb_arrays(client: Client, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "query.jpg"
    path.write_bytes(b"file content")
    red = np.zeros((4, 3, 3), np.uint8)
    red[..., 0] = 255
    client.search("lobby", path)
    client.search("lobby", str(path))
    client.search("lobby", b"bytes")
    client.search("lobby", red)
    sent = [request.query_image for request in server.requests]
    assert sent[:3] == [b"file content", b"file content", b"bytes"]
    decoded = cv2.imdecode(np.frombuffer(sent[3], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(decoded, red)


def test_features_tracklet_and_item_id_are_queries_too(client: Client, server: FakeServer) -> None:
    fill(client)
    client.search("lobby", features=FEATURES, model_sha256="ab")
    client.search("lobby", tracklet=[b"one", b"two"])
    found = client.search("lobby", item_id="i0")
    by_features, by_tracklet, by_item = server.requests[-3:]
    assert np.frombuffer(by_features.features.vectors, "<f4").tolist() == [1, 0, 0, 1]
    assert list(by_features.features.visibility) == [1, 0.5]
    assert by_features.features.model_sha256 == "ab"
    assert list(by_tracklet.tracklet.images) == [b"one", b"two"]
    assert by_item.item_id == "i0"
    assert "i0" not in [match.item_id for match in found]


def test_a_query_of_none_or_several_kinds_is_refused_before_sending(client: Client, server: FakeServer) -> None:
    with pytest.raises(ValueError, match="exactly one of image, tracklet, features, item_id; got none"):
        client.search("lobby")
    with pytest.raises(ValueError, match="got image, item_id"):
        client.search("lobby", b"x", item_id="i0")
    with pytest.raises(ValueError, match="box crops an image"):
        client.search("lobby", item_id="i0", box=(0, 0, 1, 1))
    assert server.requests == []


def test_ids_given_as_one_string_are_refused_instead_of_being_read_letter_by_letter() -> None:
    with pytest.raises(ValueError, match=r"camera_ids=\['c1'\]"):
        Filter(camera_ids="c1")


def test_search_many_answers_in_order_and_a_bad_query_fails_alone(client: Client) -> None:
    fill(client)
    queries = [b"good", b"bad one", Query(item_id="i0"), b"bad two"] * 10
    answers = list(client.search_many("lobby", queries))
    assert len(answers) == 40
    for position, answer in enumerate(answers):
        if position % 2:
            assert isinstance(answer, GlimpseError)
            assert answer.code == "INVALID_ARGUMENT"
        else:
            assert isinstance(answer, SearchResult)
            assert answer[0].item_id == ("i0" if position % 4 == 0 else "i1")


def test_search_many_raises_what_the_callers_own_iterable_raises(client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(client.search_many("lobby", [b"good", tmp_path / "missing.jpg"]))


def test_search_all_walks_the_whole_ranking_over_its_pages(client: Client) -> None:
    fill(client, 7)
    assert [match.item_id for match in client.search_all("lobby", b"query")] == [f"i{n}" for n in range(7)]


def test_extract_gives_a_row_an_image_and_names_the_refused_ones(client: Client) -> None:
    extraction = client.extract([b"one", b"bad", b"three"])
    assert len(extraction.features) == 3
    assert extraction.features.vectors[1].tolist() == [0, 0, 0, 0]
    assert extraction.features.visibility[0].tolist() == [1, 0.5]
    assert [(error.index, error.code) for error in extraction.errors] == [(1, "INVALID_ARGUMENT")]
    assert extraction.model.sha256 == "ab" * 32


def test_galleries_can_be_made_listed_shown_and_deleted(client: Client) -> None:
    made = client.create_gallery("yard", keep_images=True, retention=timedelta(days=30))
    assert made.keep_images
    assert made.retention == timedelta(days=30)
    fill(client, 2)
    assert [(gallery.name, gallery.items) for gallery in client.galleries()] == [("lobby", 2), ("yard", 0)]
    assert client.gallery("lobby").schema.names == ("global", "upper")
    assert client.delete_gallery("lobby") == 2
    with pytest.raises(NotFound, match="no gallery 'lobby'"):
        client.gallery("lobby")


def test_items_can_be_read_listed_changed_and_deleted(client: Client) -> None:
    fill(client, 5)
    item = client.get_item("lobby", "i1")
    assert item.features is not None
    assert item.features.vectors.dtype == np.float32
    assert item.features.vectors.tolist() == [[1, 0, 0, 1]]
    assert item.image is None
    assert item.visibility == {"upper": 0.5}
    assert [entry.item_id for entry in client.list_items("lobby", page_size=2)] == [f"i{n}" for n in range(5)]
    changed = client.update_item("lobby", "i1", camera_id="", attributes={"seen": 2})
    assert (changed.person_id, changed.camera_id, changed.attributes) == ("1", "", {"seen": 2})
    assert client.delete_items("lobby", ["i0", "i0", "never"]) == 1
    assert client.delete_items("lobby", filter=Filter(person_ids=["1"])) == 1
    assert [entry.item_id for entry in client.list_items("lobby")] == ["i2", "i3", "i4"]


def test_attributes_that_are_not_json_are_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="attributes must be JSON values"):
        client.update_item("lobby", "i1", attributes={"when": datetime(2026, 1, 1)})


def test_model_stats_and_health_tell_about_the_server(client: Client) -> None:
    assert client.model().provider == "cpu"
    stats = client.stats()
    assert stats.requests == {"Search/OK": 3}
    assert stats.uptime == timedelta(seconds=5)
    assert stats.galleries[0].fast_recall is None
    assert client.health() == "SERVING"
