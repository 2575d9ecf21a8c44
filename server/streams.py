"""Streams that a caller leaves open: how long the server waits for their next request, and for room for its answers.

A caller who says nothing more, or who stops reading, holds a stream and what stands behind it. gRPC's keepalive ends
the calls of a machine that is gone; these limits end the calls of one that is there and does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import grpc

from server.errors import DeadlineExceeded, Unavailable


class Reading(Protocol):
    """What is needed of a `grpc.aio.ServicerContext`."""

    async def read(self) -> Any: ...


class Streams:
    """Reads and writes streams within limits.

    Args:
        idle_seconds: without a request from the caller, and without an answer made for it, until a stream is ended.
        send_seconds: for one answer to find room in the caller's buffers.
    """

    def __init__(self, idle_seconds: float = 300.0, send_seconds: float = 30.0) -> None:
        self._idle_seconds = idle_seconds
        self._send_seconds = send_seconds
        self._draining = asyncio.Event()
        self._drained: asyncio.Task[bool] | None = None

    def drain(self) -> None:
        """Ends streams after what they have accepted so far."""
        self._draining.set()

    async def drained(self) -> None:
        """Returns once the server drains."""
        await self._draining.wait()

    async def requests(self, context: Reading) -> AsyncIterator[Any]:
        """The requests of a stream until its end, until it says nothing for too long, or until the server drains.

        Not by gRPC's iterator: that one keeps the last request of a stream that breaks off.

        Raises:
            DeadlineExceeded: the caller was silent for too long.
            Unavailable: the server drains.
        """
        if self._drained is None:
            self._drained = asyncio.create_task(self._draining.wait())
        while True:
            read = asyncio.ensure_future(context.read())
            try:
                await asyncio.wait(
                    {read, self._drained}, timeout=self._idle_seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                if not read.done():
                    read.cancel()
            if not read.done():
                if self._draining.is_set():
                    raise Unavailable("the server is shutting down; send the rest to another one", retry_after=1.0)
                raise DeadlineExceeded(
                    f"no request came on this stream for {self._idle_seconds:g} s; open it again when there is one"
                )
            request = read.result()
            if request is grpc.aio.EOF:
                return
            yield request

    async def send(self, sending: Awaitable[None]) -> None:
        """Waits until an answer has left for the caller.

        Raises:
            CancelledError: the caller has gone, or does not read. A status would have to wait behind the answer that
                nobody reads, and hold what the call holds; so it is given up without one.
        """
        try:
            async with asyncio.timeout(self._send_seconds):
                await unless_gone(sending)
        except TimeoutError:
            raise asyncio.CancelledError(f"not read for {self._send_seconds:g} s") from None


async def unless_gone(sending: Awaitable[None]) -> None:
    """A caller who leaves, or whose deadline passes, while the answer is being written is no bug of ours."""
    try:
        await sending
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None
