"""GalleryService over loopback, with a tiny real model."""

from __future__ import annotations

import re
import time
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc import StatusCode

from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from tests.bundles import SCHEMA, encoded, person
from tests.server.running import Running, detail, random_features, wire_features

Item = gallery_pb2.Item
SMALL = features_pb2.PartSchema(parts=[features_pb2.Part(name="global", dim=4)], prior=0.5)


@pytest.fixture
def name(server: Running, request: pytest.FixtureRequest) -> str:
    """A fresh gallery, named after the test."""
    gallery = re.sub(r"[^A-Za-z0-9._-]", ".", request.node.name)[:64]
    server.gallery(gallery)
    return gallery


def image(identity: int) -> bytes:
    return encoded(person(identity))


def refused(code: StatusCode, match: str, call: Any, *arguments: Any) -> grpc.RpcError:
    def read() -> None:
        answer = call(*arguments)
        if not hasattr(answer, "DESCRIPTOR"):
            list(answer)  # a stream fails when it is read

    with pytest.raises(grpc.RpcError, match=match) as error:
        read()
    assert error.value.code() == code  # type: ignore[attr-defined]
    return error.value


def get(server: Running, gallery: str, item_id: str) -> gallery_pb2.StoredItem:
    return server.galleries.GetItem(gallery_pb2.GetItemRequest(gallery=gallery, item_id=item_id))


def statuses(response: gallery_pb2.UpsertResponse) -> dict[str, int]:
    return {result.item_id: result.status.code for result in response.results}


def test_gallery_is_bound_to_the_served_model_by_default(server: Running) -> None:
    made = server.gallery(
        "lobby",
        keep_images=True,
        retention=Duration(seconds=90),
        latency_target=Duration(nanos=5_000_000),
        compact=True,
    )
    got = server.galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery="lobby"))
    assert got == made
    assert (got.model.name, got.model.version, got.model.method, got.model.license) == (
        "tiny",
        "1.0.0",
        "bands",
        "Apache-2.0",
    )
    assert got.model.sha256 == server.application.floor.model.sha256
    assert (got.model.height, got.model.width, got.model.provider) == (64, 32, "")
    assert [part.name for part in got.schema.parts] == list(SCHEMA.names)
    assert got.schema.prior == pytest.approx(SCHEMA.prior)
    assert (got.keep_images, got.retention.seconds, got.latency_target.nanos) == (True, 90, 5_000_000)
    assert got.compact
    assert abs(got.created_at.seconds - time.time()) < 60
    assert got.items == got.sequence == 0


def test_gallery_with_other_parts_is_for_features_only(server: Running) -> None:
    made = server.gallery("features", schema=SMALL)
    assert made.model.name == ""
    assert made.schema.prior == 0.5
    unit = features_pb2.PartFeatures(vectors=np.array([0, 1, 0, 0], "<f4").tobytes(), visibility=[1])
    response = server.upsert("features", [Item(item_id="a", features=unit), Item(item_id="b", image=image(1))])
    assert statuses(response) == {"a": 0, "b": StatusCode.FAILED_PRECONDITION.value[0]}
    assert "Send features instead of images" in response.results[1].status.message


def test_gallery_with_the_model_s_parts_and_own_weights_takes_images(server: Running) -> None:
    parts = [
        features_pb2.Part(name=part.name, dim=part.dim, weight=2.0, always_visible=part.always_visible)
        for part in SCHEMA.parts
    ]
    made = server.gallery("weighted", schema=features_pb2.PartSchema(parts=parts, prior=1))
    assert made.model.name == "tiny"
    server.crowd("weighted", 2)
    answer = server.search.Search(
        search_pb2.SearchRequest(gallery="weighted", query_image=image(1), explain=True, top_k=1)
    )
    assert answer.matches[0].person_id == "1"
    assert answer.matches[0].parts[-1].weight == pytest.approx(1 / 13)  # prior / (six parts of weight 2 + prior)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"gallery": ""}, "gallery"),
        ({"gallery": "../etc"}, "gallery"),
        ({"gallery": "x" * 65}, "gallery"),
        ({"gallery": "a", "retention": Duration(seconds=-1)}, "retention"),
        ({"gallery": "a", "latency_target": Duration()}, "latency_target"),
        ({"gallery": "a", "schema": features_pb2.PartSchema()}, "schema"),
        ({"gallery": "a", "schema": {"parts": [{"name": "Global", "dim": 1}]}}, "schema"),
        ({"gallery": "a", "schema": {"parts": [{"name": "global", "dim": 0}]}}, "schema"),
    ],
)
def test_wrong_gallery_is_refused_naming_the_field(server: Running, fields: dict[str, Any], field: str) -> None:
    request = gallery_pb2.CreateGalleryRequest(**fields)
    error = refused(StatusCode.INVALID_ARGUMENT, field, server.galleries.CreateGallery, request)
    assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == field


def test_name_that_is_taken_is_refused(server: Running, name: str) -> None:
    request = gallery_pb2.CreateGalleryRequest(gallery=name)
    refused(StatusCode.ALREADY_EXISTS, "exists", server.galleries.CreateGallery, request)


def test_deleted_gallery_is_gone_and_its_name_is_free(server: Running, name: str) -> None:
    server.crowd(name, 3)
    deleted = server.galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(gallery=name))
    assert deleted.deleted == 6
    request = gallery_pb2.GetGalleryRequest(gallery=name)
    refused(StatusCode.NOT_FOUND, name, server.galleries.GetGallery, request)
    assert name not in {
        gallery.gallery for gallery in server.galleries.ListGalleries(gallery_pb2.ListGalleriesRequest()).galleries
    }
    assert server.gallery(name).items == 0


def test_galleries_are_listed_by_name(server: Running) -> None:
    for gallery in ("zulu", "alpha"):
        server.gallery(gallery)
    names = [g.gallery for g in server.galleries.ListGalleries(gallery_pb2.ListGalleriesRequest()).galleries]
    assert names == sorted(names)
    assert {"zulu", "alpha", "crowd"} <= set(names)


def test_each_item_has_its_own_status_and_the_good_ones_are_stored(server: Running, name: str) -> None:
    features = wire_features(random_features(SCHEMA, 1))
    two_rows = wire_features(random_features(SCHEMA, 2))
    unknown_model = wire_features(random_features(SCHEMA, 1), model_sha256="00" * 32)
    items = [
        Item(item_id="image", image=image(1)),
        Item(item_id="features", features=features),
        Item(item_id="broken", image=b"\xff\xd8\xff\xe0 not really"),
        Item(item_id="nothing"),
        Item(item_id="two rows", features=two_rows),
        Item(item_id="other model", features=unknown_model),
        Item(item_id="", features=features),
        Item(item_id="x" * 257, features=features),
        Item(item_id="bad\nid", features=features),
        Item(item_id="time", features=features, captured_at=Timestamp(seconds=1, nanos=-1)),
    ]
    items.append(Item(item_id="attributes", features=features))
    items[-1].attributes.update({"text": "x" * (17 << 10)})
    response = server.upsert(name, items)
    invalid = StatusCode.INVALID_ARGUMENT.value[0]
    ids = [item.item_id[:256] for item in items]  # the results are not as long as what was refused
    assert [result.item_id for result in response.results] == ids
    assert statuses(response) == {
        **dict.fromkeys(ids, invalid),
        "image": 0,
        "features": 0,
        "other model": StatusCode.FAILED_PRECONDITION.value[0],
    }
    assert response.sequence == 1
    assert server.galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery=name)).items == 2
    by_id = {result.item_id: result.status.message for result in response.results}
    assert "1 to 256 characters" in by_id[""]
    assert "set image or features" in by_id["nothing"]
    assert "one row, got 2" in by_id["two rows"]


def test_batch_without_a_good_item_commits_nothing(server: Running, name: str) -> None:
    response = server.upsert(name, [Item(item_id="a", image=b"no")])
    assert response.sequence == 0
    assert server.application.floor.catalog.get(name).sequence == 0


def test_each_request_of_a_stream_is_one_write_and_later_ones_may_leave_out_the_gallery(
    server: Running, name: str
) -> None:
    requests = [
        gallery_pb2.UpsertRequest(gallery=name, items=[Item(item_id="a", image=image(1))]),
        gallery_pb2.UpsertRequest(items=[Item(item_id="b", image=image(2))]),
        gallery_pb2.UpsertRequest(items=[Item(item_id="a", image=image(3), person_id="new")]),
    ]
    assert [response.sequence for response in server.galleries.Upsert(iter(requests))] == [1, 2, 3]
    assert get(server, name, "a").person_id == "new"
    assert server.galleries.GetGallery(gallery_pb2.GetGalleryRequest(gallery=name)).items == 2


def test_last_of_equal_ids_in_a_batch_wins(server: Running, name: str) -> None:
    server.upsert(name, [Item(item_id="a", image=image(1), person_id=str(k)) for k in range(3)])
    assert get(server, name, "a").person_id == "2"


@pytest.mark.parametrize("count", [0, 1001])
def test_batch_holds_1_to_1000_items(server: Running, name: str, count: int) -> None:
    request = gallery_pb2.UpsertRequest(gallery=name, items=[Item(item_id=str(k)) for k in range(count)])
    refused(StatusCode.INVALID_ARGUMENT, f"1 to 1000 items, got {count}", server.galleries.Upsert, iter([request]))


def test_batch_may_be_32_mib_but_not_more(server: Running, name: str) -> None:
    big = gallery_pb2.UpsertRequest(gallery=name, items=[Item(item_id="a", image=image(1) + bytes(15 << 20))] * 2)
    (response,) = server.galleries.Upsert(iter([big]))
    assert [result.status.code for result in response.results] == [0, 0]
    too_big = gallery_pb2.UpsertRequest(gallery=name, items=[Item(item_id="a", image=bytes(32 << 20))])
    refused(StatusCode.RESOURCE_EXHAUSTED, "33,554,432", server.galleries.Upsert, iter([too_big]))
    huge = gallery_pb2.UpsertRequest(gallery=name, items=[Item(item_id="a", image=bytes(40 << 20))])
    refused(StatusCode.RESOURCE_EXHAUSTED, "larger than max", server.galleries.Upsert, iter([huge]))
    assert get(server, name, "a").item_id == "a"  # and the server lives


def test_upsert_into_an_unknown_gallery_ends_the_stream(server: Running) -> None:
    request = gallery_pb2.UpsertRequest(gallery="nowhere", items=[Item(item_id="a", image=image(1))])
    refused(StatusCode.NOT_FOUND, "nowhere", server.galleries.Upsert, iter([request]))


def test_thousand_images_in_one_batch_are_all_indexed(server: Running, name: str) -> None:
    pictures = [image(identity) for identity in range(20)]
    items = [Item(item_id=str(k), image=pictures[k % 20]) for k in range(1000)]
    assert set(statuses(server.upsert(name, items)).values()) == {0}
    # indexing may not fill the queue of searches
    assert server.application.floor.batcher.depth == 0
    assert (server.metric("glimpse_queue_rejected_total", reason="full") or 0) == 0


def test_item_comes_back_as_it_was_stored(server: Running, name: str) -> None:
    features = random_features(SCHEMA, 1, seed=3)
    item = Item(
        item_id="a",
        features=wire_features(features),
        person_id="7",
        camera_id="door",
        captured_at=Timestamp(seconds=1_700_000_000, nanos=123_456_000),
    )
    item.attributes.update({"bag": "red", "count": 3})
    sequence = server.upsert(name, [item]).sequence
    stored = get(server, name, "a")
    assert (stored.person_id, stored.camera_id, stored.captured_at) == ("7", "door", item.captured_at)
    assert stored.attributes == item.attributes
    assert stored.sequence == sequence
    assert stored.features.dtype == features_pb2.PartFeatures.FLOAT16
    assert stored.features.vectors == features.vectors.astype("<f2").tobytes()
    assert list(stored.features.visibility) == features.visibility[0].tolist()
    assert stored.features.model_sha256 == server.application.floor.model.sha256
    assert [row.part for row in stored.visibility] == list(SCHEMA.names)


@pytest.mark.parametrize("keep", [False, True])
def test_image_is_kept_only_if_the_gallery_says_so(server: Running, keep: bool) -> None:
    gallery = f"keeps-{keep}"
    server.gallery(gallery, keep_images=keep)
    server.upsert(gallery, [Item(item_id="a", image=image(4))])
    assert get(server, gallery, "a").image == (image(4) if keep else b"")


def test_items_are_listed_in_pages_without_features(server: Running, name: str) -> None:
    server.crowd(name, 5)
    request = gallery_pb2.ListItemsRequest(gallery=name, page_size=4)
    ids: list[str] = []
    pages = 0
    while pages == 0 or request.page_token:
        page = server.galleries.ListItems(request)
        assert all(not item.features.vectors for item in page.items)
        assert all(len(item.visibility) == len(SCHEMA) for item in page.items)
        ids += [item.item_id for item in page.items]
        request.page_token = page.next_page_token
        pages += 1
    assert pages == 3
    assert ids == sorted(f"{identity}-{camera}" for identity in range(5) for camera in range(2))


def test_listing_can_be_filtered(server: Running, name: str) -> None:
    server.crowd(name, 5)
    chosen = search_pb2.Filter(camera_ids=["cam1"], person_ids=["1", "2"])
    page = server.galleries.ListItems(gallery_pb2.ListItemsRequest(gallery=name, filter=chosen))
    assert [item.item_id for item in page.items] == ["1-1", "2-1"]
    assert page.next_page_token == ""


def test_page_of_items_fits_a_client_s_default_limit(server: Running, name: str) -> None:
    features = random_features(SCHEMA, 400)
    items = [Item(item_id=f"{row:03}", features=wire_features(features[row : row + 1])) for row in range(400)]
    for item in items:
        item.attributes.update({"notes": "n" * 16_000})
    server.upsert(name, items)
    request = gallery_pb2.ListItemsRequest(gallery=name, page_size=1000)
    first = server.galleries.ListItems(request)
    request.page_token = first.next_page_token
    rest = []
    while request.page_token:
        page = server.galleries.ListItems(request)
        rest += page.items
        request.page_token = page.next_page_token
    assert len(first.items) + len(rest) == 400


@pytest.mark.parametrize("size", [-1, 1001])
def test_page_size_out_of_range_is_refused(server: Running, name: str, size: int) -> None:
    request = gallery_pb2.ListItemsRequest(gallery=name, page_size=size)
    refused(StatusCode.INVALID_ARGUMENT, f"got {size}", server.galleries.ListItems, request)


@pytest.mark.parametrize("token", ["not base 64!", "gICA", "ä"])
def test_made_up_page_token_is_refused(server: Running, name: str, token: str) -> None:
    request = gallery_pb2.ListItemsRequest(gallery=name, page_token=token)
    refused(StatusCode.INVALID_ARGUMENT, "page_token", server.galleries.ListItems, request)


def test_update_changes_what_is_set_and_nothing_else(server: Running, name: str) -> None:
    server.upsert(name, [Item(item_id="a", image=image(1), person_id="1", camera_id="door")])
    request = gallery_pb2.UpdateItemRequest(gallery=name, item_id="a", person_id="2", camera_id="")
    request.attributes.update({"seen": True})
    updated = server.galleries.UpdateItem(request)
    assert (updated.person_id, updated.camera_id, updated.attributes["seen"]) == ("2", "", True)
    again = get(server, name, "a")
    assert (again.person_id, again.sequence) == ("2", updated.sequence)
    (match,) = server.search.Search(search_pb2.SearchRequest(gallery=name, query_image=image(1))).matches
    assert (match.person_id, match.distance) == ("2", pytest.approx(0, abs=0.03))


def test_update_of_nothing_or_of_nobody_is_refused(server: Running, name: str) -> None:
    request = gallery_pb2.UpdateItemRequest(gallery=name, item_id="a")
    refused(StatusCode.INVALID_ARGUMENT, "at least one of", server.galleries.UpdateItem, request)
    request.person_id = "1"
    refused(StatusCode.NOT_FOUND, "no item 'a'", server.galleries.UpdateItem, request)


def test_deleted_items_are_gone_from_results(server: Running, name: str) -> None:
    server.crowd(name, 3)
    request = gallery_pb2.DeleteItemsRequest(gallery=name, item_ids=["1-0", "1-1", "unknown"])
    deleted = server.galleries.DeleteItems(request)
    assert (deleted.deleted, deleted.sequence) == (2, 2)
    answer = server.search.Search(search_pb2.SearchRequest(gallery=name, query_image=image(1)))
    assert {match.person_id for match in answer.matches} == {"0", "2"}
    assert answer.gallery_sequence == 2
    by_filter = gallery_pb2.DeleteItemsRequest(gallery=name, filter=search_pb2.Filter(camera_ids=["cam0"]))
    assert server.galleries.DeleteItems(by_filter).deleted == 2


@pytest.mark.parametrize(
    "fields",
    [{}, {"filter": search_pb2.Filter()}, {"item_ids": ["a"], "filter": search_pb2.Filter(camera_ids=["b"])}],
)
def test_delete_needs_ids_or_a_filter_but_not_both(server: Running, name: str, fields: dict[str, Any]) -> None:
    request = gallery_pb2.DeleteItemsRequest(gallery=name, **fields)
    refused(StatusCode.INVALID_ARGUMENT, "item_ids", server.galleries.DeleteItems, request)


def test_model_and_stats_are_told(server: Running) -> None:
    from protos.glimpse.v1 import admin_pb2

    served = server.admin.GetModel(admin_pb2.GetModelRequest())
    assert (served.name, served.provider, served.method) == ("tiny", "cpu", "bands")
    server.search.Search(search_pb2.SearchRequest(gallery="crowd", query_image=image(1)))
    stats = server.admin.GetStats(admin_pb2.GetStatsRequest())
    assert stats.images >= 25
    assert 1 <= stats.batches <= stats.images
    assert stats.resident_bytes > 10 << 20
    assert stats.uptime.ToNanoseconds() > 0
    assert stats.requests["SearchService/Search/OK"] >= 1
    (crowd,) = [gallery for gallery in stats.galleries if gallery.gallery == "crowd"]
    assert (crowd.live, crowd.tombstones, crowd.sequence) == (24, 0, 1)
