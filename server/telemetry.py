"""Prometheus metrics, in their own registry and on their own port."""

from __future__ import annotations

import logging
import shutil
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from glimpse.images import REASONS
from server.quotas import Quotas
from server.settings import ConfigurationError, split_address
from server.transport import is_loopback

if TYPE_CHECKING:
    from socketserver import BaseServer
    from threading import Thread

    from prometheus_client.metrics_core import Metric

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STAGES = ("decode", "preprocess", "queue", "inference", "search")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GalleryGauges:
    """What the metrics say about one gallery."""

    gallery: str
    live: int
    tombstones: int
    sequence: int
    fast_recall: float | None


class Telemetry:
    """Every metric of the server. Counters that `GetStats` reports are kept as plain numbers as well."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._backlog: deque[tuple[Callable[[float], None], float]] = deque()
        registry.register(_BacklogCollector(self.settle))  # the first, so that every scrape begins with it
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "glimpse_requests", "Calls by method and gRPC status.", ("method", "code"), registry=registry
        )
        self._request_seconds = Histogram(
            "glimpse_request_seconds", "Time of a call.", ("method",), buckets=REQUEST_BUCKETS, registry=registry
        )
        stage_seconds = Histogram(
            "glimpse_stage_seconds",
            "Time of one stage of a request.",
            ("stage",),
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._stages = {stage: stage_seconds.labels(stage).observe for stage in STAGES}
        self._inflight = Gauge("glimpse_inflight", "Calls being answered.", registry=registry)
        self._depth = Gauge("glimpse_queue_depth", "Images accepted and waiting for the model.", registry=registry)
        self._queue_rejected = Counter(
            "glimpse_queue_rejected", "Images that never reached the model, by reason.", ("reason",), registry=registry
        )
        self._batch_size = Histogram(
            "glimpse_batch_size", "Images in one run of the model.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._images_rejected = Counter(
            "glimpse_images_rejected", "Images refused before the model, by reason.", ("reason",), registry=registry
        )
        self._joint = Histogram(
            "glimpse_joint_visibility",
            "Joint visibility of each search's best match.",
            buckets=tuple(step / 10 for step in range(1, 11)),
            registry=registry,
        )
        self._disk = Gauge("glimpse_disk_free_ratio", "Free share of the data folder's disk.", registry=registry)
        self._used = Gauge("glimpse_data_bytes", "What the data folder takes.", registry=registry)
        self._allowed = Gauge(
            "glimpse_limit_bytes", "What data folder and process may take; 0: any amount.", ("kind",), registry=registry
        )
        self._worker = Gauge("glimpse_worker_alive", "1 while the inference worker lives.", registry=registry)
        self._provider = Gauge(
            "glimpse_provider_info",
            "The execution provider asked for and the one in use.",
            ("requested", "actual"),
            registry=registry,
        )
        self._build = Gauge(
            "glimpse_build_info",
            "Versions of the server and its model.",
            ("version", "model", "model_version", "model_sha256"),
            registry=registry,
        )
        for reason in ("full", "deadline", "cancelled", "draining"):
            self._queue_rejected.labels(reason)
        for reason in REASONS:
            self._images_rejected.labels(reason)
        self.requests: Tally[tuple[str, str]] = Tally()
        self.images = 0
        self.batches = 0
        # Looking labels up costs more than counting.
        self._request_children: dict[tuple[str, str], tuple[Callable[[float], None], Callable[[float], None]]] = {}

    def settle(self) -> None:
        """Books what calls have left behind. An observation costs several microseconds, and ten times that when the
        model has just emptied the caches; so a call only notes it down, and they are booked many at a time: at every
        scrape, and whenever the server finds a moment.
        """
        while self._backlog:
            try:
                book, amount = self._backlog.popleft()
            except IndexError:  # another thread took the last one
                return
            book(amount)

    @property
    def unbooked(self) -> int:
        """Observations that are noted down only."""
        return len(self._backlog)

    def request(self, method: str, code: str, seconds: float) -> None:
        """One call has ended. Called from the event loop only."""
        key = (method, code)
        self.requests[key] += 1
        children = self._request_children.get(key)
        if children is None:
            children = (self._requests.labels(method, code).inc, self._request_seconds.labels(method).observe)
            self._request_children[key] = children
        self._backlog.append((children[0], 1))
        self._backlog.append((children[1], seconds))

    def stage(self, stage: str, seconds: float) -> None:
        """One stage of a request took this long."""
        self._backlog.append((self._stages[stage], seconds))

    def batch(self, size: int) -> None:
        """The model ran. Called from its one thread only."""
        self.images += size
        self.batches += 1
        self._backlog.append((self._batch_size.observe, size))

    def image_rejected(self, reason: str) -> None:
        """An image was refused; ``reason`` is that of `glimpse.images.ImageError`."""
        self._images_rejected.labels(reason).inc()

    def queue_rejected(self, reason: str, count: int = 1) -> None:
        """Images never reached the model: ``full``, ``deadline``, ``cancelled`` or ``draining``."""
        self._queue_rejected.labels(reason).inc(count)

    def best_match(self, joint_visibility: float) -> None:
        """A search found a best match."""
        self._backlog.append((self._joint.observe, joint_visibility))

    def worker(self, alive: bool) -> None:
        """The inference worker started or died."""
        self._worker.set(alive)

    def provider(self, requested: str, actual: str) -> None:
        """The provider that was asked for and the one that runs."""
        self._provider.labels(requested, actual).set(1)

    def build(self, version: str, model: str, model_version: str, model_sha256: str) -> None:
        """What is running."""
        self._build.labels(version, model, model_version, model_sha256).set(1)

    def watch_inflight(self, calls: Callable[[], int]) -> None:
        """Reads the number of calls being answered at every scrape."""
        self._inflight.set_function(calls)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Reads the queue's depth at every scrape."""
        self._depth.set_function(depth)

    def watch_disk(self, folder: Path) -> None:
        """Reads the free share of a folder's disk at every scrape."""

        def free() -> float:
            usage = shutil.disk_usage(folder)
            return usage.free / usage.total

        self._disk.set_function(free)

    def watch_quotas(self, quotas: Quotas) -> None:
        """Reads at every scrape what the data folder takes; tells what folder and process may take."""
        self._used.set_function(quotas.used)
        self._allowed.labels("disk").set(quotas.disk_bytes)
        self._allowed.labels("memory").set(quotas.memory_bytes)

    def watch_galleries(self, gauges: Callable[[], Iterable[GalleryGauges]]) -> None:
        """Reads the galleries at every scrape, so that a deleted one leaves no series behind."""
        self.registry.register(_GalleryCollector(gauges))

    def expose(self, address: str) -> tuple[int, Callable[[], None]]:
        """Serves ``/metrics`` on ``HOST:PORT``; returns the port and what stops it. Logs a warning beyond loopback.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        host, port = split_address(address)
        if not is_loopback(host):
            _log.warning(
                "serving metrics on %s in plaintext, without credentials: whoever reaches it reads the names and sizes "
                "of galleries and how much is asked; let only your Prometheus reach it",
                address,
            )
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise ConfigurationError(f"cannot serve metrics on {address}: {error.strerror or error}") from error
        return int(server.server_port), lambda: _stop(server, thread)


def _stop(server: BaseServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()


class _BacklogCollector(Collector):
    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle

    def collect(self) -> Iterable[Metric]:
        self._settle()
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()


class _GalleryCollector(Collector):
    def __init__(self, gauges: Callable[[], Iterable[GalleryGauges]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        items = GaugeMetricFamily(
            "glimpse_gallery_items", "Rows of a gallery: live, or tombstones.", labels=("gallery", "state")
        )
        sequence = GaugeMetricFamily("glimpse_gallery_sequence", "Last committed write.", labels=("gallery",))
        recall = GaugeMetricFamily(
            "glimpse_fast_recall_ratio", "Measured recall of FAST against EXACT.", labels=("gallery",)
        )
        for gauges in self._gauges():
            items.add_metric((gauges.gallery, "live"), gauges.live)
            items.add_metric((gauges.gallery, "tombstone"), gauges.tombstones)
            sequence.add_metric((gauges.gallery,), gauges.sequence)
            if gauges.fast_recall is not None:
                recall.add_metric((gauges.gallery,), gauges.fast_recall)
        return (items, sequence, recall)

    def describe(self) -> Iterable[Metric]:
        return ()
