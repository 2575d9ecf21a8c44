"""`Together`: searches that wait for a thread are answered as one, because a gallery's rows are read once for all."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from protos.glimpse.v1 import search_pb2
from server.services.answers import Outcome, Question, answers
from server.services.floor import Floor
from server.services.query import Query

MOST = 64
"""Searches of one pass; more of them gain nothing, and each would wait for all."""

Answer = asyncio.Future[search_pb2.SearchResponse]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    question: Question
    query: Query
    answer: Answer


class Together:
    """Used on the event loop. A thread that begins takes whatever waits by then: nobody is held up to gather more."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    async def answer(self, floor: Floor, question: Question, query: Query) -> search_pb2.SearchResponse:
        """The answer to one search; raises what it met."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, query, loop.create_future())
        self._waiting.append(waiting)
        # A thread for each: those that find their search taken along by another have nothing to do.
        floor.searching.submit(self._work, floor, loop)
        return await waiting.answer

    def _work(self, floor: Floor, loop: asyncio.AbstractEventLoop) -> None:
        taken = self._take()
        try:
            for each, outcome in zip(
                taken, answers([(each.question, each.query) for each in taken], floor.telemetry), strict=True
            ):
                loop.call_soon_threadsafe(_settle, each.answer, outcome)
        except Exception as error:  # handed to whoever has no answer yet
            for each in taken:
                loop.call_soon_threadsafe(_settle, each.answer, error)

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        while len(taken) < MOST:
            try:
                each = self._waiting.popleft()
            except IndexError:  # another thread may have taken the last one
                break
            if not each.answer.cancelled():
                taken.append(each)
        return taken


def _settle(answer: Answer, outcome: Outcome) -> None:
    if answer.done():  # cancelled meanwhile, or answered before another search failed
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
