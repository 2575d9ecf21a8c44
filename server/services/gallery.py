"""GalleryService: the people one searches in."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from glimpse.parts import PartFeatures
from protos.glimpse.v1 import gallery_pb2
from server import wire
from server.errors import InvalidArgument
from server.galleries.gallery import Gallery
from server.galleries.items import StoredItem
from server.galleries.settings import GallerySettings
from server.interceptors import Context, deadline_of, note
from server.parsing import Refused
from server.security import caller
from server.services.floor import Floor
from server.services.gallery_keeping import Keeping
from server.services.gallery_migrating import Migrating
from server.services.reports import gallery_message
from server.services.upsert import Upserts

DEFAULT_PAGE = 100
MAX_PAGE = 1000
PAGE_BYTES = 3 << 20


class GalleryService(Keeping, Migrating):
    """`floor` is called at every request: it is there only once the server has loaded."""

    def __init__(self, floor: Callable[[], Floor]) -> None:
        self._floor = floor
        self._migrating = {}

    async def CreateGallery(  # type: ignore[override]  # the stub allows sync and async at once
        self, request: gallery_pb2.CreateGalleryRequest, context: Context
    ) -> gallery_pb2.Gallery:
        floor = self._floor()
        settings = _settings_of(request, floor)
        gallery = await floor.store(lambda: floor.catalog.create(settings))
        note(gallery=request.gallery)
        return await floor.store(lambda: gallery_message(gallery))

    async def GetGallery(  # type: ignore[override]
        self, request: gallery_pb2.GetGalleryRequest, context: Context
    ) -> gallery_pb2.Gallery:
        floor = self._floor()
        gallery = floor.catalog.get(request.gallery)
        return await floor.store(lambda: gallery_message(gallery))

    async def ListGalleries(  # type: ignore[override]
        self, request: gallery_pb2.ListGalleriesRequest, context: Context
    ) -> gallery_pb2.ListGalleriesResponse:
        floor = self._floor()
        mine = [gallery for gallery in floor.catalog.list() if caller.current().may_use(gallery.settings.name)]
        reports = await floor.store(lambda: [gallery_message(gallery) for gallery in mine])
        return gallery_pb2.ListGalleriesResponse(galleries=sorted(reports, key=lambda report: report.gallery))

    async def DeleteGallery(  # type: ignore[override]
        self, request: gallery_pb2.DeleteGalleryRequest, context: Context
    ) -> gallery_pb2.DeleteGalleryResponse:
        floor = self._floor()
        deleted = await floor.store(lambda: floor.catalog.delete(request.gallery))
        note(gallery=request.gallery, deleted=deleted)
        return gallery_pb2.DeleteGalleryResponse(deleted=deleted)

    async def Upsert(  # type: ignore[override]
        self, requests: AsyncIterator[gallery_pb2.UpsertRequest | Refused], context: Context
    ) -> AsyncIterator[gallery_pb2.UpsertResponse]:
        upserts = Upserts(self._floor(), deadline_of(context))
        async for request in requests:
            yield await upserts.answer(request)

    async def GetItem(  # type: ignore[override]
        self, request: gallery_pb2.GetItemRequest, context: Context
    ) -> gallery_pb2.StoredItem:
        floor = self._floor()
        gallery = floor.catalog.get(request.gallery)
        item = await floor.store(lambda: gallery.get(request.item_id, image=True))
        return _item_message(item, gallery, features=True)

    async def ListItems(  # type: ignore[override]
        self, request: gallery_pb2.ListItemsRequest, context: Context
    ) -> gallery_pb2.ListItemsResponse:
        floor = self._floor()
        gallery = floor.catalog.get(request.gallery)
        chosen = wire.filter_of(request.filter)
        size = _page_size(request.page_size)
        after = _after(request.page_token)
        # One more than the page tells whether there is a next one.
        items = await floor.store(lambda: gallery.list(chosen, after, size + 1))
        response = gallery_pb2.ListItemsResponse()
        total = 0
        for item in items[:size]:
            message = _item_message(item, gallery, features=False)
            total += message.ByteSize()
            if response.items and total > PAGE_BYTES:
                break
            response.items.append(message)
        if len(response.items) < len(items):
            response.next_page_token = _token(response.items[-1].item_id)
        note(gallery=request.gallery, items=len(response.items))
        return response

    async def UpdateItem(  # type: ignore[override]
        self, request: gallery_pb2.UpdateItemRequest, context: Context
    ) -> gallery_pb2.StoredItem:
        floor = self._floor()
        gallery = floor.catalog.get(request.gallery)
        changes: dict[str, Any] = {}
        if request.HasField("person_id"):
            changes["person_id"] = request.person_id
        if request.HasField("camera_id"):
            changes["camera_id"] = request.camera_id
        if request.HasField("captured_at"):
            changes["captured_at"] = wire.microseconds(request.captured_at, "captured_at")
        if request.HasField("attributes"):
            changes["attributes"] = wire.attributes_of(request.attributes)
        if not changes:
            raise InvalidArgument("set at least one of person_id, camera_id, captured_at or attributes")
        item = await floor.store(lambda: gallery.update(request.item_id, **changes))
        note(gallery=request.gallery)
        return _item_message(item, gallery, features=False)

    async def DeleteItems(  # type: ignore[override]
        self, request: gallery_pb2.DeleteItemsRequest, context: Context
    ) -> gallery_pb2.DeleteItemsResponse:
        floor = self._floor()
        gallery = floor.catalog.get(request.gallery)
        if request.item_ids and request.HasField("filter"):
            raise InvalidArgument("give item_ids or a filter, not both", field="filter")
        if request.item_ids:
            ids = tuple(request.item_ids)
            deleted, sequence = await floor.store(lambda: gallery.delete(item_ids=ids))
        else:
            chosen = wire.filter_of(request.filter)
            if chosen.empty:
                raise InvalidArgument(
                    "give item_ids or a filter that is not empty; use DeleteGallery to remove everything",
                    field="filter",
                )
            deleted, sequence = await floor.store(lambda: gallery.delete(filter=chosen))
        note(gallery=request.gallery, deleted=deleted)
        return gallery_pb2.DeleteItemsResponse(deleted=deleted, sequence=sequence)


def _settings_of(request: gallery_pb2.CreateGalleryRequest, floor: Floor) -> GallerySettings:
    """What a new gallery is told. It belongs to the served model unless it asks for other parts."""
    served = floor.bundle.schema
    schema = wire.schema_of(request.schema) if request.HasField("schema") else served
    ours = schema.same_layout(served) and (schema.always_visible == served.always_visible).all()
    model = floor.model
    info = {"method": model.method, "license": model.license, "height": model.height, "width": model.width}
    return GallerySettings(
        name=request.gallery,
        schema=schema,
        model=floor.bundle.identity if ours else None,
        model_info=info if ours else {},
        keep_images=request.keep_images,
        retention_us=(
            wire.positive_microseconds(request.retention, "retention") if request.HasField("retention") else None
        ),
        require_purpose=request.require_purpose,
        latency_target_us=(
            wire.positive_microseconds(request.latency_target, "latency_target")
            if request.HasField("latency_target")
            else None
        ),
        compact=request.compact,
        created_at_us=time.time_ns() // 1000,
    )


def _item_message(item: StoredItem, gallery: Gallery, *, features: bool) -> gallery_pb2.StoredItem:
    settings = gallery.settings
    message = gallery_pb2.StoredItem(
        item_id=item.item_id,
        person_id=item.person_id,
        camera_id=item.camera_id,
        visibility=wire.visibility_messages(settings.schema, item.visibility),
        sequence=item.sequence,
    )
    if item.captured_at is not None:
        message.captured_at.CopyFrom(wire.timestamp_of(item.captured_at))
    if item.attributes:
        message.attributes.CopyFrom(wire.struct_of(item.attributes))
    if features and item.vectors is not None:
        stored = PartFeatures.trusted(item.vectors[None].astype("f4"), item.visibility[None], settings.schema)
        sha256 = settings.model.sha256 if settings.model else ""
        message.features.CopyFrom(
            wire.features_message(stored, wire.schema_message(settings.schema), sha256, half=True)
        )
    if features and item.image:
        message.image = item.image
    return message


def _page_size(value: int) -> int:
    if value == 0:
        return DEFAULT_PAGE
    if not 1 <= value <= MAX_PAGE:
        raise InvalidArgument(
            f"page_size must be 1 to {MAX_PAGE} (0 means {DEFAULT_PAGE}), got {value}", field="page_size"
        )
    return value


def _token(item_id: str) -> str:
    return base64.urlsafe_b64encode(item_id.encode()).decode("ascii")


def _after(token: str) -> str:
    """The item id after which a page starts; empty for the first page."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"page_token {token[:40]!r} is not one that ListItems gave out", field="page_token"
        ) from error
