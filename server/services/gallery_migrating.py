"""`Migrating`: the part of GalleryService that embeds galleries anew under the served model, in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from glimpse.parts import PartFeatures
from protos.glimpse.v1 import gallery_pb2, gallery_pb2_grpc
from server.errors import InvalidArgument, ServerError, Unavailable
from server.galleries.migration import DONE, FAILED, RUNNING, Migration, Wanted
from server.interceptors import Context, note
from server.services.floor import Floor

_STATES = {
    RUNNING: gallery_pb2.Migration.RUNNING,
    DONE: gallery_pb2.Migration.DONE,
    FAILED: gallery_pb2.Migration.FAILED,
}

_log = logging.getLogger(__name__)


class Migrating(gallery_pb2_grpc.GalleryServiceServicer):
    """Embeds through the queue of indexing, which lets searches go first."""

    _floor: Callable[[], Floor]
    _migrating: dict[str, asyncio.Task[None]]

    async def MigrateGallery(  # type: ignore[override]  # the stub allows sync and async at once
        self, request: gallery_pb2.MigrateGalleryRequest, context: Context
    ) -> gallery_pb2.Migration:
        floor = self._floor()
        model = floor.model

        def begin() -> Migration:
            old = floor.catalog.get(request.gallery).settings
            settings = replace(
                old,
                name=request.into,
                schema=floor.bundle.schema,
                model=floor.bundle.identity,
                model_info={
                    "method": model.method,
                    "license": model.license,
                    "height": model.height,
                    "width": model.width,
                },
                created_at_us=time.time_ns() // 1000,
            )
            return floor.catalog.migrations.begin(request.gallery, request.alias, settings)

        begun = await floor.store(begin)
        note(gallery=begun.gallery, into=begun.into, alias=begun.alias)
        self._start(floor, begun)
        return _message(begun, floor)

    async def ListMigrations(  # type: ignore[override]
        self, request: gallery_pb2.ListMigrationsRequest, context: Context
    ) -> gallery_pb2.ListMigrationsResponse:
        floor = self._floor()
        found = [_message(each, floor) for each in floor.catalog.migrations.all()]
        return gallery_pb2.ListMigrationsResponse(migrations=found)

    def resume_migrations(self) -> None:
        """Goes on with what ran when the server ended. To be called on the event loop, once the floor is there."""
        floor = self._floor()
        for each in floor.catalog.migrations.all():
            self._start(floor, each)

    async def end_migrations(self) -> None:
        """Stops between two batches; `resume_migrations` goes on."""
        tasks = list(self._migrating.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, floor: Floor, migration: Migration) -> None:
        running = self._migrating.get(migration.into)
        if migration.state == RUNNING and (running is None or running.done()):
            self._migrating[migration.into] = asyncio.create_task(_migrate(floor, migration.into))


async def _migrate(floor: Floor, into: str) -> None:
    migrations = floor.catalog.migrations
    try:
        while (wanted := await asyncio.to_thread(migrations.next, into)) is not None:
            outcomes = await asyncio.gather(*(_embedded(floor, each) for each in wanted))
            await asyncio.to_thread(migrations.store, into, wanted, outcomes)
        _log.info("gallery %s has taken the place of the one it was migrated from", into)
    except Unavailable as error:  # the server stops, or the disk fails: the next start goes on
        _log.warning("the migration into gallery %s is interrupted: %s", into, error)
    except Exception as error:  # whatever it was, it is told to those who ask
        if not isinstance(error, ServerError):
            _log.error("the migration into gallery %s failed", into, exc_info=error)
        message = error.message if isinstance(error, ServerError) else "the server failed; its log says why"
        await asyncio.to_thread(migrations.fail, into, message)


async def _embedded(floor: Floor, wanted: Wanted) -> PartFeatures | ServerError | None:
    if wanted.image is None:
        return None
    found = await floor.extractor.bulk(wanted.image, "image")
    if isinstance(found, ServerError):
        if not isinstance(found, InvalidArgument):  # nothing that is wrong with the image
            raise found
        return found
    return found.features


def _message(migration: Migration, floor: Floor) -> gallery_pb2.Migration:
    counts = {each.settings.name: len(each) for each in floor.catalog.list()}
    return gallery_pb2.Migration(
        gallery=migration.gallery,
        into=migration.into,
        alias=migration.alias,
        state=_STATES[migration.state],
        done=counts.get(migration.into, 0),
        items=counts.get(migration.gallery, 0),
        left_behind=migration.left_count,
        left_behind_ids=migration.left_behind,
        error=migration.error,
    )
