"""What a server keeps, and what it must forget: erasing, snapshots, aliases, migrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from glimpse.client import conversions
from glimpse.client.channel import Connection
from glimpse.client.values import Filter, GalleryInfo
from protos.glimpse.v1 import gallery_pb2, gallery_pb2_grpc

LONG_SECONDS = 600.0
"""How long a call may take that reads or writes whole galleries, unless its ``timeout`` says otherwise."""


@dataclass(frozen=True, slots=True)
class EraseReport:
    """What an erasure did."""

    erasure: int
    erased: dict[str, int]
    """Gallery -> items it had and has no more."""
    from_snapshots: int
    files: tuple[tuple[str, str], ...]
    """Files that held them, within the data folder, and what became of each."""
    digests: tuple[str, ...]
    """Keyed digests (hex) of the items and people, as the audit trail names them."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A gallery in a file of the server."""

    name: str
    gallery: str
    items: int
    sequence: int
    created_at: datetime | None
    bytes: int
    sha256: str
    damage: str
    """Why it cannot be read; empty when it can."""


@dataclass(frozen=True, slots=True)
class RestoredGallery:
    """A gallery made of a snapshot."""

    gallery: GalleryInfo
    left_out: int
    """Items that were erased since the snapshot was made."""
    replaced: int
    """Items of the gallery that gave way."""


@dataclass(frozen=True, slots=True)
class MigrationInfo:
    """A gallery being embedded under another model."""

    gallery: str
    into: str
    alias: str
    state: str
    """``"running"``, ``"done"`` or ``"failed"``."""
    done: int
    items: int
    left_behind: int
    left_behind_ids: tuple[str, ...]
    error: str


class KeepingCalls:
    """The methods of `Client` about all this; most need the role admin."""

    _connection: Connection
    _galleries: gallery_pb2_grpc.GalleryServiceStub

    def erase(
        self,
        gallery: str = "",
        *,
        item_ids: Sequence[str] = (),
        person_ids: Sequence[str] = (),
        filter: Filter | None = None,
        timeout: float | None = None,
    ) -> EraseReport:
        """Removes items from everything that the server keeps, its snapshots included; an empty ``gallery`` means all.

        glimpse.erase(person_ids=["0042"])
        """
        request = gallery_pb2.EraseRequest(gallery=gallery, item_ids=item_ids, person_ids=person_ids)
        if filter is not None:
            request.filter.CopyFrom(conversions.filter_message(filter))
        report = self._connection.unary(self._galleries.Erase, request, timeout=timeout or LONG_SECONDS)
        return EraseReport(
            erasure=report.erasure,
            erased={each.gallery: each.items for each in report.galleries},
            from_snapshots=report.from_snapshots,
            files=tuple((file.path, file.action) for file in report.files),
            digests=tuple(digest.hex() for digest in report.digests),
        )

    def create_snapshot(self, gallery: str, name: str = "", *, timeout: float | None = None) -> SnapshotInfo:
        """Writes a gallery to a file of the server; without a ``name`` it gets one."""
        request = gallery_pb2.CreateSnapshotRequest(gallery=gallery, snapshot=name)
        method = self._galleries.CreateSnapshot
        return _snapshot(self._connection.unary(method, request, timeout=timeout or LONG_SECONDS, idempotent=False))

    def snapshots(self, *, timeout: float | None = None) -> list[SnapshotInfo]:
        """All snapshots, by name."""
        request = gallery_pb2.ListSnapshotsRequest()
        response = self._connection.unary(self._galleries.ListSnapshots, request, timeout=timeout)
        return [_snapshot(message) for message in response.snapshots]

    def delete_snapshot(self, name: str, *, timeout: float | None = None) -> None:
        """Removes a snapshot."""
        request = gallery_pb2.DeleteSnapshotRequest(snapshot=name)
        self._connection.unary(self._galleries.DeleteSnapshot, request, timeout=timeout, idempotent=False)

    def restore_snapshot(
        self,
        name: str,
        gallery: str = "",
        *,
        replace: bool = False,
        any_model: bool = False,
        timeout: float | None = None,
    ) -> RestoredGallery:
        """Makes a gallery of a snapshot, in one step.

        Args:
            gallery: its name; by default that of the gallery that the snapshot is of.
            replace: a gallery of that name gives way.
            any_model: take features of another model than the served one.
        """
        request = gallery_pb2.RestoreSnapshotRequest(
            snapshot=name, gallery=gallery, replace=replace, any_model=any_model
        )
        method = self._galleries.RestoreSnapshot
        response = self._connection.unary(method, request, timeout=timeout or LONG_SECONDS, idempotent=False)
        return RestoredGallery(conversions.gallery_info(response.gallery), response.left_out, response.replaced)

    def set_alias(self, alias: str, gallery: str, *, timeout: float | None = None) -> str:
        """Makes a name stand for a gallery; returns the gallery that it stood for before, empty for a new alias."""
        request = gallery_pb2.SetAliasRequest(alias=alias, gallery=gallery)
        return self._connection.unary(self._galleries.SetAlias, request, timeout=timeout, idempotent=False).before

    def aliases(self, *, timeout: float | None = None) -> dict[str, str]:
        """Alias -> gallery."""
        request = gallery_pb2.ListAliasesRequest()
        response = self._connection.unary(self._galleries.ListAliases, request, timeout=timeout)
        return {each.alias: each.gallery for each in response.aliases}

    def delete_alias(self, alias: str, *, timeout: float | None = None) -> None:
        """Removes an alias; its gallery stays."""
        request = gallery_pb2.DeleteAliasRequest(alias=alias)
        self._connection.unary(self._galleries.DeleteAlias, request, timeout=timeout, idempotent=False)

    def migrate_gallery(
        self, gallery: str, into: str, alias: str = "", *, timeout: float | None = None
    ) -> MigrationInfo:
        """Begins, or goes on, to embed the kept images of a gallery under the served model into a new one.

        Args:
            gallery: the old one, or an alias.
            into: the name of the new one.
            alias: what is to stand for it in the end; by default ``gallery``, if that is an alias.
        """
        request = gallery_pb2.MigrateGalleryRequest(gallery=gallery, into=into, alias=alias)
        return _migration(self._connection.unary(self._galleries.MigrateGallery, request, timeout=timeout))

    def migrations(self, *, timeout: float | None = None) -> list[MigrationInfo]:
        """Migrations under way and done."""
        request = gallery_pb2.ListMigrationsRequest()
        response = self._connection.unary(self._galleries.ListMigrations, request, timeout=timeout)
        return [_migration(message) for message in response.migrations]


def _snapshot(message: gallery_pb2.Snapshot) -> SnapshotInfo:
    return SnapshotInfo(
        name=message.snapshot,
        gallery=message.gallery,
        items=message.items,
        sequence=message.sequence,
        created_at=message.created_at.ToDatetime(tzinfo=UTC) if message.HasField("created_at") else None,
        bytes=message.bytes,
        sha256=message.sha256,
        damage=message.damage,
    )


def _migration(message: gallery_pb2.Migration) -> MigrationInfo:
    return MigrationInfo(
        gallery=message.gallery,
        into=message.into,
        alias=message.alias,
        state=gallery_pb2.Migration.State.Name(message.state).lower(),
        done=message.done,
        items=message.items,
        left_behind=message.left_behind,
        left_behind_ids=tuple(message.left_behind_ids),
        error=message.error,
    )
