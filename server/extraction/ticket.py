"""`Ticket`: one image on its way through the model; `Inferred`: what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from server.errors import Cancelled, DeadlineExceeded, ServerError


@dataclass(frozen=True, slots=True)
class Inferred:
    """What the model said about one image."""

    features: PartFeatures
    """One row."""
    queue: float
    """Seconds from having pixels to entering the model."""
    inference: float
    """Seconds in the model, of the whole batch."""


class Ticket:
    """One admitted image. Its `future` gets an `Inferred`, or what `finish` makes of it, or the error it met."""

    __slots__ = (
        "bulk",
        "cancelled",
        "deadline",
        "decode",
        "finish",
        "future",
        "pixels",
        "prepare",
        "preprocess",
        "ready_at",
    )

    def __init__(self, future: asyncio.Future[Any], deadline: float | None, bulk: bool) -> None:
        self.future = future
        self.deadline = deadline
        self.bulk = bulk
        self.cancelled = False
        self.pixels: NDArray[np.uint8] | None = None
        self.prepare: Callable[[], NDArray[np.uint8]] | None = None
        """Makes the pixels, where the model's thread is to do so."""
        self.finish: Callable[[Inferred], Any] | None = None
        """What is to be done with the features before anybody on the event loop is woken; may block."""
        self.ready_at = 0.0
        self.decode = 0.0
        self.preprocess = 0.0

    def reason_to_drop(self) -> str | None:
        """``cancelled`` or ``deadline`` once nobody waits for the answer any more."""
        if self.cancelled:
            return "cancelled"
        return "deadline" if self.deadline is not None and time.monotonic() >= self.deadline else None


def dropped(reason: str) -> ServerError:
    """The error of a ticket that was dropped for `Ticket.reason_to_drop`."""
    if reason == "deadline":
        return DeadlineExceeded("the deadline passed before the image reached the model")
    return Cancelled("the caller went away before the image reached the model")
