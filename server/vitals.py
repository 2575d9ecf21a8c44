"""`Vitals`: whether the server can answer, as health tells it, and the watchdog that finds a model that hangs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from grpc_health.v1 import health, health_pb2

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WATCH_SECONDS = 1.0

_log = logging.getLogger("glimpse.server")


class Worker(Protocol):
    """What the watchdog needs of a `Batcher`."""

    @property
    def hung(self) -> bool: ...

    def abandon(self) -> None: ...


class Vitals:
    """SERVING while there is no reason against it. On the event loop only.

    Args:
        services: the names that health knows, beside the empty one of the whole server.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._services = ("", *services)
        self._reasons: set[str] = {"starting"}

    @property
    def reasons(self) -> frozenset[str]:
        """Why the server does not serve: any of ``starting``, ``store``, ``worker``, ``hung``."""
        return frozenset(self._reasons)

    async def tell(self) -> None:
        """Tells health once, whatever it has heard before."""
        status = _NOT_SERVING if self._reasons else _SERVING
        for service in self._services:
            await self.servicer.set(service, status)

    async def ails(self, reason: str, bad: bool) -> None:
        """Something is wrong, or is so no more."""
        if (reason in self._reasons) == bad:
            return
        self._reasons ^= {reason}
        await self.tell()

    async def drain(self) -> None:
        """NOT_SERVING from now on, whatever is told later."""
        await self.servicer.enter_graceful_shutdown()

    async def watch(self, worker: Worker) -> None:
        """Looks every second whether the model still answers; until cancelled.

        Those who wait for one that does not are told so. Health turns back when it answers after all.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            hung = worker.hung
            if hung and "hung" not in self._reasons:
                _log.critical("the model does not come back from a batch: restart the server if this goes on")
            elif not hung and "hung" in self._reasons:
                _log.warning("the model has come back")
            if hung:
                worker.abandon()
            await self.ails("hung", hung)
