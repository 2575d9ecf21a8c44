"""Cutting a sequence of items into the batches of an Upsert stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protos.glimpse.v1 import gallery_pb2

MAX_ITEMS = 1000
MAX_BYTES = 24 << 20
"""A batch ends before it grows beyond this; the server takes 32 MiB."""
MAX_ITEM_BYTES = 31 << 20
DEFAULT_ITEMS = 128


def upsert_requests(
    gallery: str, items: Iterable[gallery_pb2.Item], batch_items: int
) -> Iterator[gallery_pb2.UpsertRequest]:
    """Requests of at most ``batch_items`` items and, unless one item alone is larger, `MAX_BYTES`.

    Raises:
        ValueError: ``batch_items`` is out of range, or one item is larger than any batch may be.
    """
    if not 1 <= batch_items <= MAX_ITEMS:
        raise ValueError(f"batch_items must be between 1 and {MAX_ITEMS:,}, got {batch_items}")
    batch: list[gallery_pb2.Item] = []
    size = 0
    for item in items:
        weight = item.ByteSize() + 8  # the tag and length that the batch adds
        if weight > MAX_ITEM_BYTES:
            raise ValueError(
                f"item {item.item_id!r} has {weight:,} bytes; at most {MAX_ITEM_BYTES:,} can be sent as one item"
            )
        if batch and (len(batch) == batch_items or size + weight > MAX_BYTES):
            yield gallery_pb2.UpsertRequest(gallery=gallery, items=batch)
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield gallery_pb2.UpsertRequest(gallery=gallery, items=batch)
