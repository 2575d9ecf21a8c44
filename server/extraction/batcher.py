"""`Batcher`: one thread runs the model; it takes what waits whenever the model is free.

Greedy batching needs no delay: while one batch runs, the next one gathers. At low load a request goes through alone,
at high load batches fill by themselves. (Measured: a delay of 2 to 5 ms only made the quiet case slower.)

A thread switch costs as much as a small search, so work is handed on only where that gains something: a ticket may
bring its decoding along (`entrust`) and what is to be done with its features (`Ticket.finish`). On a single core the
model's thread then does all of a request and wakes the event loop once; images of one batch are finished together.
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
from server.extraction.line import WaitingLine
from server.extraction.ticket import Extracted, Finish, StageSeconds, Ticket, dropped
from server.fairness import current_client
from server.telemetry import Telemetry

CLOSING_SECONDS = 30.0
"""For the last batch to come out of the model. Callers have their answers by then, or have been cancelled."""

LONGEST_HOLD = 0.005
"""Seconds that finished outcomes may wait for others of their batch."""

SHARE = 4
"""Images of a batch that one thread of the executor finishes together: most of what doing them together saves, and
several threads can work on one batch."""

_log = logging.getLogger(__name__)


class Model(Protocol):
    """What the batcher needs of a `glimpse.runtime.Session`."""

    def run(self, images: NDArray[np.uint8]) -> PartFeatures: ...

    def warm(self, batches: Sequence[int]) -> None: ...


class Batcher:
    """The line in front of one session, and the thread that empties it.

    Args:
        max_batch, delay, limit: as in `WaitingLine`.
        patience: seconds that one batch may take; a model that takes longer hangs, and nobody is admitted meanwhile.
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
        patience: float = 60.0,
        finishing: Executor | None = None,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._telemetry = telemetry
        self._patience = patience
        self._running: list[Ticket] = []
        self._finishing = finishing
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._line = WaitingLine(max_batch, delay, limit, self._give_up)
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()
        telemetry.worker(True)

    @property
    def depth(self) -> int:
        """Images admitted that have not entered the model."""
        return self._line.depth

    @property
    def alive(self) -> bool:
        return not self._line.dead

    @property
    def hung(self) -> bool:
        """The model's thread has been at one batch for longer than the batcher's patience."""
        since = self._line.busy_since
        return since is not None and time.perf_counter() - since > self._patience

    def admit(self, count: int, *, deadline: float | None = None, bulk: bool = False) -> list[Ticket]:
        """Places in the line for ``count`` images, all or none. Each must be submitted or refused afterwards.

        Args:
            deadline: on the clock of `time.monotonic`.
            bulk: work that can wait; a batch takes it after the rest, but always at least one of it.

        Raises:
            ResourceExhausted: the line is full or too long; the error says when to try again.
            Unavailable: the worker is dead, the model hangs, or the server is closing.
        """
        if self.hung:
            raise self._no_answer()
        try:
            client = current_client()
            self._line.admit(count, bulk=bulk, client=client, deadline=deadline)
        except ResourceExhausted:
            self._telemetry.queue_rejected("full", count)
            raise
        return [Ticket(self._loop.create_future(), deadline, bulk, client) for _ in range(count)]

    def check(self, deadline: float | None = None) -> None:
        """Raises what `admit` would raise for one image, if there is a crowd. A refusal costs the least before anything
        else has been done for a call."""
        try:
            self._line.check(current_client(), deadline)
        except ResourceExhausted:
            self._telemetry.queue_rejected("full")
            raise

    def submit(self, ticket: Ticket, pixels: NDArray[np.uint8]) -> None:
        """Hands in the preprocessed pixels, uint8 ``(H, W, 3)``. From any thread."""
        ticket.pixels = pixels
        self._enqueue(ticket)

    def entrust(self, ticket: Ticket, prepare: Callable[[], NDArray[np.uint8]]) -> None:
        """Hands in an image that the model's thread is to decode. ``prepare`` may raise a `ServerError`."""
        ticket.prepare = prepare
        self._enqueue(ticket)

    def _enqueue(self, ticket: Ticket) -> None:
        if not self._line.put(ticket):
            self.refuse(ticket, self._line.gone())

    def refuse(self, ticket: Ticket, error: BaseException) -> None:
        """Gives up a ticket that was never submitted. From any thread."""
        forget_traceback(error)
        self._line.release([ticket])
        self._resolve([(ticket, error)])

    def drop(self, ticket: Ticket, reason: str) -> None:
        """Gives up a ticket for which nobody waits. From any thread."""
        self._telemetry.queue_rejected(reason)
        self.refuse(ticket, dropped(reason))

    def abandon(self) -> None:
        """Tells everybody who waits for a model that hangs that it does; what it still answers is thrown away. To be
        called on the event loop."""
        for ticket in self._running:
            ticket.fail(self._no_answer())
        self._resolve([(ticket, self._no_answer()) for ticket in self._line.flush()])

    async def close(self) -> None:
        """Finishes what was admitted, then ends the thread; a model that hangs is left behind."""
        self._line.close()
        await asyncio.to_thread(self._thread.join, CLOSING_SECONDS)
        if self._thread.is_alive():
            _log.critical("the model did not finish within %s seconds; leaving it", CLOSING_SECONDS)
        self._telemetry.worker(False)

    def _work(self) -> None:
        try:
            while (batch := self._line.take()) is not None:
                self._running = batch
                self._run(batch)
                self._running = []
        except BaseException as error:
            # Whatever ends this thread, the callers must hear of it: a server that looks healthy and never answers
            # is the worst failure there is.
            _log.critical("the inference worker died", exc_info=error)
            self._die()

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
        self._deliver(
            [(ticket, ticket.extracted(features[row : row + 1], started, seconds)) for row, ticket in enumerate(batch)]
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
        good: list[tuple[Ticket, Extracted]] = []
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
                good.append((ticket, ticket.extracted(features, started, time.perf_counter() - begun)))
        if not good:
            try:
                self._model.warm([1])
            except Exception:
                self._resolve([(ticket, self._line.gone()) for ticket in batch])
                raise
        self._resolve(bad)
        self._deliver(good)

    def _deliver(self, extracted: list[tuple[Ticket, Extracted]]) -> None:
        """Finishes the tickets, here or in the executor, and hands the outcomes to the event loop."""
        groups: dict[Finish | None, list[tuple[Ticket, Extracted]]] = {}
        for ticket, found in extracted:
            self._note_stages(found.seconds)
            groups.setdefault(ticket.finish, []).append((ticket, found))
        for finish, members in groups.items():
            if finish is None:
                self._resolve(members)
            elif self._finishing is None:
                self._finish(finish, members)
            else:
                for start in range(0, len(members), SHARE):
                    self._finishing.submit(self._finish, finish, members[start : start + SHARE])

    def _finish(self, finish: Finish, members: list[tuple[Ticket, Extracted]]) -> None:
        outcomes: list[tuple[Ticket, Any]] = []
        asked: list[tuple[Any, Extracted]] = []
        waiting: deque[Ticket] = deque()
        for ticket, found in members:
            if ticket.cancelled:
                outcomes.append((ticket, dropped("cancelled")))
            else:
                asked.append((ticket.given, found))
                waiting.append(ticket)
        since = time.perf_counter()
        try:
            for outcome in finish(asked):
                outcomes.append((waiting.popleft(), outcome))
                # Together they wake the loop once; but nobody waits long for the slow searches of others.
                if time.perf_counter() - since > LONGEST_HOLD:
                    self._resolve(outcomes)
                    outcomes, since = [], time.perf_counter()
        except Exception as error:  # handed to whoever waits for what was not finished
            outcomes += [(ticket, error) for ticket in waiting]
        self._resolve(outcomes)

    def _note_stages(self, seconds: StageSeconds) -> None:
        stage = self._telemetry.stage
        stage("decode", seconds.decode)
        stage("preprocess", seconds.preprocess)
        stage("queue", seconds.queue)
        stage("inference", seconds.inference)

    def _no_answer(self) -> Unavailable:
        return Unavailable(
            f"the model has not answered for {self._patience:g} s; it is being waited for", retry_after=5.0
        )

    def _die(self) -> None:
        waiting = self._line.die()
        self._telemetry.worker(False)
        self._resolve([(ticket, self._line.gone()) for ticket in waiting])
        self._loop.call_soon_threadsafe(self._on_death)

    def _give_up(self, ticket: Ticket, error: ServerError, reason: str) -> None:
        self._telemetry.queue_rejected(reason)
        self._resolve([(ticket, error)])

    def _resolve(self, outcomes: Sequence[tuple[Ticket, Any]]) -> None:
        if outcomes:
            self._loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[tuple[Ticket, Any]]) -> None:
    for ticket, outcome in outcomes:
        ticket.settle(outcome)
