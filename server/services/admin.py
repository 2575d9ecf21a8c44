"""AdminService: what runs, and how it does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from protos.glimpse.v1 import admin_pb2, admin_pb2_grpc, features_pb2
from server import wire
from server.galleries.gallery import Gallery
from server.interceptors import Context
from server.security import caller
from server.services.floor import Floor
from server.version import VERSION


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """`floor` is called at every request: it is there only once the server has loaded."""

    def __init__(self, floor: Callable[[], Floor]) -> None:
        self._floor = floor

    async def GetModel(  # type: ignore[override]  # the stub allows sync and async at once
        self, request: admin_pb2.GetModelRequest, context: Context
    ) -> features_pb2.Model:
        return self._floor().model

    async def GetStats(  # type: ignore[override]
        self, request: admin_pb2.GetStatsRequest, context: Context
    ) -> admin_pb2.Stats:
        floor = self._floor()
        mine = [gallery for gallery in floor.catalog.list() if caller.current().may_use(gallery.settings.name)]
        galleries = await floor.store(lambda: [_gallery_stats(gallery) for gallery in mine])
        return admin_pb2.Stats(
            version=VERSION,
            uptime=wire.duration_of(time.monotonic() - floor.started_at),
            requests={f"{method}/{code}": count for (method, code), count in floor.telemetry.requests.items()},
            images=floor.telemetry.images,
            batches=floor.telemetry.batches,
            queue_depth=floor.batcher.depth,
            resident_bytes=resident_bytes(),
            galleries=galleries,
        )


def _gallery_stats(gallery: Gallery) -> admin_pb2.GalleryStats:
    report = gallery.report()
    return admin_pb2.GalleryStats(
        gallery=gallery.settings.name,
        live=report.items,
        tombstones=report.tombstones,
        patterns=report.patterns,
        sequence=report.sequence,
        memory_bytes=report.memory_bytes,
        fast_recall=report.fast_recall,
    )


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process, 0 where the system does not say (anything but Linux)."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
