"""`Batcher`: one thread runs the model; it takes what waits whenever the model is free.

Greedy batching needs no delay: while one batch runs, the next one gathers. At low load a request goes through alone,
at high load batches fill by themselves. (Measured: a delay of 2 to 5 ms only made the quiet case slower.)

A thread switch costs as much as a small search, so work is handed on only where that gains something: a ticket may
bring its decoding along (`entrust`) and what is to be done with its features (`Ticket.finish`). On a single core the
model's thread then does all of a request and wakes the event loop once.

An image is *admitted* before it is decoded, so that the bound covers everything that waits, and leaves the queue in
one of four ways: it goes through the model, it could not be decoded, its caller gave up, or its deadline passed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from server.errors import ResourceExhausted, ServerError, Unavailable, forget_traceback
from server.extraction.ticket import Inferred, Ticket, dropped
from server.telemetry import Telemetry

CLOSING_SECONDS = 30.0
"""For the last batch to come out of the model. Callers have their answers by then, or have been cancelled."""

LONGEST_HOLD = 0.005
"""Seconds that finished outcomes may wait for others of their batch."""

_log = logging.getLogger(__name__)


class Model(Protocol):
    """What the batcher needs of a `glimpse.runtime.Session`."""

    def run(self, images: NDArray[np.uint8]) -> PartFeatures: ...

    def warm(self, batches: Sequence[int]) -> None: ...


class Batcher:
    """The queue in front of one session, and the thread that empties it.

    Args:
        max_batch: images in one run.
        delay: seconds that a batch which is not full waits for more.
        limit: images that may wait; bulk images (indexing) are bounded by their caller and do not count.
        finishing: runs `Ticket.finish`; without it the model's thread does, between two batches.
        on_death: called on the event loop when the worker dies; from then on everything is `Unavailable`.
    """

    def __init__(
        self,
        model: Model,
        telemetry: Telemetry,
        *,
        max_batch: int = 8,
        delay: float = 0.0,
        limit: int = 256,
        finishing: Executor | None = None,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._telemetry = telemetry
        self._max_batch = max_batch
        self._delay = delay
        self._limit = limit
        self._finishing = finishing
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._urgent: deque[Ticket] = deque()
        self._bulk: deque[Ticket] = deque()
        self._open = {False: 0, True: 0}  # bulk? -> admitted and not yet taken or dropped
        self._closing = False
        self._dead = False
        self._seconds_per_image = 0.02  # a running mean, for the retry hint
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()
        telemetry.worker(True)

    @property
    def depth(self) -> int:
        """Images admitted that have not entered the model."""
        return self._open[False] + self._open[True]

    @property
    def alive(self) -> bool:
        return not self._dead

    def admit(self, count: int, *, deadline: float | None = None, bulk: bool = False) -> list[Ticket]:
        """Places in the queue for ``count`` images, all or none. Each must be submitted or refused afterwards.

        Args:
            deadline: on the clock of `time.monotonic`.
            bulk: work that can wait; a batch takes it after the rest, but always at least one of it.

        Raises:
            ResourceExhausted: the queue is full; the error says when to try again.
            Unavailable: the worker is dead or the server is closing.
        """
        with self._changed:
            if self._dead or self._closing:
                raise self._gone()
            waiting = self._open[False]
            if not bulk and waiting + count > self._limit:
                self._telemetry.queue_rejected("full", count)
                raise ResourceExhausted(
                    f"{waiting} images wait for the model and {self._limit} may: {count} more do not fit",
                    retry_after=max(0.05, waiting * self._seconds_per_image),
                )
            self._open[bulk] += count
        return [Ticket(self._loop.create_future(), deadline, bulk) for _ in range(count)]

    def submit(self, ticket: Ticket, pixels: NDArray[np.uint8]) -> None:
        """Hands in the preprocessed pixels, uint8 ``(H, W, 3)``. From any thread."""
        ticket.pixels = pixels
        self._enqueue(ticket)

    def entrust(self, ticket: Ticket, prepare: Callable[[], NDArray[np.uint8]]) -> None:
        """Hands in an image that the model's thread is to decode. ``prepare`` may raise a `ServerError`."""
        ticket.prepare = prepare
        self._enqueue(ticket)

    def _enqueue(self, ticket: Ticket) -> None:
        ticket.ready_at = time.perf_counter()
        with self._changed:
            if not self._dead:
                (self._bulk if ticket.bulk else self._urgent).append(ticket)
                self._changed.notify()
                return
        self.refuse(ticket, self._gone())

    def refuse(self, ticket: Ticket, error: BaseException) -> None:
        """Gives up a ticket that was never submitted. From any thread."""
        forget_traceback(error)
        self._release([ticket])
        self._resolve([(ticket, error)])

    def drop(self, ticket: Ticket, reason: str) -> None:
        """Gives up a ticket for which nobody waits. From any thread."""
        self._telemetry.queue_rejected(reason)
        self.refuse(ticket, dropped(reason))

    def cancel(self, ticket: Ticket) -> None:
        """The caller has gone: the image is dropped before it enters the model."""
        ticket.cancelled = True

    async def close(self) -> None:
        """Finishes what was admitted, then ends the thread; a model that hangs is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, CLOSING_SECONDS)
        if self._thread.is_alive():
            _log.critical("the model did not finish within %s seconds; leaving it", CLOSING_SECONDS)
        self._telemetry.worker(False)

    def _work(self) -> None:
        try:
            while batch := self._take():
                self._run(batch)
        except BaseException as error:
            # Whatever ends this thread, the callers must hear of it: a server that looks healthy and never answers
            # is the worst failure there is.
            _log.critical("the inference worker died", exc_info=error)
            self._die()

    def _take(self) -> list[Ticket]:
        """Waits for work and takes a batch of live tickets; empty when closing and nothing is left."""
        while True:
            with self._changed:
                while not (self._urgent or self._bulk):
                    if self._closing and self.depth == 0:
                        return []
                    self._changed.wait()
                if self._delay:
                    self._gather()
                batch, given_up = self._choose()
                for ticket in batch:
                    self._open[ticket.bulk] -= 1
                for ticket, _ in given_up:
                    self._open[ticket.bulk] -= 1
            for _, reason in given_up:
                self._telemetry.queue_rejected(reason)
            self._resolve([(ticket, dropped(reason)) for ticket, reason in given_up])
            if batch:
                return batch

    def _gather(self) -> None:
        """Waits until the batch is full or its first image has waited for the delay."""
        first = min(queue[0].ready_at for queue in (self._urgent, self._bulk) if queue)
        while len(self._urgent) + len(self._bulk) < self._max_batch and not self._closing:
            left = first + self._delay - time.perf_counter()
            if left <= 0 or not self._changed.wait(left):
                break

    def _choose(self) -> tuple[list[Ticket], list[tuple[Ticket, str]]]:
        batch: list[Ticket] = []
        given_up: list[tuple[Ticket, str]] = []

        def fill(queue: deque[Ticket], size: int) -> None:
            while queue and len(batch) < size:
                ticket = queue.popleft()
                reason = ticket.reason_to_drop()
                if reason is None:
                    batch.append(ticket)
                else:
                    given_up.append((ticket, reason))

        # One place stays free for indexing, so that it goes on, slowly, under any load of searches.
        fill(self._urgent, self._max_batch - 1 if self._bulk and self._max_batch > 1 else self._max_batch)
        fill(self._bulk, self._max_batch)
        fill(self._urgent, self._max_batch)
        return batch, given_up

    def _run(self, batch: list[Ticket]) -> None:
        batch = [ticket for ticket in batch if ticket.pixels is not None or self._prepared(ticket)]
        if not batch:
            return
        started = time.perf_counter()
        try:
            features = self._infer(batch)
        except Exception as error:  # any failure of one batch: find out whose fault it is
            self._isolate(batch, error, started)
            return
        seconds = time.perf_counter() - started
        self._seconds_per_image += 0.1 * (seconds / len(batch) - self._seconds_per_image)
        self._deliver(
            [
                (ticket, Inferred(features[row : row + 1], _queued(ticket, started), seconds))
                for row, ticket in enumerate(batch)
            ]
        )

    def _prepared(self, ticket: Ticket) -> bool:
        """Makes the pixels of an entrusted ticket; False when it was refused instead."""
        assert ticket.prepare is not None
        try:
            ticket.pixels = ticket.prepare()
        except ServerError as error:
            self._resolve([(ticket, error)])
        except Exception as error:  # one image's trouble is not the worker's
            _log.error("decoding failed", exc_info=error)
            self._resolve([(ticket, ServerError("the server failed on this image"))])
        return ticket.pixels is not None

    def _deliver(self, inferred: list[tuple[Ticket, Inferred]]) -> None:
        """Finishes each ticket, here or in the executor, and hands the outcomes to the event loop."""
        outcomes: list[tuple[Ticket, Any]] = []
        since = time.perf_counter()
        for ticket, features in inferred:
            if ticket.finish is None:
                outcomes.append((ticket, features))
            elif self._finishing is not None:
                self._finishing.submit(self._finish, ticket, features)
            else:
                outcomes.append((ticket, _finished(ticket, features)))
                # Together they wake the loop once; but nobody waits long for the slow searches of others.
                if time.perf_counter() - since > LONGEST_HOLD:
                    self._resolve(outcomes)
                    outcomes, since = [], time.perf_counter()
        self._resolve(outcomes)

    def _finish(self, ticket: Ticket, features: Inferred) -> None:
        self._resolve([(ticket, _finished(ticket, features))])

    def _infer(self, batch: list[Ticket]) -> PartFeatures:
        pixels = [ticket.pixels for ticket in batch if ticket.pixels is not None]
        features = self._model.run(np.stack(pixels))
        self._telemetry.batch(len(batch))
        return features

    def _isolate(self, batch: list[Ticket], error: Exception, started: float) -> None:
        """Runs the members of a failed batch one by one, so that only the culprit fails.

        When all of them fail it may be the model that is broken, not the images: then a black image decides, and if
        that fails too the worker dies.
        """
        _log.error("a batch of %d failed; its images are tried one by one", len(batch), exc_info=error)
        good: list[tuple[Ticket, Inferred]] = []
        bad: list[tuple[Ticket, Any]] = []
        for ticket in batch:
            try:
                begun = time.perf_counter()
                features = self._infer([ticket]) if len(batch) > 1 else None
            except Exception:
                features = None
            if features is None:
                bad.append((ticket, ServerError("the model failed on this image")))
            else:
                good.append((ticket, Inferred(features, _queued(ticket, started), time.perf_counter() - begun)))
        if not good:
            try:
                self._model.warm([1])
            except Exception:
                self._resolve([(ticket, self._gone()) for ticket in batch])
                raise
        self._resolve(bad)
        self._deliver(good)

    def _die(self) -> None:
        with self._changed:
            self._dead = True
            waiting = [*self._urgent, *self._bulk]
            self._urgent.clear()
            self._bulk.clear()
            for ticket in waiting:
                self._open[ticket.bulk] -= 1
        self._telemetry.worker(False)
        self._resolve([(ticket, self._gone()) for ticket in waiting])
        self._loop.call_soon_threadsafe(self._on_death)

    def _gone(self) -> Unavailable:
        if self._dead or not self._closing:
            return Unavailable("the inference worker of this server died; it has to be restarted")
        return Unavailable("the server is shutting down", retry_after=1.0)

    def _release(self, tickets: Sequence[Ticket]) -> None:
        with self._changed:
            for ticket in tickets:
                self._open[ticket.bulk] -= 1
            if self._closing:
                self._changed.notify()

    def _resolve(self, outcomes: list[tuple[Ticket, Any]]) -> None:
        if outcomes:
            self._loop.call_soon_threadsafe(_settle, outcomes)


def _queued(ticket: Ticket, started: float) -> float:
    """Seconds that a ticket waited, its own decoding in this thread not counted."""
    own = ticket.decode + ticket.preprocess if ticket.prepare is not None else 0.0
    return max(0.0, started - ticket.ready_at - own)


def _finished(ticket: Ticket, features: Inferred) -> Any:
    """What `Ticket.finish` gives or raises."""
    assert ticket.finish is not None
    if ticket.cancelled:
        return dropped("cancelled")
    try:
        return ticket.finish(features)
    except Exception as error:  # handed to whoever waits for the ticket
        return error


def _settle(outcomes: list[tuple[Ticket, Any]]) -> None:
    """Hands the outcomes to whoever still waits, on the event loop."""
    for ticket, outcome in outcomes:
        # They refer to the request and to the ticket itself: a circle that only the garbage collector would find.
        ticket.pixels = ticket.prepare = ticket.finish = None
        if ticket.future.done():
            continue
        if isinstance(outcome, BaseException):
            ticket.future.set_exception(outcome)
            ticket.future.exception()  # a caller who has gone does not fetch it, which asyncio would log as an error
        else:
            ticket.future.set_result(outcome)
