"""Between the messages of glimpse.v1 and the dataclasses of `glimpse.client.values`: the one place that knows both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2

from glimpse.client import errors
from glimpse.client.values import (
    Extraction,
    Filter,
    GalleryInfo,
    GalleryStats,
    ImageSource,
    Item,
    ItemResult,
    Match,
    ModelInfo,
    PartMatch,
    Query,
    RefusedImage,
    SearchResult,
    ServerStats,
    StoredItem,
    Timings,
)
from glimpse.parts import Part, PartFeatures, PartSchema
from protos.glimpse.v1 import admin_pb2, features_pb2, gallery_pb2, search_pb2

_MODES = {
    "auto": search_pb2.SearchRequest.AUTO,
    "exact": search_pb2.SearchRequest.EXACT,
    "fast": search_pb2.SearchRequest.FAST,
}


def image_bytes(source: ImageSource) -> bytes:
    """Encoded bytes of an image; an array is sent as PNG, which loses nothing.

    Raises:
        OSError: the file cannot be read.
        ValueError: the array is not uint8 RGB.
    """
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or source.size == 0:
        raise ValueError(f"an image array must be uint8 RGB of shape (H, W, 3), got {source.dtype} {source.shape}")
    import cv2  # 150 ms to import, and callers who send files need none of it

    return bytes(cv2.imencode(".png", source[:, :, ::-1])[1])


def search_request(gallery: str, query: Query) -> search_pb2.SearchRequest:
    """The request for one query.

    Raises:
        OSError: an image file cannot be read.
        ValueError: an image array, the mode, a filter or an attribute cannot be sent.
    """
    if query.mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {query.mode!r}")
    request = search_pb2.SearchRequest(
        gallery=gallery,
        top_k=query.top_k,
        part_weights=query.part_weights,
        purpose=query.purpose,
        min_joint_visibility=query.min_joint_visibility,
        mode=_MODES[query.mode],
        explain=query.explain,
        include_incomparable=query.include_incomparable,
    )
    if query.image is not None:
        request.query_image = image_bytes(query.image)
    elif query.tracklet:
        request.tracklet.images.extend(image_bytes(image) for image in query.tracklet)
    elif query.features is not None:
        request.features.CopyFrom(features_message(query.features, query.model_sha256))
    else:
        request.item_id = query.item_id
    if query.filter is not None:
        request.filter.CopyFrom(filter_message(query.filter))
    if query.box is not None:
        x, y, width, height = query.box
        request.box.CopyFrom(search_pb2.Box(x=x, y=y, width=width, height=height))
    return request


def filter_message(value: Filter) -> search_pb2.Filter:
    message = search_pb2.Filter(
        camera_ids=value.camera_ids,
        person_ids=value.person_ids,
        item_ids=value.item_ids,
        exclude=[filter_message(entry) for entry in value.exclude],
    )
    if value.captured_after is not None:
        message.captured_after.CopyFrom(timestamp(value.captured_after))
    if value.captured_before is not None:
        message.captured_before.CopyFrom(timestamp(value.captured_before))
    if value.attributes:
        message.attributes.CopyFrom(struct(value.attributes))
    return message


def item_message(item: Item) -> gallery_pb2.Item:
    message = gallery_pb2.Item(item_id=item.item_id, person_id=item.person_id, camera_id=item.camera_id)
    if item.image is not None:
        message.image = image_bytes(item.image)
    elif item.features is not None:
        message.features.CopyFrom(features_message(item.features, item.model_sha256))
    if item.captured_at is not None:
        message.captured_at.CopyFrom(timestamp(item.captured_at))
    if item.attributes:
        message.attributes.CopyFrom(struct(item.attributes))
    return message


@lru_cache(maxsize=16)  # the same for every item of an Upsert; callers copy it
def schema_message(schema: PartSchema) -> features_pb2.PartSchema:
    parts = [
        features_pb2.Part(name=part.name, dim=part.dim, weight=part.weight, always_visible=part.always_visible)
        for part in schema.parts
    ]
    return features_pb2.PartSchema(parts=parts, prior=schema.prior)


def features_message(features: PartFeatures, model_sha256: str = "") -> features_pb2.PartFeatures:
    return features_pb2.PartFeatures(
        schema=schema_message(features.schema),
        vectors=features.vectors.astype("<f4", copy=False).tobytes(),
        dtype=features_pb2.PartFeatures.FLOAT32,
        visibility=features.visibility.ravel().tolist(),
        model_sha256=model_sha256,
    )


def timestamp(value: datetime) -> timestamp_pb2.Timestamp:
    """A time without a zone is taken as UTC."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(value)
    return message


def duration(value: timedelta) -> duration_pb2.Duration:
    message = duration_pb2.Duration()
    message.FromTimedelta(value)
    return message


def struct(value: Mapping[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    try:
        message.update(dict(value))
    except (ValueError, TypeError) as error:
        raise ValueError(f"attributes must be JSON values (text, numbers, true/false, null, lists): {error}") from error
    return message


def search_result(response: search_pb2.SearchResponse) -> SearchResult:
    return SearchResult(
        matches=tuple(match(message) for message in response.matches),
        query={row.part: row.visibility for row in response.query},
        model=model(response.model) if response.HasField("model") else None,
        exact=response.exact,
        sequence=response.gallery_sequence,
        timings=timings(response.timings),
    )


def match(message: search_pb2.Match) -> Match:
    return Match(
        item_id=message.item_id,
        person_id=message.person_id,
        distance=message.distance if message.HasField("distance") else None,
        joint_visibility=message.joint_visibility,
        probability=message.probability if message.HasField("probability") else None,
        camera_id=message.camera_id,
        captured_at=_time(message.captured_at) if message.HasField("captured_at") else None,
        attributes=_attributes(message.attributes),
        parts=tuple(
            PartMatch(row.part, row.similarity, row.query_visibility, row.item_visibility, row.weight)
            for row in message.parts
        ),
    )


def timings(message: search_pb2.Timings) -> Timings:
    return Timings(
        decode=_seconds(message.decode),
        preprocess=_seconds(message.preprocess),
        queue=_seconds(message.queue),
        inference=_seconds(message.inference),
        search=_seconds(message.search),
        total=_seconds(message.total),
    )


def schema(message: features_pb2.PartSchema) -> PartSchema:
    parts = (
        Part(part.name, part.dim, part.weight if part.HasField("weight") else 1.0, part.always_visible)
        for part in message.parts
    )
    return PartSchema(tuple(parts), message.prior)


def features(message: features_pb2.PartFeatures, trusted_rows: frozenset[int] = frozenset()) -> PartFeatures:
    """Features as float32; rows in ``trusted_rows`` (refused images) are all zeros and are not checked."""
    parts = schema(message.schema)
    dtype = "<f2" if message.dtype == features_pb2.PartFeatures.FLOAT16 else "<f4"
    vectors = np.frombuffer(message.vectors, dtype).astype(np.float32).reshape(-1, parts.width)
    visibility = np.array(message.visibility, np.float32).reshape(-1, len(parts))
    checked = [row for row in range(len(vectors)) if row not in trusted_rows]
    PartFeatures(vectors[checked], visibility[checked], parts)
    return PartFeatures.trusted(vectors, visibility, parts)


def model(message: features_pb2.Model) -> ModelInfo:
    return ModelInfo(
        name=message.name,
        version=message.version,
        sha256=message.sha256,
        method=message.method,
        schema=schema(message.schema) if message.HasField("schema") else None,
        height=message.height,
        width=message.width,
        provider=message.provider,
        license=message.license,
    )


def extraction(response: search_pb2.ExtractResponse) -> Extraction:
    refused = tuple(
        RefusedImage(entry.index, errors.code_name(entry.status), entry.status.message) for entry in response.errors
    )
    rows = frozenset(entry.index for entry in refused)
    return Extraction(features(response.features, rows), refused, model(response.model), timings(response.timings))


def item_result(message: gallery_pb2.ItemResult, sequence: int) -> ItemResult:
    return ItemResult(message.item_id, errors.code_name(message.status), message.status.message, sequence)


def stored_item(message: gallery_pb2.StoredItem) -> StoredItem:
    return StoredItem(
        item_id=message.item_id,
        person_id=message.person_id,
        camera_id=message.camera_id,
        captured_at=_time(message.captured_at) if message.HasField("captured_at") else None,
        attributes=_attributes(message.attributes),
        visibility={row.part: row.visibility for row in message.visibility},
        features=features(message.features) if message.HasField("features") else None,
        image=message.image or None,
        sequence=message.sequence,
    )


def gallery_info(message: gallery_pb2.Gallery) -> GalleryInfo:
    return GalleryInfo(
        name=message.gallery,
        items=message.items,
        bytes=message.bytes,
        sequence=message.sequence,
        model=model(message.model) if message.model.name else None,
        schema=schema(message.schema),
        keep_images=message.keep_images,
        retention=message.retention.ToTimedelta() if message.HasField("retention") else None,
        require_purpose=message.require_purpose,
        latency_target=message.latency_target.ToTimedelta() if message.HasField("latency_target") else None,
        created_at=_time(message.created_at) if message.HasField("created_at") else None,
        compact=message.compact,
    )


def server_stats(message: admin_pb2.Stats) -> ServerStats:
    return ServerStats(
        version=message.version,
        uptime=message.uptime.ToTimedelta(),
        requests=dict(message.requests),
        images=message.images,
        batches=message.batches,
        queue_depth=message.queue_depth,
        resident_bytes=message.resident_bytes,
        galleries=tuple(
            GalleryStats(
                gallery=entry.gallery,
                live=entry.live,
                tombstones=entry.tombstones,
                patterns=entry.patterns,
                sequence=entry.sequence,
                memory_bytes=entry.memory_bytes,
                fast_recall=entry.fast_recall if entry.HasField("fast_recall") else None,
                segments=entry.segments,
                disk_bytes=entry.disk_bytes,
            )
            for entry in message.galleries
        ),
    )


def _attributes(message: struct_pb2.Struct) -> dict[str, Any]:
    # Most items have none, and MessageToDict is slow enough to show in rankings of thousands.
    return json_format.MessageToDict(message) if message.fields else {}


def _time(message: timestamp_pb2.Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _seconds(message: duration_pb2.Duration) -> float:
    return message.seconds + message.nanos / 1e9
