"""What is made of an image's features on the model's thread: answers, alone and together."""

# The fixture is imported by its name, and tests take it by that name.
# ruff: noqa: F401, F811

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from server.errors import NotFound
from server.extraction.ticket import Extracted, Finish
from tests.server.test_batcher import HeldModel, Make, make, value_of


@pytest.mark.parametrize("pool", [True, False])
async def test_what_is_made_of_the_features_reaches_the_caller_and_its_errors_too(make: Make, pool: bool) -> None:
    with ThreadPoolExecutor(1, "finishing") as executor:
        bench = make(max_batch=3, finishing=executor if pool else None)
        bench.model.release()
        tickets = bench.batcher.admit(3)

        def fail(_: object) -> list[object]:
            raise NotFound("no such gallery")

        tickets[0].finish = lambda found: [(value_of(found[0][1]), threading.current_thread().name)]
        tickets[1].finish = fail
        for value, ticket in enumerate(tickets):
            bench.batcher.submit(ticket, np.full((1, 1, 3), value, np.uint8))
        value, thread = await tickets[0].future
        assert value == 0
        assert thread.startswith("finishing" if pool else "inference")
        with pytest.raises(NotFound):
            await tickets[1].future
        assert value_of(await tickets[2].future) == 2
        assert bench.batcher.alive


async def test_nothing_is_made_of_the_features_once_the_caller_has_left(make: Make) -> None:
    bench = make()
    (ticket,) = bench.batcher.admit(1)
    finished: list[object] = []

    def finish(found: Sequence[tuple[object, Extracted]]) -> Sequence[object]:
        finished.extend(found)
        return found

    ticket.finish = finish
    bench.batcher.submit(ticket, np.full((1, 1, 3), 1, np.uint8))
    await bench.model.entered()
    ticket.future.cancel()
    after = bench.put(2)
    bench.model.release()
    await after
    assert finished == []


async def test_images_of_one_batch_with_the_same_finish_are_finished_together(make: Make) -> None:
    bench = make(max_batch=8)
    running = bench.put(0)
    await bench.model.entered()
    calls: list[list[object]] = []

    def finish(name: str) -> Finish:
        def finished(found: Sequence[tuple[object, Extracted]]) -> list[object]:
            calls.append([name, *(given for given, _ in found)])
            return [(given, value_of(extracted)) for given, extracted in found]

        return finished

    one, other = finish("one"), finish("other")
    tickets = bench.batcher.admit(5)
    for value, (ticket, chosen) in enumerate(zip(tickets, (one, other, one, None, one), strict=True)):
        ticket.finish, ticket.given = chosen, f"given {value}"
        bench.batcher.submit(ticket, np.full((1, 1, 3), value, np.uint8))
    bench.model.release()
    answers = await asyncio.gather(running, *(ticket.future for ticket in tickets))
    assert calls == [["one", "given 0", "given 2", "given 4"], ["other", "given 1"]]
    assert [answers[1 + place] for place in (0, 1, 2, 4)] == [(f"given {n}", n) for n in (0, 1, 2, 4)]
    assert value_of(answers[4]) == 3


async def test_finishing_that_fails_midway_fails_for_those_who_have_no_answer_yet(make: Make) -> None:
    bench = make(max_batch=8)
    running = bench.put(0)
    await bench.model.entered()

    def finish(found: Sequence[tuple[object, Extracted]]) -> Iterator[object]:
        yield "answer"
        yield NotFound("no such item")
        raise OSError("bug")

    tickets = bench.batcher.admit(4)
    for ticket in tickets:
        ticket.finish = finish
        bench.batcher.submit(ticket, np.full((1, 1, 3), 1, np.uint8))
    bench.model.release()
    await running
    answers = await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)
    assert answers[0] == "answer"
    assert [type(answer) for answer in answers[1:]] == [NotFound, OSError, OSError]
    assert value_of(await bench.put(5)) == 5  # and life goes on


async def test_executor_shares_a_large_batch_among_its_threads(make: Make) -> None:
    with ThreadPoolExecutor(4, "finishing") as executor:
        bench = make(max_batch=16, finishing=executor)
        running = bench.put(0)
        await bench.model.entered()
        sizes: list[int] = []

        def finish(found: Sequence[tuple[object, Extracted]]) -> list[float]:
            sizes.append(len(found))
            return [value_of(extracted) for _, extracted in found]

        tickets = bench.batcher.admit(10)
        for value, ticket in enumerate(tickets):
            ticket.finish = finish
            bench.batcher.submit(ticket, np.full((1, 1, 3), value, np.uint8))
        bench.model.release()
        await running
        assert await asyncio.gather(*(ticket.future for ticket in tickets)) == list(range(10))
        assert sorted(sizes) == [2, 4, 4]
