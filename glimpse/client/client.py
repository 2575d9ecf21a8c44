"""`Client`: one method a task of the server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, Unpack

from grpc_health.v1 import health_pb2, health_pb2_grpc

from glimpse.client import batches, conversions, errors
from glimpse.client.audit import AuditQuestion, AuditRow, AuditVerdict, rows_of, verdict
from glimpse.client.channel import Connection
from glimpse.client.errors import GlimpseError
from glimpse.client.keeping import KeepingCalls
from glimpse.client.values import (
    Extraction,
    Filter,
    GalleryInfo,
    ImageSource,
    Item,
    ItemResult,
    Match,
    ModelInfo,
    Query,
    SearchOptions,
    SearchResult,
    ServerStats,
    StoredItem,
)
from glimpse.parts import PartSchema
from protos.glimpse.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)

SEARCH_WINDOW = 16
"""Queries of `Client.search_many` under way at once."""
UPSERT_WINDOW = 4
"""Batches of `Client.upsert` under way at once."""


class Client(KeepingCalls):
    """A connection to one server; close it, or use it as a context manager. Threads may share it.

    Every method raises `GlimpseError` (its subclasses name the gRPC status) when the server refuses or cannot be
    reached, OSError when an image file cannot be read, and ValueError when an argument cannot be sent. Calls that
    change nothing, or change it to the same end, are repeated a few times while the server is unreachable or full.

    Args:
        address: ``host:port``.
        ca: PEM file of the authority that signed the server's certificate; turns TLS on.
        cert, key: PEM files of the client's own certificate; turn TLS on.
        tls: TLS with the system's authorities, without a file.
        token: sent with every call; made by `glimpse token create`.
        insecure: send the token in plaintext beyond this machine too.
        timeout: seconds a call may take, retries included; each method's ``timeout`` overrides it. Streams
            (`search_many`, `search_all`, `upsert`) have no timeout unless one is given.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        tls: bool = False,
        token: str | None = None,
        insecure: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self._connection = Connection(
            address, ca=ca, cert=cert, key=key, tls=tls, token=token, insecure=insecure, timeout=timeout
        )
        self._searches = search_pb2_grpc.SearchServiceStub(self._connection.channel)
        self._galleries = gallery_pb2_grpc.GalleryServiceStub(self._connection.channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._connection.channel)
        self._health = health_pb2_grpc.HealthStub(self._connection.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and every call under way."""
        self._connection.close()

    # Searching

    def search(
        self,
        gallery: str,
        image: ImageSource | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """The items of ``gallery`` that are closest to a query, best first.

        The query is ``image``, or one of the options ``tracklet``, ``features`` and ``item_id``; all options are
        fields of `Query`.

            glimpse.search("lobby", "query.jpg", top_k=5, part_weights={"upper": 1}, explain=True)
            glimpse.search("lobby", item_id="door-0042", filter=Filter(exclude=[Filter(camera_ids=["door"])]))
        """
        request = conversions.search_request(gallery, Query(image=image, **options))
        return conversions.search_result(self._connection.unary(self._searches.Search, request, timeout=timeout))

    def search_many(
        self, gallery: str, queries: Iterable[Query | ImageSource], *, timeout: float | None = None
    ) -> Iterator[SearchResult | GlimpseError]:
        """Many queries on one call: the result of each in order, or the `GlimpseError` that this one query met.

        A few queries are under way at once; ``queries`` is drawn as answers arrive. A failure of the call itself
        (no server, timeout) is raised.
        """
        requests = (
            conversions.search_request(gallery, query if isinstance(query, Query) else Query(image=query))
            for query in queries
        )
        responses = self._connection.pipeline(
            self._searches.SearchStream, requests, window=SEARCH_WINDOW, timeout=timeout
        )
        for response in responses:
            if response.HasField("error"):
                yield errors.from_status(response.error)
            else:
                yield conversions.search_result(response)

    def search_all(
        self,
        gallery: str,
        image: ImageSource | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> Iterator[Match]:
        """The whole ranking of ``gallery`` against one query, best first; ``top_k`` is ignored."""
        request = conversions.search_request(gallery, Query(image=image, **options))
        for response in self._connection.pages(self._searches.SearchAll, request, timeout=timeout):
            yield from map(conversions.match, response.matches)

    def extract(self, images: Iterable[ImageSource], *, timeout: float | None = None) -> Extraction:
        """Part features of up to 64 images, no gallery involved; a bad image fails alone (`Extraction.errors`)."""
        request = search_pb2.ExtractRequest(images=[conversions.image_bytes(image) for image in images])
        return conversions.extraction(self._connection.unary(self._searches.Extract, request, timeout=timeout))

    # Galleries

    def create_gallery(
        self,
        gallery: str,
        *,
        schema: PartSchema | None = None,
        keep_images: bool = False,
        retention: timedelta | None = None,
        require_purpose: bool = False,
        latency_target: timedelta | None = None,
        compact: bool = False,
        timeout: float | None = None,
    ) -> GalleryInfo:
        """Makes an empty gallery, bound to the server's model, or to ``schema`` for features made elsewhere.

        Args:
            keep_images: keep the encoded image of each item beside its features.
            retention: items older than this are deleted.
            require_purpose: refuse searches that state no purpose.
            latency_target: search time that mode "auto" aims for; without one every search is exact.
            compact: keep only compact codes in memory, a quarter of what is kept else; "auto" is then "fast", and an
                exact search reads from disk.
        """
        request = gallery_pb2.CreateGalleryRequest(
            gallery=gallery, keep_images=keep_images, require_purpose=require_purpose, compact=compact
        )
        if schema is not None:
            request.schema.CopyFrom(conversions.schema_message(schema))
        if retention is not None:
            request.retention.CopyFrom(conversions.duration(retention))
        if latency_target is not None:
            request.latency_target.CopyFrom(conversions.duration(latency_target))
        method = self._galleries.CreateGallery
        return conversions.gallery_info(self._connection.unary(method, request, timeout=timeout, idempotent=False))

    def gallery(self, gallery: str, *, timeout: float | None = None) -> GalleryInfo:
        """What one gallery holds."""
        request = gallery_pb2.GetGalleryRequest(gallery=gallery)
        return conversions.gallery_info(self._connection.unary(self._galleries.GetGallery, request, timeout=timeout))

    def galleries(self, *, timeout: float | None = None) -> list[GalleryInfo]:
        """All galleries, by name."""
        request = gallery_pb2.ListGalleriesRequest()
        response = self._connection.unary(self._galleries.ListGalleries, request, timeout=timeout)
        return [conversions.gallery_info(message) for message in response.galleries]

    def delete_gallery(self, gallery: str, *, timeout: float | None = None) -> int:
        """Removes a gallery and everything in it; returns how many items it held."""
        request = gallery_pb2.DeleteGalleryRequest(gallery=gallery)
        method = self._galleries.DeleteGallery
        return self._connection.unary(method, request, timeout=timeout, idempotent=False).deleted

    # Items

    def upsert(
        self,
        gallery: str,
        items: Iterable[Item],
        *,
        batch_items: int = batches.DEFAULT_ITEMS,
        timeout: float | None = None,
    ) -> Iterator[ItemResult]:
        """Adds or replaces items; yields what became of each, in order, as the server acknowledges its batch.

        Nothing is sent before the iterator is drawn. A few batches are under way at once and ``items`` is drawn as
        they are answered, so any number of items takes little memory. A result with ``ok`` survives a crash of the
        server; when the call fails midway, items without a result may or may not be stored, and sending them again
        is safe.

        Args:
            batch_items: items a transaction, 1 to 1,000; a batch also ends at `batches.MAX_BYTES`.
        """
        requests = batches.upsert_requests(gallery, map(conversions.item_message, items), batch_items)
        responses = self._connection.pipeline(self._galleries.Upsert, requests, window=UPSERT_WINDOW, timeout=timeout)
        for response in responses:
            for result in response.results:
                yield conversions.item_result(result, response.sequence)

    def get_item(self, gallery: str, item_id: str, *, timeout: float | None = None) -> StoredItem:
        """One item with its features, and its image if the gallery keeps images."""
        request = gallery_pb2.GetItemRequest(gallery=gallery, item_id=item_id)
        return conversions.stored_item(self._connection.unary(self._galleries.GetItem, request, timeout=timeout))

    def list_items(
        self, gallery: str, filter: Filter | None = None, *, page_size: int = 1000, timeout: float | None = None
    ) -> Iterator[StoredItem]:
        """Items by id, without features and images; pages are asked for as they are needed."""
        request = gallery_pb2.ListItemsRequest(gallery=gallery, page_size=page_size)
        if filter is not None:
            request.filter.CopyFrom(conversions.filter_message(filter))
        while True:
            response = self._connection.unary(self._galleries.ListItems, request, timeout=timeout)
            yield from map(conversions.stored_item, response.items)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def update_item(
        self,
        gallery: str,
        item_id: str,
        *,
        person_id: str | None = None,
        camera_id: str | None = None,
        captured_at: datetime | None = None,
        attributes: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> StoredItem:
        """Changes the metadata of an item; None leaves a field as it is, an empty string clears it."""
        request = gallery_pb2.UpdateItemRequest(
            gallery=gallery, item_id=item_id, person_id=person_id, camera_id=camera_id
        )
        if captured_at is not None:
            request.captured_at.CopyFrom(conversions.timestamp(captured_at))
        if attributes is not None:
            request.attributes.CopyFrom(conversions.struct(attributes))
        return conversions.stored_item(self._connection.unary(self._galleries.UpdateItem, request, timeout=timeout))

    def delete_items(
        self,
        gallery: str,
        item_ids: Sequence[str] = (),
        *,
        filter: Filter | None = None,
        timeout: float | None = None,
    ) -> int:
        """Removes items by id, or all that match ``filter``; returns how many were there and are gone."""
        request = gallery_pb2.DeleteItemsRequest(gallery=gallery, item_ids=item_ids)
        if filter is not None:
            request.filter.CopyFrom(conversions.filter_message(filter))
        method = self._galleries.DeleteItems
        return self._connection.unary(method, request, timeout=timeout, idempotent=False).deleted

    # The server

    def model(self, *, timeout: float | None = None) -> ModelInfo:
        """The model being served."""
        request = admin_pb2.GetModelRequest()
        return conversions.model(self._connection.unary(self._admin.GetModel, request, timeout=timeout))

    def stats(self, *, timeout: float | None = None) -> ServerStats:
        """Counters since the server's start."""
        request = admin_pb2.GetStatsRequest()
        return conversions.server_stats(self._connection.unary(self._admin.GetStats, request, timeout=timeout))

    def audit(
        self, *, limit: int | None = None, timeout: float | None = None, **question: Unpack[AuditQuestion]
    ) -> Iterator[AuditRow]:
        """Rows of the audit trail, the newest first: all that match, or ``limit`` of them. Needs the role admin.

        for row in glimpse.audit(gallery="lobby", person_id="0042"):
            print(row.time, row.caller, row.method, row.purpose)
        """
        return rows_of(self._connection, self._admin, timeout, limit, **question)

    def verify_audit(self, head: str = "", *, timeout: float | None = None) -> AuditVerdict:
        """Has the server read its whole audit trail and recompute the hashes. Needs the role admin.

        Args:
            head: of an earlier verdict, which the trail must still hold.
        """
        return verdict(self._connection, self._admin, head, timeout)

    def health(self, service: str = "", *, timeout: float | None = None) -> str:
        """``"SERVING"``, ``"NOT_SERVING"`` (starting, draining, or a worker died) or ``"UNKNOWN"``.

        Args:
            service: a service's full name, for example ``"glimpse.v1.SearchService"``; empty for the whole server.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        status = self._connection.unary(self._health.Check, request, timeout=timeout).status
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
