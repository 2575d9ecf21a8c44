"""`Floor`: what the services stand on, made once everything is loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TypeVar

from glimpse.bundle import Bundle
from protos.glimpse.v1 import features_pb2
from server.extraction.batcher import Batcher
from server.extraction.extractor import Extractor
from server.galleries.catalog import Catalog
from server.telemetry import Telemetry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Floor:
    """The loaded parts of a server, shared by its services."""

    bundle: Bundle
    model: features_pb2.Model
    """The served model as it is told to callers."""
    batcher: Batcher
    extractor: Extractor
    catalog: Catalog
    telemetry: Telemetry
    searching: Executor
    """Runs searches, off the event loop."""
    storing: Executor
    """Runs everything else that may wait for the disk."""
    started_at: float = field(default_factory=time.monotonic)

    async def search(self, work: Callable[[], T]) -> T:
        """Runs a search in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.searching, work)

    async def store(self, work: Callable[[], T]) -> T:
        """Runs a read or write of the store in a thread, as the caller: what it changes is audited."""
        return await asyncio.get_running_loop().run_in_executor(self.storing, copy_context().run, work)
