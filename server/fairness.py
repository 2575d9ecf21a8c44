"""Clients beside each other: who is calling, how much one of them may hold, and whose turn it is.

A client is the token that a call came with, else the address it came from without its port: a client that opens a
hundred connections is still one. What is bounded (calls, streams, places in front of the model, threads) is shared by
one rule: a client may hold as much as is left. One client alone can have half, of n clients each a (n+1)th, and the
next one always finds room (Choudhury and Hahne's dynamic thresholds, 1998). What waits is served in turns, a piece a
client, so that waiting in long lines gains nobody anything.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from server.errors import ResourceExhausted

MAX_CALLS = 1024
"""Calls being answered at once, health and reflection not counted: what waits for a thread must be bounded too."""
MAX_STREAMS = 256
"""Of these, streams: they may stay open while nothing happens on them."""
RETRY_SECONDS = 0.5

Work = TypeVar("Work")

_client: ContextVar[str] = ContextVar("client", default="")


def current_client() -> str:
    """Who makes the call being answered; empty outside of calls."""
    return _client.get()


def client_of(peer: str, name: str = "") -> str:
    """The name under which a caller is counted.

    Args:
        peer: as gRPC tells it: ``ipv4:10.0.0.7:51234``, ``ipv6:[::1]:51234`` (percent-encoded), ``unix:...``.
        name: of the caller, if the server knows callers: ``token:...``, ``certificate:...``.
    """
    if name:
        return name
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


class Clients:
    """Counts what each client holds of the server's calls and streams. Used on the event loop only."""

    def __init__(self, calls: int = MAX_CALLS, streams: int = MAX_STREAMS) -> None:
        self._limits = {"calls": calls, "streams": streams}
        self._held: dict[str, Counter[str]] = {"calls": Counter(), "streams": Counter()}
        self._totals = {"calls": 0, "streams": 0}

    @property
    def active(self) -> int:
        """Clients with a call being answered."""
        return len(self._held["calls"])

    @contextmanager
    def call(self, client: str, *, stream: bool) -> Iterator[None]:
        """A call of this client for as long as the block runs.

        Raises:
            ResourceExhausted: the server's calls or streams are all taken, or the client's share of them is.
        """
        kinds = ("calls", "streams") if stream else ("calls",)
        for kind in kinds:
            self._check(kind, client)
        for kind in kinds:
            self._held[kind][client] += 1
            self._totals[kind] += 1
        token = _client.set(client)
        try:
            yield
        finally:
            _client.reset(token)
            for kind in kinds:
                self._totals[kind] -= 1
                self._held[kind][client] -= 1
                if not self._held[kind][client]:
                    del self._held[kind][client]

    def _check(self, kind: str, client: str) -> None:
        limit, total = self._limits[kind], self._totals[kind]
        if total >= limit:
            doing = "calls are being answered" if kind == "calls" else "streams are open"
            raise ResourceExhausted(f"{limit} {doing}, which is the limit", retry_after=RETRY_SECONDS)
        held = self._held[kind].get(client, 0)
        if held and held >= limit - total:
            raise ResourceExhausted(
                f"this client has {held} of the server's {limit} {kind} and {limit - total} are left for others; "
                "end some before the next",
                retry_after=RETRY_SECONDS,
            )


class Turns(Generic[Work]):
    """Work that waits, taken in turns: one piece of each client that has some. Not locked: its owner does that."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Work]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, client: str, work: Work) -> None:
        """Lines up behind what the client has waiting."""
        line = self._waiting.get(client)
        if line is None:
            line = self._waiting[client] = deque()
        line.append(work)
        self._count += 1

    def take(self, *, newest: bool = False) -> Work:
        """The oldest work, or the newest, of the client whose turn it is. IndexError when there is none."""
        if not self._count:
            raise IndexError("nobody waits")
        client, line = next(iter(self._waiting.items()))
        work = line.pop() if newest else line.popleft()
        self._count -= 1
        if line:
            self._waiting.move_to_end(client)
        else:
            del self._waiting[client]
        return work

    def heads(self) -> list[tuple[str, Work]]:
        """Each client with its oldest work."""
        return [(client, line[0]) for client, line in self._waiting.items()]

    def behead(self, client: str) -> None:
        """Takes away the client's oldest work."""
        line = self._waiting[client]
        line.popleft()
        self._count -= 1
        if not line:
            del self._waiting[client]

    def clear(self) -> list[Work]:
        """Everything, which nobody will take from here any more."""
        everything = [work for line in self._waiting.values() for work in line]
        self._waiting.clear()
        self._count = 0
        return everything


class Slots:
    """A semaphore whose waiters are served in turns between clients. On one event loop only."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: Turns[asyncio.Future[None]] = Turns()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Holds one of the slots for the block."""
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    async def _acquire(self) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(current_client(), turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn just when the caller went away
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.take()
            if not turn.done():  # cancelled ones are skipped
                turn.set_result(None)
                return
        self._free += 1
