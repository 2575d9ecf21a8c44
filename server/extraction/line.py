"""`WaitingLine`: the bounded queue in front of the model, and how a batch is chosen from it.

An image is *admitted* before it is decoded, so that the bound covers everything that waits, and leaves the line in one
of four ways: it goes through the model, it could not be decoded, its caller gave up, or its deadline passed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from server.errors import ResourceExhausted, Unavailable
from server.extraction.ticket import Ticket

Dropped = tuple[Ticket, str]
"""A ticket that nobody waits for any more, and `Ticket.reason_to_drop`."""


class WaitingLine:
    """Tickets on their way to the model; every method may be called from any thread.

    Args:
        max_batch: images in one run.
        delay: seconds that a batch which is not full waits for more.
        limit: images that may wait; bulk images (indexing) are bounded by their caller and do not count.
    """

    def __init__(self, max_batch: int, delay: float, limit: int) -> None:
        self.seconds_per_image = 0.02
        """A running mean, for the retry hint."""
        self._max_batch = max_batch
        self._delay = delay
        self._limit = limit
        self._changed = threading.Condition()
        self._urgent: deque[Ticket] = deque()
        self._bulk: deque[Ticket] = deque()
        self._open = {False: 0, True: 0}  # bulk? -> admitted and not yet taken or released
        self._closing = False
        self._dead = False

    @property
    def depth(self) -> int:
        """Images admitted that have not entered the model."""
        return self._open[False] + self._open[True]

    @property
    def dead(self) -> bool:
        """Nobody will take from it any more."""
        return self._dead

    def admit(self, count: int, *, bulk: bool) -> None:
        """Takes places for ``count`` images, all or none. Each must be put in or released afterwards.

        Raises:
            ResourceExhausted: the line is full; the error says when to try again.
            Unavailable: the worker is dead or the server is closing.
        """
        with self._changed:
            if self._dead or self._closing:
                raise self.gone()
            waiting = self._open[False]
            if not bulk and waiting + count > self._limit:
                raise ResourceExhausted(
                    f"{waiting} images wait for the model and {self._limit} may: {count} more do not fit",
                    retry_after=max(0.05, waiting * self.seconds_per_image),
                )
            self._open[bulk] += count

    def put(self, ticket: Ticket) -> bool:
        """Lets an admitted ticket be taken; False when nobody will."""
        ticket.ready_at = time.perf_counter()
        with self._changed:
            if self._dead:
                return False
            (self._bulk if ticket.bulk else self._urgent).append(ticket)
            self._changed.notify()
        return True

    def release(self, tickets: Sequence[Ticket]) -> None:
        """Gives back the places of tickets that were not put in."""
        with self._changed:
            for ticket in tickets:
                self._open[ticket.bulk] -= 1
            if self._closing:
                self._changed.notify()

    def take(self) -> tuple[list[Ticket], list[Dropped]] | None:
        """Waits for tickets and takes a batch, and what was found to be dropped; None once closed and empty."""
        with self._changed:
            while not (self._urgent or self._bulk):
                if self._closing and self.depth == 0:
                    return None
                self._changed.wait()
            if self._delay:
                self._gather()
            batch, given_up = self._choose()
            for ticket in batch:
                self._open[ticket.bulk] -= 1
            for ticket, _ in given_up:
                self._open[ticket.bulk] -= 1
        return batch, given_up

    def close(self) -> None:
        """Admits nobody any more; what was admitted can still be taken."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def die(self) -> list[Ticket]:
        """Nobody will take any more; returns those who wait."""
        with self._changed:
            self._dead = True
            waiting = [*self._urgent, *self._bulk]
            self._urgent.clear()
            self._bulk.clear()
            for ticket in waiting:
                self._open[ticket.bulk] -= 1
        return waiting

    def gone(self) -> Unavailable:
        """Why nobody is admitted."""
        if self._dead or not self._closing:
            return Unavailable("the inference worker of this server died; it has to be restarted")
        return Unavailable("the server is shutting down", retry_after=1.0)

    def _gather(self) -> None:
        """Waits until the batch is full or its first image has waited for the delay."""
        first = min(queue[0].ready_at for queue in (self._urgent, self._bulk) if queue)
        while len(self._urgent) + len(self._bulk) < self._max_batch and not self._closing:
            left = first + self._delay - time.perf_counter()
            if left <= 0 or not self._changed.wait(left):
                break

    def _choose(self) -> tuple[list[Ticket], list[Dropped]]:
        batch: list[Ticket] = []
        given_up: list[Dropped] = []

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
