"""Several requests of one stream in progress at once, answered in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


class Pipeline(Generic[Answer]):
    """Answers in the order of their requests, several being made at once."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._tasks: deque[asyncio.Task[Answer]] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    async def add(self, answer: Coroutine[Any, Any, Answer]) -> None:
        """Starts an answer as soon as there is a place."""
        try:
            await self._free.acquire()
        except asyncio.CancelledError:
            answer.close()
            raise
        self._tasks.append(asyncio.create_task(answer))
        self._changed.set()

    def end(self) -> None:
        """No more will be added."""
        self._ended = True
        self._changed.set()

    def cancel(self) -> None:
        """Gives up what is in progress."""
        for task in self._tasks:
            task.cancel()

    async def __aiter__(self) -> AsyncIterator[Answer]:
        while self._tasks or not self._ended:
            if not self._tasks:
                self._changed.clear()
                await self._changed.wait()
                continue
            answer = await self._tasks[0]
            self._tasks.popleft()
            self._free.release()
            yield answer
