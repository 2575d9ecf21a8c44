"""What a gallery holds, as a message."""

from __future__ import annotations

from protos.glimpse.v1 import gallery_pb2
from server import wire
from server.galleries.gallery import Gallery


def gallery_message(gallery: Gallery) -> gallery_pb2.Gallery:
    """The report of a gallery."""
    settings, report = gallery.settings, gallery.report()
    message = gallery_pb2.Gallery(
        gallery=settings.name,
        items=report.items,
        bytes=report.bytes,
        sequence=report.sequence,
        model=wire.gallery_model(settings),
        schema=wire.schema_message(settings.schema),
        keep_images=settings.keep_images,
        require_purpose=settings.require_purpose,
        created_at=wire.timestamp_of(settings.created_at_us),
        compact=settings.compact,
    )
    if settings.retention_us is not None:
        message.retention.FromMicroseconds(settings.retention_us)
    if settings.latency_target_us is not None:
        message.latency_target.FromMicroseconds(settings.latency_target_us)
    return message
