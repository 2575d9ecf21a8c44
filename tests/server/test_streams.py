"""Streams whose caller does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from server.errors import DeadlineExceeded, Unavailable
from server.streams import Streams


class Caller:
    """Sends what it is given, then nothing more."""

    def __init__(self, *requests: object) -> None:
        self._requests: Iterator[object] = iter(requests)
        self.cancelled = 0

    async def read(self) -> Any:
        try:
            return next(self._requests)
        except StopIteration:
            pass
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def test_stream_ends_with_its_caller() -> None:
    streams = Streams(60, 60)
    assert [request async for request in streams.requests(Caller(1, 2, grpc.aio.EOF))] == [1, 2]


async def test_silent_stream_is_ended_after_what_it_has_sent() -> None:
    caller = Caller(1)
    requests = Streams(0.01, 60).requests(caller)
    assert await anext(requests) == 1
    with pytest.raises(DeadlineExceeded, match=r"no request came on this stream for 0\.01 s"):
        await anext(requests)
    await asyncio.sleep(0)
    assert caller.cancelled == 1


async def test_draining_server_ends_streams_politely() -> None:
    streams = Streams(60, 60)
    requests = streams.requests(Caller(1))
    assert await anext(requests) == 1
    streams.drain()
    with pytest.raises(Unavailable, match="send the rest to another one"):
        await anext(requests)


async def test_caller_who_does_not_read_is_left() -> None:
    with pytest.raises(asyncio.CancelledError, match=r"not read for 0\.01 s"):
        await Streams(60, 0.01).send(asyncio.get_running_loop().create_future())


async def test_caller_who_has_gone_is_no_bug() -> None:
    async def gone() -> None:
        raise grpc.aio.InternalError

    with pytest.raises(asyncio.CancelledError):
        await Streams(60, 60).send(gone())
