"""SearchService over loopback, with a tiny real model."""

from __future__ import annotations

import math
import re
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc import StatusCode

from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from glimpse.tracklet import fuse
from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from tests.bundles import SCHEMA, encoded, person
from tests.server.running import Running, detail, random_features, wire_features

Request = search_pb2.SearchRequest


def search(server: Running, gallery: str = "crowd", **fields: Any) -> search_pb2.SearchResponse:
    return server.search.Search(Request(gallery=gallery, **fields))


def image(identity: int, **options: Any) -> bytes:
    return encoded(person(identity, **options))


def features_of(server: Running, *images: bytes) -> PartFeatures:
    answer = server.search.Extract(search_pb2.ExtractRequest(images=images)).features
    rows = len(images)
    return PartFeatures(
        np.frombuffer(answer.vectors, "<f4").reshape(rows, -1),
        np.array(answer.visibility, np.float32).reshape(rows, -1),
        SCHEMA,
    )


def refused(server: Running, code: StatusCode, match: str, **fields: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError, match=match) as error:
        search(server, **fields)
    assert error.value.code() == code  # type: ignore[attr-defined]
    return error.value


def test_the_person_of_the_image_comes_first_even_half_hidden(server: Running) -> None:
    answer = search(server, query_image=image(3, shot=9, hidden=("legs", "feet")), top_k=2, part_weights=None)
    assert {match.person_id for match in answer.matches} == {"3"}
    seen = {row.part: row.visibility for row in answer.query}
    assert seen["legs"] == seen["feet"] == 0
    assert seen["head"] == seen["global"] == 1
    assert answer.matches[0].joint_visibility == pytest.approx(0.6)
    assert answer.exact
    assert answer.gallery_sequence == 1
    assert (answer.model.name, answer.model.version, answer.model.provider) == ("tiny", "1.0.0", "cpu")
    for stage in ("decode", "preprocess", "queue", "inference", "search", "total"):
        assert getattr(answer.timings, stage).ToNanoseconds() > 0, stage


def test_distances_are_the_oracle_s_over_the_stored_features(server: Running) -> None:
    query = features_of(server, image(5, hidden=("head",)))
    answer = search(server, features=wire_features(query), top_k=24)
    assert len(answer.matches) == 24
    for match in answer.matches:
        stored = server.application.floor.catalog.get("crowd").features(match.item_id)
        expected = pairwise(query, stored)
        assert match.distance == pytest.approx(float(expected.distance[0, 0]), abs=1e-5)
        assert match.joint_visibility == pytest.approx(float(expected.joint_visibility[0, 0]), abs=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_features_give_the_ranking_of_their_image(server: Running, half: bool) -> None:
    query = features_of(server, image(2, shot=5))
    message = wire_features(query, model_sha256=server.application.floor.model.sha256)
    if half:
        message.vectors = query.vectors.astype("<f2").tobytes()
        message.dtype = features_pb2.PartFeatures.FLOAT16
    by_features = search(server, features=message)
    by_image = search(server, query_image=image(2, shot=5))
    assert [match.item_id for match in by_features.matches] == [match.item_id for match in by_image.matches]
    assert by_features.model.sha256 == by_image.model.sha256


def test_item_is_left_out_of_its_own_results(server: Running) -> None:
    answer = search(server, item_id="4-0", top_k=100)
    assert len(answer.matches) == 23
    assert answer.matches[0].item_id == "4-1"
    assert "4-0" not in {match.item_id for match in answer.matches}


def test_tracklet_is_fused_part_by_part(server: Running) -> None:
    shots = [image(6, shot=7, hidden=("legs", "feet")), image(6, shot=8, hidden=("head",))]
    answer = search(server, tracklet=search_pb2.Tracklet(images=shots), top_k=1)
    assert answer.matches[0].person_id == "6"
    assert all(row.visibility == 1 for row in answer.query)
    fused = fuse(features_of(server, *shots))
    same = search(server, features=wire_features(features_of(server, *shots)), top_k=1)
    assert same.matches[0].distance == pytest.approx(answer.matches[0].distance, abs=1e-6)
    one = search(server, features=wire_features(fused), top_k=1)
    assert one.matches[0].distance == pytest.approx(answer.matches[0].distance, abs=1e-6)


def test_bad_image_of_a_tracklet_is_named(server: Running) -> None:
    shots = search_pb2.Tracklet(images=[image(1), b"GIF89a"])
    refused(server, StatusCode.INVALID_ARGUMENT, r"tracklet.images\[1\]", tracklet=shots)


def test_box_searches_what_lies_inside_it(server: Running) -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[20:84, 50:82] = person(8, shot=3)
    boxed = search(server, query_image=encoded(frame), box=search_pb2.Box(x=50, y=20, width=32, height=64))
    alone = search(server, query_image=image(8, shot=3))
    assert [match.distance for match in boxed.matches] == [match.distance for match in alone.matches]


def test_box_beyond_the_image_is_refused(server: Running) -> None:
    box = search_pb2.Box(x=10, y=0, width=32, height=64)
    error = refused(server, StatusCode.INVALID_ARGUMENT, "box", query_image=image(1), box=box)
    assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == "box"
    refused(server, StatusCode.INVALID_ARGUMENT, "query_image only", item_id="1-0", box=box)


def test_explanation_reproduces_the_distance(server: Running) -> None:
    answer = search(server, query_image=image(3, hidden=("arms",)), top_k=5, explain=True)
    for match in answer.matches:
        assert [part.part for part in match.parts] == [*SCHEMA.names, "prior"]
        assert sum(part.weight for part in match.parts) == pytest.approx(1, abs=1e-5)
        explained = 1 - sum(part.weight * part.similarity for part in match.parts)
        assert explained == pytest.approx(match.distance, abs=1e-5)
    assert not search(server, query_image=image(3)).matches[0].parts


def test_part_weights_replace_the_schema_s(server: Running) -> None:
    answer = search(server, query_image=image(9, hidden=("legs",)), part_weights={"upper": 2.0}, top_k=1, explain=True)
    assert answer.matches[0].person_id == "9"
    weights = {part.part: part.weight for part in answer.matches[0].parts}
    assert weights["upper"] > 0.9
    assert all(weights[name] == 0 for name in SCHEMA.names if name != "upper")


@pytest.mark.parametrize(
    ("fields", "field", "match"),
    [
        ({"top_k": -1}, "top_k", "top_k must be 1 to 1000"),
        ({"top_k": 1001}, "top_k", "got 1001"),
        ({"min_joint_visibility": 1.5}, "min_joint_visibility", "within"),
        ({"min_joint_visibility": math.nan}, "min_joint_visibility", "within"),
        ({"mode": 9}, "mode", "AUTO, EXACT or FAST, got 9"),
        ({"part_weights": {"tail": 1.0}}, "part_weights", "unknown parts"),
        ({"part_weights": {"head": -1.0}}, "part_weights", "at least 0"),
        ({"part_weights": {"head": 0.0}}, "part_weights", "more than 0"),
        ({"purpose": "x" * 1025}, "purpose", "at most 1,024"),
        ({"filter": {"exclude": [{}]}}, "filter.exclude", "empty"),
        ({"filter": {"exclude": [{"exclude": [{"camera_ids": ["a"]}]}]}}, "filter.exclude", "exclude"),
        ({"filter": {"captured_after": {"seconds": 10**15}}}, "filter.captured_after", "years 1 to 9999"),
        (
            {"filter": {"captured_after": {"seconds": 20}, "captured_before": {"seconds": 10}}},
            "filter.captured_before",
            "earlier",
        ),
    ],
)
def test_wrong_option_is_refused_naming_its_field(
    server: Running, fields: dict[str, Any], field: str, match: str
) -> None:
    error = refused(server, StatusCode.INVALID_ARGUMENT, match, item_id="1-0", **fields)
    violation = detail(error, error_details_pb2.BadRequest).field_violations[0]
    assert violation.field == field
    assert violation.description == error.details()  # type: ignore[attr-defined]


def test_request_without_a_query_is_refused(server: Running) -> None:
    refused(server, StatusCode.INVALID_ARGUMENT, "one of query_image, tracklet, features or item_id")


def test_top_k_defaults_to_ten(server: Running) -> None:
    assert len(search(server, item_id="1-0").matches) == 10


def test_unknown_gallery_and_item_are_not_found(server: Running) -> None:
    refused(server, StatusCode.NOT_FOUND, "no gallery 'lobby'; this server has 'crowd'", gallery="lobby", item_id="1-0")
    refused(server, StatusCode.NOT_FOUND, "no item 'nobody'", item_id="nobody")


def test_filter_restricts_and_exclude_removes(server: Running) -> None:
    chosen = search_pb2.Filter(camera_ids=["cam1"], exclude=[search_pb2.Filter(person_ids=["2"], camera_ids=["cam1"])])
    found = {match.item_id for match in search(server, item_id="1-0", top_k=100, filter=chosen).matches}
    assert found == {f"{identity}-1" for identity in range(12)} - {"2-1"}


def test_gallery_may_require_a_purpose(server: Running) -> None:
    server.gallery("audited", require_purpose=True)
    server.crowd("audited", 1)
    error = refused(
        server, StatusCode.INVALID_ARGUMENT, "requires a purpose", gallery="audited", item_id="0-0", purpose=" "
    )
    assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == "purpose"
    assert len(search(server, gallery="audited", item_id="0-0", purpose="lost child").matches) == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vectors": b"\0" * 12}, "12 bytes"),
        ({"vectors": b""}, "1 to 1000 rows"),
        ({"visibility": [1.0]}, "has 1 numbers, not 6"),
        ({"visibility": [1, 1, 2, 1, 1, 1]}, r"within \[0, 1\]"),
        ({"visibility": [0, 1, 1, 1, 1, 1]}, "always visible"),
        ({"dtype": 7}, "FLOAT32 or FLOAT16, got 7"),
        ({"vectors": np.full(SCHEMA.width, np.nan, "<f4").tobytes()}, "finite"),
        ({"vectors": np.full(SCHEMA.width, 0.5, "<f4").tobytes()}, "norm"),
        ({"vectors": bytes(4 * SCHEMA.width)}, "all zeros with visibility 0"),
    ],
)
def test_malformed_features_are_refused(server: Running, change: dict[str, Any], match: str) -> None:
    message = wire_features(random_features(SCHEMA, 1, hide=0))
    del message.visibility[:]
    good = {"vectors": message.vectors, "visibility": [1] * 6}
    refused(server, StatusCode.INVALID_ARGUMENT, match, features=features_pb2.PartFeatures(**{**good, **change}))


def test_features_of_another_schema_are_refused_naming_both(server: Running) -> None:
    schema = features_pb2.PartSchema(parts=[features_pb2.Part(name="global", dim=64)])
    features = features_pb2.PartFeatures(vectors=bytes(256), visibility=[1], schema=schema)
    refused(
        server,
        StatusCode.INVALID_ARGUMENT,
        r"parts global:64; gallery 'crowd' holds global:16, head:8",
        features=features,
    )


def test_features_of_another_model_are_refused_naming_both(server: Running) -> None:
    message = wire_features(random_features(SCHEMA, 1), model_sha256="ab" * 32)
    ours = server.application.floor.model.sha256[:8]
    refused(
        server,
        StatusCode.FAILED_PRECONDITION,
        rf"sha abababab; gallery 'crowd' holds features of tiny 1.0.0 \(sha {ours}\)",
        features=message,
    )


def test_image_cannot_search_a_gallery_of_features_only(server: Running) -> None:
    schema = features_pb2.PartSchema(parts=[features_pb2.Part(name="global", dim=4)])
    server.gallery("vectors", schema=schema)
    refused(server, StatusCode.FAILED_PRECONDITION, "features only", gallery="vectors", query_image=image(1))


def test_incomparable_items_come_last_and_only_when_asked_for(server: Running) -> None:
    parts = [features_pb2.Part(name=name, dim=4) for name in ("head", "feet")]
    server.gallery("halves", schema=features_pb2.PartSchema(parts=parts))
    head, feet = [1.0, 0, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 0, 1, 0, 0, 0]

    def half(vector: list[float], visibility: list[float]) -> features_pb2.PartFeatures:
        return features_pb2.PartFeatures(vectors=np.array(vector, "<f4").tobytes(), visibility=visibility)

    items = [
        gallery_pb2.Item(item_id="a-feet", features=half(feet, [0, 1])),
        gallery_pb2.Item(item_id="b-head", features=half(head, [1, 0])),
    ]
    assert all(result.status.code == 0 for result in server.upsert("halves", items).results)
    query = half(head, [1, 0])
    assert [match.item_id for match in search(server, "halves", features=query).matches] == ["b-head"]
    matches = search(server, "halves", features=query, include_incomparable=True).matches
    assert [match.item_id for match in matches] == ["b-head", "a-feet"]
    assert matches[0].HasField("distance")
    assert matches[0].distance == 0
    assert not matches[1].HasField("distance")
    assert matches[1].joint_visibility == 0


def test_stream_answers_in_order_and_survives_bad_requests(server: Running) -> None:
    requests = [Request(gallery="crowd", item_id=f"{index % 12}-0", top_k=1) for index in range(40)]
    requests[7] = Request(gallery="nowhere", item_id="1-0")
    requests[8] = Request(gallery="crowd", query_image=b"no image")
    requests[9] = Request(gallery="crowd", query_image=b"x" * (5 << 20))
    answers = list(server.search.SearchStream(iter(requests)))
    assert len(answers) == 40
    assert [answers[index].error.code for index in (7, 8, 9)] == [
        StatusCode.NOT_FOUND.value[0],
        StatusCode.INVALID_ARGUMENT.value[0],
        StatusCode.RESOURCE_EXHAUSTED.value[0],
    ]
    assert "4,194,304" in answers[9].error.message
    for index, answer in enumerate(answers):
        if index not in (7, 8, 9):
            assert answer.error.code == 0
            assert answer.matches[0].item_id == f"{index % 12}-1"


def test_search_all_gives_the_whole_ranking_in_pages(server: Running) -> None:
    server.gallery("many")
    features = random_features(SCHEMA, 2300, seed=5)
    for start in range(0, 2300, 1000):
        rows = range(start, min(2300, start + 1000))
        items = [gallery_pb2.Item(item_id=f"{row:04}", features=wire_features(features[row : row + 1])) for row in rows]
        server.upsert("many", items)
    query = random_features(SCHEMA, 1, seed=6, hide=0)
    pages = list(server.search.SearchAll(Request(gallery="many", features=wire_features(query), top_k=3)))
    assert [(len(page.matches), page.rank_offset) for page in pages] == [(1000, 0), (1000, 1000), (300, 2000)]
    distances = [match.distance for page in pages for match in page.matches]
    assert distances == sorted(distances)
    assert {match.item_id for page in pages for match in page.matches} == {f"{row:04}" for row in range(2300)}
    oracle = pairwise(query, features.stored()).distance[0]
    assert np.allclose(np.sort(oracle), distances, atol=1e-5)
    assert all(page.exact for page in pages)
    assert {page.gallery_sequence for page in pages} == {3}
    assert pages[0].model.name == "tiny"


def test_page_of_large_attributes_fits_a_client_s_default_limit(server: Running) -> None:
    server.gallery("wordy")
    features = random_features(SCHEMA, 400)
    items = []
    for row in range(400):
        item = gallery_pb2.Item(item_id=f"{row:03}", features=wire_features(features[row : row + 1]))
        item.attributes.update({"notes": "n" * 16_000})
        items.append(item)
    server.upsert("wordy", items)
    pages = list(server.search.SearchAll(Request(gallery="wordy", item_id="000")))
    assert len(pages) > 1
    assert [page.rank_offset for page in pages] == list(np.cumsum([0] + [len(page.matches) for page in pages[:-1]]))
    assert sum(len(page.matches) for page in pages) == 399


def test_search_all_of_an_empty_gallery_is_one_empty_page(server: Running) -> None:
    server.gallery("empty")
    (page,) = server.search.SearchAll(Request(gallery="empty", query_image=image(1)))
    assert not page.matches
    assert len(page.query) == len(SCHEMA)
    assert not search(server, "empty", query_image=image(1)).matches


def test_extract_gives_a_row_an_image_and_names_the_refused(server: Running) -> None:
    answer = server.search.Extract(search_pb2.ExtractRequest(images=[image(1), b"", image(2, hidden=("head",)), b"BM"]))
    vectors = np.frombuffer(answer.features.vectors, "<f4").reshape(4, SCHEMA.width)
    visibility = np.array(answer.features.visibility).reshape(4, len(SCHEMA))
    assert [error.index for error in answer.errors] == [1, 3]
    assert all(error.status.code == StatusCode.INVALID_ARGUMENT.value[0] for error in answer.errors)
    assert re.match(r"images\[1\]: ", answer.errors[0].status.message)
    assert not vectors[[1, 3]].any()
    assert visibility[[1, 3]].tolist() == [[1, 0, 0, 0, 0, 0]] * 2
    assert visibility[2, 1] == 0
    assert np.linalg.norm(vectors[0, :16]) == pytest.approx(1, abs=1e-3)
    assert answer.features.model_sha256 == answer.model.sha256
    assert not answer.timings.HasField("search")


@pytest.mark.parametrize("count", [0, 65])
def test_extract_takes_1_to_64_images(server: Running, count: int) -> None:
    with pytest.raises(grpc.RpcError, match=f"1 to 64 images, got {count}"):
        server.search.Extract(search_pb2.ExtractRequest(images=[b"x"] * count))


def test_refused_image_is_counted_by_reason(server: Running) -> None:
    before = server.metric("glimpse_images_rejected_total", reason="unsupported") or 0
    refused(server, StatusCode.INVALID_ARGUMENT, "query_image: ", query_image=b"GIF89a" + bytes(100))
    assert server.metric("glimpse_images_rejected_total", reason="unsupported") == before + 1


def test_attributes_and_time_come_back_with_a_match(server: Running) -> None:
    server.gallery("dated")
    item = gallery_pb2.Item(item_id="a", image=image(1), captured_at=Timestamp(seconds=1_700_000_000, nanos=5000))
    item.attributes.update({"bag": True, "floor": 2, "tags": ["red", None], "deep": {"x": "y"}})
    server.upsert("dated", [item])
    (match,) = search(server, "dated", query_image=image(1)).matches
    assert match.captured_at == item.captured_at
    assert match.attributes == item.attributes


def test_gallery_of_another_model_is_refused_naming_both_and_takes_features(
    tmp_path_factory: pytest.TempPathFactory, model: Any
) -> None:
    from tests.bundles import tiny_bundle

    folder = tmp_path_factory.mktemp("swap")
    with Running(folder / "data", model) as first:
        first.gallery("crowd")
        first.crowd("crowd", 2)
        old = first.application.floor.model.sha256[:8]
    other = tiny_bundle(folder / "other", version="2.0.0", seed=1)
    with Running(folder / "data", other.source) as second:
        new = other.identity.sha256[:8]
        refused(
            second,
            StatusCode.FAILED_PRECONDITION,
            rf"'crowd' holds features of model tiny 1.0.0 \(sha {old}\); this server runs tiny 2.0.0 \(sha {new}\)",
            query_image=image(1),
        )
        answer = search(second, item_id="1-0", top_k=1)
        assert answer.matches[0].item_id == "1-1"
        assert answer.model.version == "1.0.0"
