"""The batcher with a model that the test holds in its hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from glimpse.parts import Part, PartFeatures, PartSchema
from server.errors import DeadlineExceeded, ResourceExhausted, ServerError, Unavailable
from server.extraction.batcher import Batcher
from server.extraction.ticket import Extracted
from server.telemetry import Telemetry

SCHEMA = PartSchema((Part("global", 2, always_visible=True),))
POISON = 255


class HeldModel:
    """Runs a batch only when the test lets it; an image of `POISON` makes its batch fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.warmed = 0
        self.broken = False
        self._entered = threading.Semaphore(0)
        self._let = threading.Semaphore(0)
        self.free = False

    def run(self, images: NDArray[np.uint8]) -> PartFeatures:
        values = images[:, 0, 0, 0].tolist()
        self.batches.append(values)
        self._entered.release()
        if not self.free:
            self._let.acquire()
        if self.broken or POISON in values:
            raise RuntimeError("the model does not like it")
        vectors = np.zeros((len(values), 2), np.float32)
        vectors[:, 0] = 1
        return PartFeatures.trusted(vectors, np.array(values, np.float32)[:, None], SCHEMA)

    def warm(self, batches: Sequence[int]) -> None:
        self.warmed += 1
        if self.broken:
            raise RuntimeError("the device is gone")

    async def entered(self) -> None:
        """Until a batch is inside the model."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=20)

    def let(self, batches: int = 1) -> None:
        """Lets this many batches through."""
        self._let.release(batches)

    def release(self) -> None:
        """Lets everything through from now on."""
        self.free = True
        self._let.release(1000)


class Bench:
    """A batcher, its model and its numbers."""

    def __init__(self, **options: object) -> None:
        self.model = HeldModel()
        self.telemetry = Telemetry()
        self.deaths = asyncio.Event()
        self.batcher = Batcher(self.model, self.telemetry, on_death=self.deaths.set, **options)  # type: ignore[arg-type]

    def put(self, value: int, *, deadline: float | None = None, bulk: bool = False) -> asyncio.Future[Extracted]:
        (ticket,) = self.batcher.admit(1, deadline=deadline, bulk=bulk)
        self.batcher.submit(ticket, np.full((1, 1, 3), value, np.uint8))
        return ticket.future

    def dropped(self, reason: str) -> float:
        value = self.telemetry.registry.get_sample_value("glimpse_queue_rejected_total", {"reason": reason})
        return value or 0.0


Make = Callable[..., Bench]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    benches: list[Bench] = []

    def build(**options: object) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield build
    for bench in benches:
        bench.model.release()
        await bench.batcher.close()


def value_of(extracted: Extracted) -> float:
    return float(extracted.features.visibility[0, 0])


async def test_first_image_goes_alone_and_the_next_batch_takes_all_that_waited(make: Make) -> None:
    bench = make(max_batch=4)
    first = bench.put(1)
    await bench.model.entered()
    rest = [bench.put(value) for value in range(2, 8)]
    bench.model.release()
    answers = await asyncio.gather(first, *rest)
    assert [value_of(answer) for answer in answers] == [1, 2, 3, 4, 5, 6, 7]
    assert bench.model.batches == [[1], [2, 3, 4, 5], [6, 7]]
    assert bench.batcher.depth == 0


async def test_full_queue_refuses_at_once_with_a_retry_hint(make: Make) -> None:
    bench = make(limit=3)
    running = bench.put(1)
    await bench.model.entered()
    waiting = [bench.put(value) for value in (2, 3)]
    with pytest.raises(ResourceExhausted, match="2 images wait for the model and 3 may: 2 more do not fit") as refused:
        bench.batcher.admit(2)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 0
    assert bench.dropped("full") == 2
    waiting.append(bench.put(4))  # one still fits
    bench.model.release()
    await asyncio.gather(running, *waiting)


async def test_admitted_images_count_before_they_are_decoded(make: Make) -> None:
    bench = make(limit=2)
    tickets = bench.batcher.admit(2)
    assert bench.batcher.depth == 2
    with pytest.raises(ResourceExhausted):
        bench.batcher.admit(1)
    for ticket in tickets:
        bench.batcher.refuse(ticket, ServerError("not an image"))
    for ticket in tickets:
        with pytest.raises(ServerError, match="not an image"):
            await ticket.future
    assert bench.batcher.depth == 0


async def test_image_whose_deadline_passed_never_reaches_the_model(make: Make) -> None:
    bench = make()
    running = bench.put(1)
    await bench.model.entered()
    late = bench.put(2, deadline=time.monotonic())
    in_time = bench.put(3, deadline=time.monotonic() + 60)
    bench.model.release()
    with pytest.raises(DeadlineExceeded):
        await late
    await asyncio.gather(running, in_time)
    assert bench.model.batches == [[1], [3]]
    assert bench.dropped("deadline") == 1


async def test_image_of_a_caller_who_left_never_reaches_the_model(make: Make) -> None:
    bench = make()
    running = bench.put(1)
    await bench.model.entered()
    (ticket,) = bench.batcher.admit(1)
    bench.batcher.submit(ticket, np.full((1, 1, 3), 2, np.uint8))
    ticket.future.cancel()
    after = bench.put(3)
    bench.model.release()
    await asyncio.gather(running, after)
    assert bench.model.batches == [[1], [3]]
    assert bench.dropped("cancelled") == 1


async def test_only_the_poisonous_image_of_a_batch_fails(make: Make) -> None:
    bench = make(max_batch=4)
    running = bench.put(1)
    await bench.model.entered()
    waiting = [bench.put(value) for value in (2, POISON, 4)]
    bench.model.release()
    good, bad, also_good = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(good, Extracted)
    assert isinstance(also_good, Extracted)
    assert (value_of(good), value_of(also_good)) == (2, 4)
    assert isinstance(bad, ServerError)
    assert "this image" in str(bad)
    await running
    assert value_of(await bench.put(5)) == 5  # and life goes on
    assert bench.batcher.alive


async def test_poisonous_image_alone_does_not_kill_the_worker(make: Make) -> None:
    bench = make()
    bench.model.release()
    with pytest.raises(ServerError, match="this image"):
        await bench.put(POISON)
    assert bench.model.warmed == 1  # a black image proved that the model still works
    assert value_of(await bench.put(1)) == 1


async def test_broken_model_kills_the_worker_and_everyone_waiting_hears_of_it(make: Make) -> None:
    bench = make(max_batch=1)
    running = bench.put(1)
    await bench.model.entered()
    waiting = [bench.put(value) for value in (2, 3)]
    undecoded = bench.batcher.admit(1)[0]
    bench.model.broken = True
    bench.model.release()
    outcomes = await asyncio.gather(running, *waiting, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    await asyncio.wait_for(bench.deaths.wait(), 20)
    assert not bench.batcher.alive
    assert bench.telemetry.registry.get_sample_value("glimpse_worker_alive") == 0
    with pytest.raises(Unavailable, match="worker of this server died"):
        bench.batcher.admit(1)
    bench.batcher.submit(undecoded, np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(Unavailable):
        await undecoded.future


async def test_indexing_waits_for_searches_but_always_gets_one_place(make: Make) -> None:
    bench = make(max_batch=3)
    running = bench.put(1)
    await bench.model.entered()
    bulk = [bench.put(value, bulk=True) for value in (101, 102)]
    urgent = [bench.put(value) for value in (2, 3, 4)]
    bench.model.release()
    await asyncio.gather(running, *bulk, *urgent)
    assert bench.model.batches == [[1], [2, 3, 101], [4, 102]]


async def test_indexing_does_not_take_the_places_of_searches_in_the_queue(make: Make) -> None:
    bench = make(limit=1)
    running = bench.put(1)
    await bench.model.entered()
    bulk = [bench.put(value, bulk=True) for value in (101, 102, 103)]
    search = bench.put(2)
    bench.model.release()
    await asyncio.gather(running, search, *bulk)


async def test_batch_with_a_delay_waits_for_company(make: Make) -> None:
    bench = make(max_batch=2, delay=30.0)
    first = bench.put(1)
    second = bench.put(2)  # the batch is full now, so nothing waits for the 30 seconds
    bench.model.release()
    await asyncio.wait_for(asyncio.gather(first, second), 20)
    assert bench.model.batches == [[1, 2]]


async def test_closing_finishes_what_was_admitted_and_refuses_the_rest(make: Make) -> None:
    bench = make(max_batch=1)
    running = bench.put(1)
    await bench.model.entered()
    waiting = bench.put(2)
    (undecoded,) = bench.batcher.admit(1)
    closing = asyncio.create_task(bench.batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="shutting down"):
        bench.batcher.admit(1)
    bench.batcher.submit(undecoded, np.full((1, 1, 3), 3, np.uint8))
    bench.model.release()
    await closing
    assert [value_of(future.result()) for future in (running, waiting, undecoded.future)] == [1, 2, 3]


async def test_model_that_hangs_does_not_keep_the_server_from_closing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.extraction.batcher.CLOSING_SECONDS", 0.01)
    bench = make()
    bench.put(1)
    await bench.model.entered()
    await asyncio.wait_for(bench.batcher.close(), 20)
    assert bench.telemetry.registry.get_sample_value("glimpse_worker_alive") == 0


async def test_entrusted_image_is_decoded_by_the_model_s_thread(make: Make) -> None:
    bench = make()
    bench.model.release()
    (ticket,) = bench.batcher.admit(1)
    threads: list[str] = []

    def prepare() -> NDArray[np.uint8]:
        threads.append(threading.current_thread().name)
        return np.full((1, 1, 3), 7, np.uint8)

    bench.batcher.entrust(ticket, prepare)
    assert value_of(await ticket.future) == 7
    assert threads == ["inference"]


@pytest.mark.parametrize(
    ("error", "match"), [(ServerError("not an image"), "not an image"), (OSError("bug"), "failed")]
)
async def test_entrusted_image_that_cannot_be_decoded_fails_alone(make: Make, error: Exception, match: str) -> None:
    bench = make(max_batch=4)
    running = bench.put(1)
    await bench.model.entered()
    (bad,) = bench.batcher.admit(1)

    def prepare() -> NDArray[np.uint8]:
        raise error

    bench.batcher.entrust(bad, prepare)
    good = bench.put(2)
    bench.model.release()
    assert value_of(await good) == 2
    with pytest.raises(ServerError, match=match):
        await bad.future
    assert bench.model.batches == [[1], [2]]
    await running
