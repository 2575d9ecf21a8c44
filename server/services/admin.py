"""AdminService: what runs, how it does, and who asked what."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from protos.glimpse.v1 import admin_pb2, admin_pb2_grpc, features_pb2
from server import wire
from server.errors import InvalidArgument
from server.galleries.gallery import Gallery
from server.interceptors import Context
from server.security import caller
from server.security.query import Page, Question, ask
from server.security.recorder import Recorder
from server.security.segments import PRUNING
from server.security.verification import Ends, Head, Verdict, verify
from server.services.floor import Floor
from server.version import VERSION

DEFAULT_PAGE = 100
MAX_PAGE = 1000


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """`floor` is called at every request: it is there only once the server has loaded."""

    def __init__(self, floor: Callable[[], Floor], recorder: Recorder) -> None:
        self._floor = floor
        self._recorder = recorder

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

    async def QueryAudit(  # type: ignore[override]
        self, request: admin_pb2.QueryAuditRequest, context: Context
    ) -> admin_pb2.QueryAuditResponse:
        catalog = self._floor().catalog
        question = Question(
            since=wire.microseconds(request.since, "since") if request.HasField("since") else None,
            until=wire.microseconds(request.until, "until") if request.HasField("until") else None,
            method=request.method,
            caller=request.caller,
            gallery=catalog.aliases.get(request.gallery) or request.gallery,
            code=request.code,
            item_id=request.item_id,
            person_id=request.person_id,
        )
        before, size = _before(request.page_token), _page_size(request.page_size)
        await self._recorder.durable()
        # Not in the storing threads: looking through a long trail must not hold up what is to be stored.
        page = await asyncio.to_thread(ask, catalog.database, question, before, size)
        return _page_message(page)

    async def VerifyAudit(  # type: ignore[override]
        self, request: admin_pb2.VerifyAuditRequest, context: Context
    ) -> admin_pb2.VerifyAuditResponse:
        database = self._floor().catalog.database
        try:
            expected = Head.parse(request.head) if request.head else None
        except ValueError as error:
            raise InvalidArgument(str(error), field="head") from error
        await self._recorder.durable()

        def work() -> Verdict:
            # Segments that are listed must not be deleted for their age while they are read.
            with PRUNING:
                with database.read() as connection:
                    ends = Ends.read(connection)
                return verify(ends, database.folder, expected)

        verdict = await asyncio.to_thread(work)
        return admin_pb2.VerifyAuditResponse(
            rows=verdict.rows, first=verdict.first, head=str(verdict.head), problem=verdict.problem
        )


def _page_size(asked: int) -> int:
    if not 0 <= asked <= MAX_PAGE:
        raise InvalidArgument(
            f"page_size must be 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}; got {asked}", field="page_size"
        )
    return asked or DEFAULT_PAGE


def _before(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit()) or len(token) > 18:
        raise InvalidArgument("page_token is not one that QueryAudit gave", field="page_token")
    return int(token)


def _page_message(page: Page) -> admin_pb2.QueryAuditResponse:
    response = admin_pb2.QueryAuditResponse(next_page_token=str(page.next_before) if page.next_before else "")
    for row, said in page.rows:
        message = response.rows.add(
            sequence=row.seq,
            method=said.method,
            caller=said.caller,
            peer=said.peer,
            gallery=said.gallery,
            purpose=said.purpose,
            code=said.code,
            calls=said.calls,
            items=said.items,
            top_k=said.top_k,
            target=said.target,
            hash=row.hash,
        )
        message.time.FromMicroseconds(said.time)
    return response


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
        segments=report.segments,
        disk_bytes=report.disk_bytes,
    )


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process, 0 where the system does not say (anything but Linux)."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
