"""`Keeping`: the part of GalleryService that erases, makes and restores snapshots, and names aliases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protos.glimpse.v1 import gallery_pb2, gallery_pb2_grpc
from server import wire
from server.galleries.backups import Backup
from server.galleries.choosing import Order
from server.galleries.erasure import EraseReport
from server.interceptors import Context, note
from server.security import caller
from server.services.floor import Floor
from server.services.reports import gallery_message


class Keeping(gallery_pb2_grpc.GalleryServiceServicer):
    """Works in threads of the loop's own pool: those of `Floor.store` would make writes wait behind a snapshot."""

    _floor: Callable[[], Floor]

    async def Erase(  # type: ignore[override]  # the stub allows sync and async at once
        self, request: gallery_pb2.EraseRequest, context: Context
    ) -> gallery_pb2.EraseReport:
        custody = self._floor().catalog.custody
        order = Order(
            gallery=request.gallery or None,
            item_ids=tuple(request.item_ids),
            person_ids=tuple(request.person_ids),
            filter=wire.filter_of(request.filter) if request.HasField("filter") else None,
        )
        report = await asyncio.to_thread(custody.erase, order)
        note(gallery=request.gallery, erasure=report.number, erased=sum(report.erased.values()))
        return _erase_message(report)

    async def CreateSnapshot(  # type: ignore[override]
        self, request: gallery_pb2.CreateSnapshotRequest, context: Context
    ) -> gallery_pb2.Snapshot:
        custody = self._floor().catalog.custody
        made = await asyncio.to_thread(custody.back_up, request.gallery, request.snapshot)
        note(gallery=request.gallery, snapshot=made.name, bytes=made.bytes)
        return _snapshot_message(made)

    async def ListSnapshots(  # type: ignore[override]
        self, request: gallery_pb2.ListSnapshotsRequest, context: Context
    ) -> gallery_pb2.ListSnapshotsResponse:
        found = await asyncio.to_thread(self._floor().catalog.custody.backups)
        return gallery_pb2.ListSnapshotsResponse(snapshots=[_snapshot_message(each) for each in found])

    async def DeleteSnapshot(  # type: ignore[override]
        self, request: gallery_pb2.DeleteSnapshotRequest, context: Context
    ) -> gallery_pb2.DeleteSnapshotResponse:
        await asyncio.to_thread(self._floor().catalog.custody.delete_backup, request.snapshot)
        note(snapshot=request.snapshot)
        return gallery_pb2.DeleteSnapshotResponse()

    async def RestoreSnapshot(  # type: ignore[override]
        self, request: gallery_pb2.RestoreSnapshotRequest, context: Context
    ) -> gallery_pb2.RestoreSnapshotResponse:
        floor = self._floor()
        served = None if request.any_model else floor.bundle.identity
        restored = await asyncio.to_thread(
            lambda: floor.catalog.custody.restore(
                request.snapshot, request.gallery, replace=request.replace, served=served
            )
        )
        note(gallery=restored.gallery.settings.name, snapshot=request.snapshot, items=restored.items)
        return gallery_pb2.RestoreSnapshotResponse(
            gallery=await floor.store(lambda: gallery_message(restored.gallery)),
            left_out=restored.left_out,
            replaced=restored.replaced,
        )

    async def SetAlias(  # type: ignore[override]
        self, request: gallery_pb2.SetAliasRequest, context: Context
    ) -> gallery_pb2.SetAliasResponse:
        floor = self._floor()
        before = await floor.store(lambda: floor.catalog.set_alias(request.alias, request.gallery))
        note(gallery=request.gallery, alias=request.alias)
        return gallery_pb2.SetAliasResponse(before=before)

    async def ListAliases(  # type: ignore[override]
        self, request: gallery_pb2.ListAliasesRequest, context: Context
    ) -> gallery_pb2.ListAliasesResponse:
        asking = caller.current()
        found = self._floor().catalog.aliases.all().items()
        response = gallery_pb2.ListAliasesResponse()
        for alias, gallery in found:
            if asking.may_use(alias) and asking.may_use(gallery):
                response.aliases.add(alias=alias, gallery=gallery)
        return response

    async def DeleteAlias(  # type: ignore[override]
        self, request: gallery_pb2.DeleteAliasRequest, context: Context
    ) -> gallery_pb2.DeleteAliasResponse:
        floor = self._floor()
        await floor.store(lambda: floor.catalog.delete_alias(request.alias))
        note(alias=request.alias)
        return gallery_pb2.DeleteAliasResponse()


def _erase_message(report: EraseReport) -> gallery_pb2.EraseReport:
    message = gallery_pb2.EraseReport(
        erasure=report.number, from_snapshots=report.from_backups, digests=list(report.digests)
    )
    for gallery, items in report.erased.items():
        message.galleries.add(gallery=gallery, items=items, sequence=report.sequences[gallery])
    for file in report.files:
        message.files.add(path=file.path, action=file.action)
    return message


def _snapshot_message(backup: Backup) -> gallery_pb2.Snapshot:
    message = gallery_pb2.Snapshot(snapshot=backup.name, bytes=backup.bytes, sha256=backup.sha256, damage=backup.damage)
    facts = backup.facts
    if facts is not None:
        message.gallery, message.items, message.sequence = facts.gallery, facts.items, facts.sequence
        message.created_at.CopyFrom(wire.timestamp_of(facts.created_at_us))
    return message
