"""`Upserts`: the batches of one `Upsert` stream, each one transaction and one answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np
from google.rpc import status_pb2

from glimpse.parts import PartFeatures
from protos.glimpse.v1 import features_pb2, gallery_pb2
from server import wire
from server.errors import InvalidArgument, ServerError
from server.galleries.gallery import Gallery
from server.galleries.items import MAX_TEXT, NewItem
from server.interceptors import note
from server.parsing import Refused
from server.services.floor import Floor
from server.services.query import check_model
from server.statuses import status_of

MAX_ITEMS = 1000

_log = logging.getLogger(__name__)
_STORED = status_pb2.Status()

Row = PartFeatures | ServerError
"""The features of one item, one row; or why it has none."""


class Upserts:
    """Answers the requests of one stream, in order. Later requests may leave the gallery's name empty."""

    def __init__(self, floor: Floor, deadline: float | None) -> None:
        self._floor = floor
        self._deadline = deadline
        self._name = ""
        self._stored = self._refused = 0

    async def answer(self, request: gallery_pb2.UpsertRequest | Refused) -> gallery_pb2.UpsertResponse:
        """Stores one batch; when it returns, what it calls stored is committed.

        An item that is refused has its own status and does not keep the others from being stored. A request that is
        wrong as a whole (its size, its gallery) ends the stream.
        """
        if isinstance(request, Refused):
            raise request.error
        if not 1 <= len(request.items) <= MAX_ITEMS:
            raise InvalidArgument(f"a batch must hold 1 to {MAX_ITEMS} items, got {len(request.items)}", field="items")
        self._name = request.gallery or self._name
        gallery = self._floor.catalog.get(self._name)
        rows = await self._rows(request.items, gallery)
        # Items are made and stored in one go in the storing thread: a thousand of them would hold up the loop.
        response = await self._floor.store(lambda: _store(request.items, rows, gallery))
        refused = sum(result.status.code != 0 for result in response.results)
        self._stored += len(response.results) - refused
        self._refused += refused
        note(gallery=self._name, stored=self._stored, refused=self._refused, sequence=response.sequence)
        return response

    async def _rows(self, items: Sequence[gallery_pb2.Item], gallery: Gallery) -> list[Row]:
        kinds = [item.WhichOneof("content") for item in items]
        ready = [index for index, kind in enumerate(kinds) if kind == "features"]
        images = [index for index, kind in enumerate(kinds) if kind == "image"]
        missing: Row = InvalidArgument("set image or features", field="content")
        rows: list[Row] = [missing] * len(items)
        if ready:
            parsed = await self._floor.store(lambda: _given(ready, items, gallery))
            for index, row in zip(ready, parsed, strict=True):
                rows[index] = row
        if images:
            for index, row in zip(images, await self._seen(images, items, gallery), strict=True):
                rows[index] = row
        return rows

    async def _seen(self, indices: Sequence[int], items: Sequence[gallery_pb2.Item], gallery: Gallery) -> list[Row]:
        """Features of items that are images; all of a batch are in flight at once."""
        settings = gallery.settings
        try:
            check_model(settings, self._floor.bundle.identity)
        except ServerError as error:
            return [error] * len(indices)
        extractor = self._floor.extractor
        outcomes = await asyncio.gather(
            *(extractor.bulk(items[index].image, "image", deadline=self._deadline) for index in indices)
        )
        return [each if isinstance(each, ServerError) else each.features for each in outcomes]


def _given(indices: Sequence[int], items: Sequence[gallery_pb2.Item], gallery: Gallery) -> list[Row]:
    """Features that came with the items. A batch is checked as one array; only if that fails, item by item."""
    messages = [items[index].features for index in indices]
    try:
        features = wire.features_of(messages, gallery.settings)
        if len(features) == len(messages):
            return [features[row : row + 1] for row in range(len(messages))]
    except ServerError:
        pass  # one of them is wrong; the loop below says which
    return [_one_given(message, gallery) for message in messages]


def _one_given(message: features_pb2.PartFeatures, gallery: Gallery) -> Row:
    try:
        features = wire.features_of([message], gallery.settings)
    except ServerError as error:
        return error
    if len(features) != 1:
        return InvalidArgument(f"features must hold one row, got {len(features)}", field="features")
    return features


def _store(items: Sequence[gallery_pb2.Item], rows: Sequence[Row], gallery: Gallery) -> gallery_pb2.UpsertResponse:
    """One transaction for the items that are right; a status for each."""
    accepted: list[NewItem] = []
    results = []
    for item, row in zip(items, rows, strict=True):
        status = _STORED
        try:
            if isinstance(row, ServerError):
                status = status_of(row)
            else:
                accepted.append(_new_item(item, row, keep_image=gallery.settings.keep_images))
        except ServerError as error:
            status = status_of(error)
        # A refused id may be as long as the message; results come in the order of the items anyway.
        results.append(gallery_pb2.ItemResult(item_id=item.item_id[:MAX_TEXT], status=status))
    sequence = gallery.upsert(accepted) if accepted else gallery.sequence
    return gallery_pb2.UpsertResponse(results=results, sequence=sequence)


def _new_item(item: gallery_pb2.Item, row: PartFeatures, *, keep_image: bool) -> NewItem:
    return NewItem(
        item_id=item.item_id,
        vectors=row.vectors[0].astype(np.float16),
        visibility=row.visibility[0],
        person_id=item.person_id,
        camera_id=item.camera_id,
        captured_at=wire.microseconds(item.captured_at, "captured_at") if item.HasField("captured_at") else None,
        attributes=wire.attributes_of(item.attributes) if item.HasField("attributes") else None,
        image=item.image if keep_image and item.WhichOneof("content") == "image" else None,
    )
