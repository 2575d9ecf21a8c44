"""A Glimpse server in memory, over real gRPC: ranks by item id and does what a test tells it to."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos.glimpse.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    features_pb2,
    gallery_pb2,
    gallery_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

SCHEMA = features_pb2.PartSchema(
    parts=[features_pb2.Part(name="global", dim=2, always_visible=True), features_pb2.Part(name="upper", dim=2)]
)
MODEL = features_pb2.Model(
    name="fake", version="1.0.0", sha256="ab" * 32, method="fake", schema=SCHEMA, height=8, width=4, provider="cpu"
)
ROW = np.array([1, 0, 0, 1], "<f4")


class FakeServer(
    search_pb2_grpc.SearchServiceServicer, gallery_pb2_grpc.GalleryServiceServicer, admin_pb2_grpc.AdminServiceServicer
):
    """Holds items in dicts. An image that starts with ``bad`` is refused; ``failures`` are raised first, in order."""

    def __init__(self) -> None:
        self.galleries: dict[str, dict[str, gallery_pb2.Item]] = {}
        self.created: dict[str, gallery_pb2.CreateGalleryRequest] = {}
        self.requests: list[Any] = []
        self.failures: list[status_pb2.Status] = []
        self.largest_gap = 0
        """Most requests received on a stream beyond those answered."""
        self.upserting = threading.Event()
        """The first batch of an Upsert has arrived."""
        self.release = threading.Event()
        """Streams answer once this is set."""
        self.release.set()
        self.sequence = 0
        self.server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 32 << 20)]
        )
        search_pb2_grpc.add_SearchServiceServicer_to_server(self, self.server)
        gallery_pb2_grpc.add_GalleryServiceServicer_to_server(self, self.server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self, self.server)
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()

    def _receive(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.failures:
            context.abort_with_status(rpc_status.to_status(self.failures.pop(0)))

    def _items(self, gallery: str, context: grpc.ServicerContext) -> dict[str, gallery_pb2.Item]:
        if gallery not in self.galleries:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no gallery {gallery!r}; there are {sorted(self.galleries)}")
        return self.galleries[gallery]

    # SearchService

    def _answer(
        self, request: search_pb2.SearchRequest, items: dict[str, gallery_pb2.Item]
    ) -> search_pb2.SearchResponse:
        excluded = {item_id for entry in request.filter.exclude for item_id in entry.item_ids} | {request.item_id}
        matches = []
        for rank, item in enumerate(item for key, item in sorted(items.items()) if key not in excluded):
            match = search_pb2.Match(
                item_id=item.item_id,
                person_id=item.person_id,
                camera_id=item.camera_id,
                attributes=item.attributes,
                distance=0.1 * (rank + 1),
                joint_visibility=0.5,
            )
            if item.HasField("captured_at"):
                match.captured_at.CopyFrom(item.captured_at)
            if item.attributes.fields["hidden"].bool_value:
                match.ClearField("distance")
            if request.explain:
                match.parts.add(part="global", similarity=0.9, query_visibility=1, item_visibility=1, weight=0.75)
                match.parts.add(part="upper", similarity=0.8, query_visibility=0.5, item_visibility=1, weight=0.25)
            matches.append(match)
        return search_pb2.SearchResponse(
            matches=matches[: request.top_k or 10],
            query=[
                features_pb2.PartVisibility(part="global", visibility=1),
                features_pb2.PartVisibility(part="upper", visibility=0.5),
            ],
            model=MODEL,
            exact=True,
            gallery_sequence=self.sequence,
            timings=search_pb2.Timings(total=duration_pb2.Duration(nanos=2_000_000)),
        )

    def Search(self, request: search_pb2.SearchRequest, context: grpc.ServicerContext) -> search_pb2.SearchResponse:
        self._receive(request, context)
        items = self._items(request.gallery, context)
        if request.query_image.startswith(b"bad"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the image cannot be decoded")
        return self._answer(request, items)

    def SearchStream(
        self, requests: Iterator[search_pb2.SearchRequest], context: grpc.ServicerContext
    ) -> Iterator[search_pb2.SearchResponse]:
        for request in requests:
            self._receive(request, context)
            if request.query_image.startswith(b"bad"):
                yield search_pb2.SearchResponse(error=status(code_pb2.INVALID_ARGUMENT, "the image cannot be decoded"))
            else:
                yield self._answer(request, self._items(request.gallery, context))

    def SearchAll(
        self, request: search_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> Iterator[search_pb2.SearchResponse]:
        self._receive(request, context)
        whole = search_pb2.SearchRequest()
        whole.CopyFrom(request)
        whole.top_k = 1_000_000
        answer = self._answer(whole, self._items(request.gallery, context))
        for start in range(0, len(answer.matches), 2):
            yield search_pb2.SearchResponse(matches=answer.matches[start : start + 2], rank_offset=start)

    def Extract(self, request: search_pb2.ExtractRequest, context: grpc.ServicerContext) -> search_pb2.ExtractResponse:
        self._receive(request, context)
        bad = [row for row, image in enumerate(request.images) if image.startswith(b"bad")]
        vectors = np.stack([np.zeros(4, "<f4") if row in bad else ROW for row in range(len(request.images))])
        visibility = [value for row in range(len(request.images)) for value in ((1, 0) if row in bad else (1, 0.5))]
        return search_pb2.ExtractResponse(
            features=features_pb2.PartFeatures(schema=SCHEMA, vectors=vectors.tobytes(), visibility=visibility),
            errors=[
                search_pb2.ImageError(index=row, status=status(code_pb2.INVALID_ARGUMENT, "not an image"))
                for row in bad
            ],
            model=MODEL,
        )

    # GalleryService

    def _gallery(self, name: str) -> gallery_pb2.Gallery:
        created = self.created[name]
        gallery = gallery_pb2.Gallery(
            gallery=name,
            items=len(self.galleries[name]),
            sequence=self.sequence,
            model=MODEL,
            schema=SCHEMA,
            keep_images=created.keep_images,
        )
        if created.HasField("retention"):
            gallery.retention.CopyFrom(created.retention)
        return gallery

    def CreateGallery(
        self, request: gallery_pb2.CreateGalleryRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.Gallery:
        self._receive(request, context)
        if request.gallery in self.galleries:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"gallery {request.gallery!r} exists")
        self.galleries[request.gallery] = {}
        self.created[request.gallery] = request
        return self._gallery(request.gallery)

    def GetGallery(self, request: gallery_pb2.GetGalleryRequest, context: grpc.ServicerContext) -> gallery_pb2.Gallery:
        self._receive(request, context)
        self._items(request.gallery, context)
        return self._gallery(request.gallery)

    def ListGalleries(
        self, request: gallery_pb2.ListGalleriesRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.ListGalleriesResponse:
        self._receive(request, context)
        return gallery_pb2.ListGalleriesResponse(galleries=[self._gallery(name) for name in sorted(self.galleries)])

    def DeleteGallery(
        self, request: gallery_pb2.DeleteGalleryRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.DeleteGalleryResponse:
        self._receive(request, context)
        self._items(request.gallery, context)
        return gallery_pb2.DeleteGalleryResponse(deleted=len(self.galleries.pop(request.gallery)))

    def Upsert(
        self, requests: Iterator[gallery_pb2.UpsertRequest], context: grpc.ServicerContext
    ) -> Iterator[gallery_pb2.UpsertResponse]:
        inbox: queue.SimpleQueue[gallery_pb2.UpsertRequest | None] = queue.SimpleQueue()
        under_way = 0

        def receive() -> None:
            nonlocal under_way
            with suppress(grpc.RpcError):  # the caller went away
                for request in requests:
                    under_way += 1
                    self.largest_gap = max(self.largest_gap, under_way)
                    inbox.put(request)
                    self.upserting.set()
            inbox.put(None)

        threading.Thread(target=receive, daemon=True).start()
        while True:
            self.release.wait(10)
            if (request := inbox.get(timeout=10)) is None:
                return
            self._receive(request, context)
            items = self._items(request.gallery, context)
            self.sequence += 1
            results = []
            for item in request.items:
                if item.image.startswith(b"bad"):
                    refusal = status(code_pb2.INVALID_ARGUMENT, "the image cannot be decoded")
                    results.append(gallery_pb2.ItemResult(item_id=item.item_id, status=refusal))
                else:
                    items[item.item_id] = item
                    results.append(gallery_pb2.ItemResult(item_id=item.item_id))
            under_way -= 1
            yield gallery_pb2.UpsertResponse(results=results, sequence=self.sequence)

    def _stored(self, item: gallery_pb2.Item) -> gallery_pb2.StoredItem:
        stored = gallery_pb2.StoredItem(
            item_id=item.item_id,
            person_id=item.person_id,
            camera_id=item.camera_id,
            attributes=item.attributes,
            visibility=[features_pb2.PartVisibility(part="upper", visibility=0.5)],
            sequence=self.sequence,
        )
        if item.HasField("captured_at"):
            stored.captured_at.CopyFrom(item.captured_at)
        return stored

    def GetItem(self, request: gallery_pb2.GetItemRequest, context: grpc.ServicerContext) -> gallery_pb2.StoredItem:
        self._receive(request, context)
        items = self._items(request.gallery, context)
        if request.item_id not in items:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no item {request.item_id!r}")
        stored = self._stored(items[request.item_id])
        stored.features.CopyFrom(
            features_pb2.PartFeatures(
                schema=SCHEMA,
                vectors=ROW.astype("<f2").tobytes(),
                dtype=features_pb2.PartFeatures.FLOAT16,
                visibility=[1, 0.5],
            )
        )
        if self.created[request.gallery].keep_images:
            stored.image = items[request.item_id].image
        return stored

    def ListItems(
        self, request: gallery_pb2.ListItemsRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.ListItemsResponse:
        self._receive(request, context)
        names = [name for name in sorted(self._items(request.gallery, context)) if name > request.page_token]
        page = names[: request.page_size]
        return gallery_pb2.ListItemsResponse(
            items=[self._stored(self.galleries[request.gallery][name]) for name in page],
            next_page_token=page[-1] if len(names) > len(page) else "",
        )

    def UpdateItem(
        self, request: gallery_pb2.UpdateItemRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.StoredItem:
        self._receive(request, context)
        item = self._items(request.gallery, context)[request.item_id]
        for field in ("person_id", "camera_id"):
            if request.HasField(field):
                setattr(item, field, getattr(request, field))
        if request.HasField("attributes"):
            item.attributes.CopyFrom(request.attributes)
        return self._stored(item)

    def DeleteItems(
        self, request: gallery_pb2.DeleteItemsRequest, context: grpc.ServicerContext
    ) -> gallery_pb2.DeleteItemsResponse:
        self._receive(request, context)
        items = self._items(request.gallery, context)
        people = set(request.filter.person_ids)
        doomed = set(request.item_ids) | {name for name, item in items.items() if item.person_id in people}
        deleted = sum(items.pop(name, None) is not None for name in doomed)
        return gallery_pb2.DeleteItemsResponse(deleted=deleted)

    # AdminService

    def GetModel(self, request: admin_pb2.GetModelRequest, context: grpc.ServicerContext) -> features_pb2.Model:
        self._receive(request, context)
        return MODEL

    def GetStats(self, request: admin_pb2.GetStatsRequest, context: grpc.ServicerContext) -> admin_pb2.Stats:
        self._receive(request, context)
        return admin_pb2.Stats(
            version="0.1.0",
            uptime=duration_pb2.Duration(seconds=5),
            requests={"Search/OK": 3},
            galleries=[admin_pb2.GalleryStats(gallery=name, live=len(items)) for name, items in self.galleries.items()],
        )


def status(code: int, message: str, retry_after: float | None = None) -> status_pb2.Status:
    """A `google.rpc.Status`, with `RetryInfo` when ``retry_after`` is given."""
    details = []
    if retry_after is not None:
        hint = error_details_pb2.RetryInfo()
        hint.retry_delay.FromNanoseconds(round(retry_after * 1e9))
        packed = any_pb2.Any()
        packed.Pack(hint)
        details.append(packed)
    return status_pb2.Status(code=code, message=message, details=details)
