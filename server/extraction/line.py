"""`WaitingLine`: the bounded queue in front of the model, and how a batch is chosen from it.

An image is *admitted* before it is decoded, so that the bound covers everything that waits, and leaves the line in one
of four ways: it goes through the model, it could not be decoded, its caller gave up, or its deadline passed.

More may come than the model can do. Then what counts is that the images that it does are still of use when they are
done: an image that would come too late for its deadline is refused at once; clients take turns; and from the first
refusal until the line is short again a client's newest image goes first, since its oldest has waited longest in vain
("adaptive LIFO", Maurer, Fail at Scale, 2015). In a line that nobody is refused from everybody is served in order.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from server.errors import ResourceExhausted, ServerError, Unavailable
from server.extraction.ticket import Ticket, dropped
from server.fairness import Turns

LONGEST_WAIT = 30.0
"""Seconds after which an image without a deadline is given up."""
SHARE_OF_DEADLINE = 0.8
"""Of the time that a deadline leaves, this much may go by until the image is expected to be done: the rest is for the
search, the way back, and for an estimate that is a little wrong."""
_NEWS = 0.1

GiveUp = Callable[[Ticket, ServerError, str], None]
"""Tells a ticket's caller why it was given up; the last is the reason for the metrics."""


class WaitingLine:
    """Tickets on their way to the model; every method may be called from any thread.

    Args:
        max_batch: images in one run.
        delay: seconds that a batch which is not full waits for more.
        limit: images of one client that may wait; all together twice as many, shared as `server.fairness` says. Bulk
            images (indexing) are bounded by their caller and do not count.
        give_up: called, with the line locked, for each ticket that is found to wait in vain.
    """

    def __init__(self, max_batch: int, delay: float, limit: int, give_up: GiveUp) -> None:
        self._seconds: dict[int, float] = {}
        """For each size of batch a running mean of what the model's thread was busy with it."""
        self._max_batch = max_batch
        self._delay = delay
        self._limit = limit
        self._give_up = give_up
        self._changed = threading.Condition()
        self._urgent: Turns[Ticket] = Turns()
        self._bulk: Turns[Ticket] = Turns()
        self._open = {False: 0, True: 0}  # bulk? -> admitted and not yet taken or released
        self._held: Counter[str] = Counter()  # of those that are not bulk, by client
        self._taken = 0
        self._taken_at = 0.0
        self._crowded = False
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

    @property
    def busy_since(self) -> float | None:
        """Since when (`time.perf_counter`) the model's thread has been at its batch; None while it waits for one."""
        return self._taken_at if self._taken else None

    def admit(self, count: int, *, bulk: bool, client: str = "", deadline: float | None = None) -> None:
        """Takes places for ``count`` images, all or none. Each must be put in or released afterwards.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            ResourceExhausted: the line is full, or too long for the deadline; the error says when to try again.
            Unavailable: the worker is dead or the server is closing.
        """
        with self._changed:
            if self._dead or self._closing:
                raise self.gone()
            if not bulk:
                error = self._refusal(count, client, deadline)
                if error is not None and self._prune():
                    error = self._refusal(count, client, deadline)
                if error is not None:
                    self._crowded = True
                    raise error
                self._held[client] += count
            self._open[bulk] += count

    def check(self, client: str, deadline: float | None) -> None:
        """ResourceExhausted, as `admit` would say it, if there is a crowd and no place for one more image."""
        if self._crowded:
            with self._changed:
                error = self._refusal(1, client, deadline)
                if error is not None and not self._prune():
                    raise error

    def put(self, ticket: Ticket) -> bool:
        """Lets an admitted ticket be taken; False when nobody will."""
        ticket.ready_at = time.perf_counter()
        with self._changed:
            if self._dead:
                return False
            (self._bulk if ticket.bulk else self._urgent).append(ticket.client, ticket)
            self._changed.notify()
        return True

    def release(self, tickets: Sequence[Ticket]) -> None:
        """Gives back the places of tickets that were not put in."""
        with self._changed:
            self._leave(tickets)
            if self._closing:
                self._changed.notify()

    def take(self) -> list[Ticket] | None:
        """Waits for tickets and takes a batch, perhaps an empty one; None once closed and empty.

        Whoever takes says by taking again that the last batch is done.
        """
        with self._changed:
            self._learn()
            while not (self._urgent or self._bulk):
                if self._closing and self.depth == 0:
                    return None
                self._changed.wait()
            if self._delay:
                self._gather()
            batch = self._choose()
            self._leave(batch)
            if len(self._urgent) <= self._max_batch:
                self._crowded = False
            self._taken, self._taken_at = len(batch), time.perf_counter()
        return batch

    def close(self) -> None:
        """Admits nobody any more; what was admitted can still be taken."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def die(self) -> list[Ticket]:
        """Nobody will take any more; returns those who wait."""
        self._dead = True
        self._taken = 0
        return self.flush()

    def flush(self) -> list[Ticket]:
        """Sends away those who wait; returns them."""
        with self._changed:
            waiting = [*self._urgent.clear(), *self._bulk.clear()]
            self._leave(waiting)
        return waiting

    def gone(self) -> Unavailable:
        """Why nobody is admitted."""
        if self._dead or not self._closing:
            return Unavailable("the inference worker of this server died; it has to be restarted")
        return Unavailable("the server is shutting down", retry_after=1.0)

    def _refusal(self, count: int, client: str, deadline: float | None) -> ResourceExhausted | None:
        """Why there is no place for more images of this client, if so."""
        held, waiting = self._held[client], self._open[False]
        left = 2 * self._limit - waiting
        if held + count > self._limit or count > left or (held and held >= left):
            may = min(self._limit, held + left) if held + count > self._limit else max(0, left)
            return ResourceExhausted(
                f"{held or waiting} images wait for the model and {may} may: {count} more do not fit",
                retry_after=max(0.05, self._expected(held or waiting)),
            )
        if deadline is None or not waiting:
            return None
        # In turns: of each other client at most as many as of this one go first.
        ahead = sum(min(others, held + 1) for name, others in self._held.items() if name != client) + held
        expected = self._expected(ahead + count) + (self._expected(self._taken) if self._taken else 0.0)
        remaining = deadline - time.monotonic()
        if ahead and expected > SHARE_OF_DEADLINE * remaining:
            return ResourceExhausted(
                f"{ahead} images go first, which takes about {expected:.2g} s, and the deadline is in "
                f"{max(0.0, remaining):.2g} s",
                retry_after=max(0.05, expected - SHARE_OF_DEADLINE * remaining),
            )
        return None

    def _expected(self, images: int) -> float:
        """Seconds until so many images are done, one full batch after the other.

        What a batch of a size takes that was not seen yet is guessed to be what the nearest smaller one did, else the
        nearest larger one: too little rather than too much, since a line that lets nobody in learns nothing.
        """
        if not self._seconds:
            return 0.0
        full, rest = divmod(images, self._max_batch)
        return full * self._of_size(self._max_batch) + (self._of_size(rest) if rest else 0.0)

    def _of_size(self, size: int) -> float:
        smaller = [known for known in self._seconds if known <= size]
        return self._seconds[max(smaller) if smaller else min(self._seconds)]

    def _learn(self) -> None:
        """What a batch takes, from the one that was taken last. A hiccup weighs no more than a doubling."""
        if self._taken:
            seconds = time.perf_counter() - self._taken_at
            known = self._seconds.get(self._taken, seconds)
            self._seconds[self._taken] = known + _NEWS * (min(seconds, 11 * known) - known)
            self._taken = 0

    def _prune(self) -> bool:
        """Gives up what waits in vain at the heads of the clients' lines; whether there was any."""
        found = False
        for client, ticket in self._urgent.heads():
            if self._gave_up(ticket):
                self._urgent.behead(client)
                self._leave([ticket])
                found = True
        return found

    def _gave_up(self, ticket: Ticket) -> bool:
        reason = ticket.reason_to_drop()
        if reason is not None:
            self._give_up(ticket, dropped(reason), reason)
        elif time.perf_counter() - ticket.ready_at > LONGEST_WAIT and not ticket.bulk:
            error = ResourceExhausted(f"the image waited {LONGEST_WAIT:.0f} s for the model in vain", retry_after=1.0)
            self._give_up(ticket, error, "full")
        else:
            return False
        return True

    def _leave(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._open[ticket.bulk] -= 1
            if not ticket.bulk:
                self._held[ticket.client] -= 1
                if not self._held[ticket.client]:
                    del self._held[ticket.client]

    def _gather(self) -> None:
        """Waits until the batch is full or its first image has waited for the delay."""
        first = min(ticket.ready_at for turns in (self._urgent, self._bulk) for _, ticket in turns.heads())
        while len(self._urgent) + len(self._bulk) < self._max_batch and not self._closing:
            left = first + self._delay - time.perf_counter()
            if left <= 0 or not self._changed.wait(left):
                break

    def _choose(self) -> list[Ticket]:
        batch: list[Ticket] = []

        def fill(turns: Turns[Ticket], size: int, newest: bool) -> None:
            while turns and len(batch) < size:
                ticket = turns.take(newest=newest)
                if self._gave_up(ticket):
                    self._leave([ticket])
                else:
                    batch.append(ticket)

        # One place stays free for indexing, so that it goes on, slowly, under any load of searches.
        room = self._max_batch - 1 if self._bulk and self._max_batch > 1 else self._max_batch
        fill(self._urgent, room, self._crowded)
        fill(self._bulk, self._max_batch, False)
        fill(self._urgent, self._max_batch, self._crowded)
        return batch
