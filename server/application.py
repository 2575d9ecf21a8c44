"""`Application`: a whole server, from settings to the last drained call; `serve` runs one until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from glimpse.bundle import BundleError
from glimpse.runtime import (
    GoldenMismatch,
    ProviderError,
    Session,
    SessionError,
    WheelConflict,
    check_wheels,
)
from protos.glimpse.v1 import admin_pb2, admin_pb2_grpc, gallery_pb2, gallery_pb2_grpc, search_pb2, search_pb2_grpc
from server import logs, wire
from server.errors import Unavailable
from server.extraction.batcher import Batcher
from server.extraction.extractor import Extractor
from server.extraction.loading import load_model
from server.extraction.tuning import best_batch
from server.galleries.catalog import Catalog
from server.galleries.database import StoreError
from server.galleries.engines import compile_kernels
from server.galleries.searching import SearchTuning
from server.interceptors import Methods
from server.quotas import Quotas
from server.security.credentials import AccessError, AccessFile
from server.security.guard import Guard
from server.security.recorder import Recorder
from server.services.admin import AdminService
from server.services.floor import Floor
from server.services.gallery import GalleryService
from server.services.search import SearchService
from server.settings import ConfigurationError, ServerSettings, join_address, split_address
from server.streams import Streams
from server.telemetry import GalleryGauges, Telemetry
from server.tracing import Tracing
from server.transport import channel_options, open_port
from server.version import VERSION
from server.vitals import Vitals

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

UPKEEP_SECONDS = 60.0
"""Between two looks at the store's health and for items past their retention."""
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in ((search_pb2, "SearchService"), (gallery_pb2, "GalleryService"), (admin_pb2, "AdminService"))
)
CANNOT_START = (
    ConfigurationError,
    WheelConflict,
    BundleError,
    ProviderError,
    GoldenMismatch,
    SessionError,
    StoreError,
    AccessError,
)
"""What keeps a server from starting, with a sentence for the person who starts it."""

_log = logging.getLogger("glimpse.server")


class Application:
    """One server in this process and event loop.

    >>> async with Application(settings) as server:    # doctest: +SKIP
    ...     print(server.port)

    Args:
        settings: everything configurable.
        open_model: makes the session; tests pass their own.
        span_exporter: takes the spans in place of the settings' collector, for tests.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        open_model: Callable[[ServerSettings], Session] | None = None,
        span_exporter: SpanExporter | None = None,
    ) -> None:
        self.settings = settings
        self.port = 0
        """The gRPC port in use, once started."""
        self.metrics_port = 0
        """The metrics port in use, once started."""
        self.ports_open = asyncio.Event()
        """Set once both ports are bound; everything but health still answers UNAVAILABLE then."""
        self.telemetry = Telemetry()
        self.recorder = Recorder(settings.audit, settings.audit_days)
        """Writes the audit trail."""
        self._open_model = open_model or load_model
        self._span_exporter = span_exporter
        self._floor: Floor | None = None
        self._galleries = GalleryService(lambda: self.floor)
        self._closing = contextlib.AsyncExitStack()
        self.vitals = Vitals(SERVICES)
        self._server: grpc.aio.Server | None = None
        self._methods: Methods | None = None
        self._last_words: asyncio.Task[None] | None = None

    @property
    def floor(self) -> Floor:
        """The loaded parts; Unavailable before they are there."""
        if self._floor is None:
            raise Unavailable("the server is starting", retry_after=1.0)
        return self._floor

    @property
    def address(self) -> str:
        return join_address(split_address(self.settings.listen)[0], self.port)

    @property
    def metrics_address(self) -> str:
        return join_address(split_address(self.settings.metrics_listen)[0], self.metrics_port)

    async def start(self) -> None:
        """Binds the ports, loads the model and the galleries, and begins to serve.

        The ports answer from the first moment, so that a health check sees NOT_SERVING and not a closed door.

        Raises:
            ConfigurationError, BundleError, ProviderError, GoldenMismatch, ...: one of `CANNOT_START`.
        """
        try:
            await self._open_ports()
            self._floor = await self._load()
            self._galleries.resume_migrations()
            self._closing.push_async_callback(self._galleries.end_migrations)
            self._closing.push_async_callback(_ended, asyncio.create_task(self._upkeep()))
            self._closing.push_async_callback(_ended, asyncio.create_task(self.vitals.watch(self.floor.batcher)))
            assert self._methods is not None
            self._methods.open()
            await self.vitals.ails("starting", False)
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Stops gracefully: health says NOT_SERVING, accepted requests are finished, then everything closes.

        Args:
            grace: seconds that accepted requests may take; default: the settings' ``drain_seconds``.
        """
        await self.vitals.drain()
        if self._methods is not None:
            self._methods.drain()
        if self._server is not None:
            await self._server.stop(self.settings.drain_seconds if grace is None else grace)
            self._server = None
        if self._methods is not None:
            self._methods.settle()
        await self._closing.aclose()

    async def __aenter__(self) -> Application:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _open_ports(self) -> None:
        settings = self.settings
        guard = Guard(AccessFile(settings.data), settings.auth, certificates=settings.client_ca is not None)
        quotas = Quotas(settings.data, settings.disk_quota, settings.memory_limit)
        streams = Streams(settings.stream_idle_seconds, settings.send_seconds)
        self._methods = methods = Methods(
            self.telemetry, guard, self.recorder, streams=streams, quotas=quotas, tracing=self._traces()
        )
        self.telemetry.watch_quotas(quotas)
        health_pb2_grpc.add_HealthServicer_to_server(self.vitals.servicer, methods)
        names = (*SERVICES, health.SERVICE_NAME)
        await self.vitals.tell()
        if self.settings.reflection:
            names = (*names, reflection.SERVICE_NAME)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionServicer(names), methods)
        table: Any = methods  # takes the handlers as a server would
        search_pb2_grpc.add_SearchServiceServicer_to_server(SearchService(lambda: self.floor), table)
        gallery_pb2_grpc.add_GalleryServiceServicer_to_server(self._galleries, table)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(lambda: self.floor, self.recorder), table)
        server = grpc.aio.server(handlers=(methods,), options=channel_options())
        self.port = open_port(server, settings, asks=guard.asks)
        self.metrics_port, close_metrics = self.telemetry.expose(self.settings.metrics_listen)
        self._closing.push_async_callback(asyncio.to_thread, close_metrics)
        await server.start()
        self._server = server
        self.ports_open.set()

    def _traces(self) -> Tracing | None:
        if not self.settings.otlp_endpoint and self._span_exporter is None:
            return None
        settings = self.settings
        tracing = Tracing(settings.otlp_endpoint, settings.trace_share, VERSION, exporter=self._span_exporter)
        self._closing.push_async_callback(asyncio.to_thread, tracing.close)
        return tracing

    async def _load(self) -> Floor:
        settings, telemetry = self.settings, self.telemetry
        session = await asyncio.to_thread(self._open_model, settings)
        max_batch = settings.max_batch or await asyncio.to_thread(best_batch, session.warm)
        await asyncio.to_thread(compile_kernels)
        tuning = SearchTuning(settings.recall_every, settings.search_threads or settings.cores)
        catalog = await asyncio.to_thread(Catalog.open, settings.data, tuning)
        self._closing.push_async_callback(asyncio.to_thread, catalog.close)
        await self.recorder.open(catalog.database)
        self._closing.push_async_callback(self.recorder.close)
        searching = ThreadPoolExecutor(settings.search_workers or settings.cores, "search")
        storing = ThreadPoolExecutor(2, "store")
        self._closing.push_async_callback(asyncio.to_thread, searching.shutdown)
        self._closing.push_async_callback(asyncio.to_thread, storing.shutdown)
        batcher = Batcher(
            session,
            telemetry,
            max_batch=max_batch,
            delay=settings.batch_delay,
            limit=settings.queue_limit,
            patience=settings.model_patience,
            finishing=searching if settings.cores > 1 else None,
            on_death=lambda: self._worker_died(),
        )
        self._closing.push_async_callback(batcher.close)
        extractor = Extractor(
            batcher,
            session.bundle.preprocessing,
            telemetry,
            workers=settings.decode_workers or (settings.cores if settings.cores > 1 else 0),
            bulk_limit=2 * max_batch,
        )
        self._closing.push_async_callback(asyncio.to_thread, extractor.close)
        identity = session.bundle.identity
        telemetry.provider(settings.provider, session.provider)
        telemetry.build(VERSION, identity.name, identity.version, identity.sha256)
        telemetry.watch_queue(lambda: batcher.depth)
        telemetry.watch_disk(settings.data)
        telemetry.watch_galleries(lambda: _gauges(catalog))
        model = wire.served_model(session.bundle, session.provider)
        _log.info(
            "model loaded",
            extra={
                logs.FIELDS: {
                    "model": identity,
                    "provider": session.provider,
                    "threads": session.threads,
                    "batch": max_batch,
                }
            },
        )
        return Floor(session.bundle, model, batcher, extractor, catalog, telemetry, searching, storing)

    def _worker_died(self) -> None:
        self._last_words = asyncio.create_task(self.vitals.ails("worker", True))

    async def _upkeep(self) -> None:
        """Every minute: is the store still there, and has anything outlived its retention?"""
        floor = self.floor
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            try:
                await floor.store(floor.catalog.check)
                await self.vitals.ails("store", False)
                expired = await floor.store(lambda: floor.catalog.expire(time.time_ns() // 1000))
                if expired:
                    _log.info("items past their retention deleted", extra={logs.FIELDS: {"items": expired}})
            except Unavailable as error:
                _log.critical("the store cannot be used: %s", error)
                await self.vitals.ails("store", True)
            except Exception as error:  # a full disk, say, must not end the upkeep for good
                _log.error("upkeep failed", exc_info=error)


def serve(settings: ServerSettings) -> int:
    """Runs a server until SIGTERM or SIGINT; returns the exit code: 0 after a clean drain, 2 if it cannot start.

    When it is ready it prints ``glimpse is ready on HOST:PORT (metrics on HOST:PORT)``.
    """
    logs.configure(settings.log_level, settings.log_format)
    try:
        check_wheels()
        import uvloop
    except WheelConflict as error:
        print(f"glimpse: {error}", file=sys.stderr)
        return 2
    except ImportError:  # Windows
        return asyncio.run(_serve(settings))
    code: int = uvloop.run(_serve(settings))
    return code


async def _serve(settings: ServerSettings) -> int:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    # OpenCV's own threads would compete with the decoding pool; one image is too little work to share.
    cv2.setNumThreads(1)
    _log.info("settings", extra={logs.FIELDS: settings.model_dump(mode="json", exclude_none=True)})
    application = Application(settings)
    starting = asyncio.create_task(application.start())
    told = asyncio.create_task(asked_to_stop.wait())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # told to stop before it was ready
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return 0
    except CANNOT_START as error:
        print(f"glimpse: {error}", file=sys.stderr)
        return 2
    # What is loaded stays: a full collection need not walk millions of item ids while callers wait.
    gc.collect()
    gc.freeze()
    print(f"glimpse is ready on {application.address} (metrics on {application.metrics_address})", flush=True)
    await told
    _log.info("stopping: accepted requests are finished first")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)  # a second signal ends the process at once
    await application.stop()
    return 0


def _gauges(catalog: Catalog) -> Iterable[GalleryGauges]:
    for gallery in catalog.list():
        report = gallery.report()
        yield GalleryGauges(gallery.settings.name, report.items, report.tombstones, report.sequence, report.fast_recall)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
