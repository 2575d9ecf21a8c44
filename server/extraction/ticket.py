"""`Ticket`: one image on its way through the model; `Extracted`: what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from server.errors import Cancelled, DeadlineExceeded, ServerError
from server.tracing import Trace, current


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where the time of an image, or of several at once, went."""

    decode: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    """From having pixels to entering the model."""
    inference: float = 0.0
    """In the model, of the whole batch."""

    @classmethod
    def longest(cls, stages: Sequence[StageSeconds]) -> StageSeconds:
        """Of images that went together: each stage's longest, which is what the caller waited for."""
        return cls(
            max((each.decode for each in stages), default=0.0),
            max((each.preprocess for each in stages), default=0.0),
            max((each.queue for each in stages), default=0.0),
            max((each.inference for each in stages), default=0.0),
        )


@dataclass(frozen=True, slots=True)
class Extracted:
    """The features of one image, one row, and what they cost."""

    features: PartFeatures
    seconds: StageSeconds


Finish = Callable[[Sequence[tuple[Any, Extracted]]], Iterable[Any]]
"""Makes an answer of each of several images, in order: of what its caller gave along, and its features. An answer that
is an exception is raised to the caller. Runs off the event loop and may block."""


class Ticket:
    """One admitted image. Its `future` gets an `Extracted`, or what `finish` makes of it, or the error it met."""

    __slots__ = (
        "bulk",
        "client",
        "deadline",
        "decode",
        "finish",
        "future",
        "given",
        "pixels",
        "prepare",
        "preprocess",
        "ready_at",
        "trace",
    )

    def __init__(self, future: asyncio.Future[Any], deadline: float | None, bulk: bool, client: str = "") -> None:
        self.future = future
        self.client = client
        """Whose image it is, as `server.fairness` names clients."""
        self.deadline = deadline
        self.bulk = bulk
        self.trace: Trace | None = current()
        self.pixels: NDArray[np.uint8] | None = None
        self.prepare: Callable[[], NDArray[np.uint8]] | None = None
        """Makes the pixels, where the model's thread is to do so."""
        self.finish: Finish | None = None
        """What is to be done with the features before anybody on the event loop is woken; images of one batch with
        the same `finish` are finished together."""
        self.given: Any = None
        """What `finish` is told of this image beside its features."""
        self.ready_at = 0.0
        self.decode = 0.0
        self.preprocess = 0.0

    @property
    def cancelled(self) -> bool:
        """The caller has gone: whoever awaits the future cancels it on leaving. May be asked from any thread."""
        return self.future.cancelled()

    def reason_to_drop(self) -> str | None:
        """``cancelled`` or ``deadline`` once nobody waits for the answer any more."""
        if self.future.cancelled():
            return "cancelled"
        return "deadline" if self.deadline is not None and time.monotonic() >= self.deadline else None

    def extracted(self, features: PartFeatures, started: float, inference: float) -> Extracted:
        """The outcome of a run that began at ``started`` on the clock of `time.perf_counter`."""
        # Of the time since then its own decoding in the model's thread was not spent waiting.
        own = self.decode + self.preprocess if self.prepare is not None else 0.0
        queue = max(0.0, started - self.ready_at - own)
        if self.trace is not None:
            decoding = (started if self.prepare is not None else self.ready_at) - self.decode - self.preprocess
            self.trace.stage("decode", decoding, self.decode)
            self.trace.stage("preprocess", decoding + self.decode, self.preprocess)
            self.trace.stage("queue", self.ready_at, queue)
            self.trace.stage("inference", started, inference)
        return Extracted(features, StageSeconds(self.decode, self.preprocess, queue, inference))

    def settle(self, outcome: Any) -> None:
        """Hands the outcome to whoever still waits. On the event loop only."""
        # They refer to the request and to the ticket itself: a circle that only the garbage collector would find.
        self.pixels = self.prepare = self.finish = self.given = None
        if isinstance(outcome, BaseException):
            self.fail(outcome)
        elif not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        """Tells whoever still waits, and leaves the ticket to the thread that has it. On the event loop only."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # a caller who has gone does not fetch it, which asyncio would log as an error


def dropped(reason: str) -> ServerError:
    """The error of a ticket that was dropped for `Ticket.reason_to_drop`."""
    if reason == "deadline":
        return DeadlineExceeded("the deadline passed before the image reached the model")
    return Cancelled("the caller went away before the image reached the model")
