"""`Extractor`: encoded images in, part features out; one bad image fails alone.

Decoding runs in a small pool of threads (OpenCV releases the GIL), never on the event loop: a large image takes
longer than a health check may wait. A decoding thread hands its pixels straight to the batcher. On a single core
there is no pool: nothing could run beside the model, so the model's own thread decodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from glimpse.images import Image, ImageError, ImageLimits, crop, decode_image
from glimpse.parts import PartFeatures
from glimpse.preprocessing import Preprocessing
from server.errors import InvalidArgument, ServerError, forget_traceback
from server.extraction.batcher import Batcher
from server.extraction.ticket import Inferred, Ticket
from server.telemetry import Telemetry

_log = logging.getLogger(__name__)

T = TypeVar("T")

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where the time of an image, or of several at once, went."""

    decode: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    inference: float = 0.0

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


class Extractor:
    """Decodes, preprocesses as the bundle says, and runs the model through the batcher.

    Args:
        workers: threads that decode; 0 leaves it to the model's thread.
        bulk_limit: images of indexing in flight at once, over all callers.
    """

    def __init__(
        self,
        batcher: Batcher,
        preprocessing: Preprocessing,
        telemetry: Telemetry,
        *,
        workers: int,
        bulk_limit: int,
        limits: ImageLimits | None = None,
    ) -> None:
        self._batcher = batcher
        self._preprocessing = preprocessing
        self._telemetry = telemetry
        self._limits = limits or ImageLimits()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode") if workers else None
        self._bulk_slots = asyncio.Semaphore(bulk_limit)

    async def one(
        self,
        data: bytes,
        field: str,
        then: Callable[[Extracted], T],
        *,
        box: Box | None = None,
        deadline: float | None = None,
    ) -> T:
        """Features of one encoded image, or of the box inside it, and what is then made of them.

        Args:
            field: the request field the image came in, for the error.
            then: what to do with the features; it runs off the event loop and may block.
            deadline: on the clock of `time.monotonic`.

        Raises:
            InvalidArgument: the image is refused; the message says why.
            ServerError: queue full, deadline passed, or the model failed.
        """
        (ticket,) = self._batcher.admit(1, deadline=deadline)
        ticket.finish = lambda inferred: then(self._extracted(ticket, inferred))
        self._start(ticket, data, field, box)
        result: T = await self._outcome(ticket)
        return result

    async def many(
        self, images: Sequence[bytes], fields: Sequence[str], *, deadline: float | None = None
    ) -> list[Extracted | ServerError]:
        """Features of several images, admitted to the queue together or not at all; a refused one is its error."""
        tickets = self._batcher.admit(len(images), deadline=deadline)
        for ticket, data, field in zip(tickets, images, fields, strict=True):
            self._start(ticket, data, field, None)
        try:
            return list(await asyncio.gather(*map(self._settled, tickets)))
        except asyncio.CancelledError:
            for ticket in tickets:  # some may not have begun to wait
                self._batcher.cancel(ticket)
            raise

    async def bulk(self, data: bytes, field: str, *, deadline: float | None = None) -> Extracted | ServerError:
        """Features of one image of an indexing job: waits for a place instead of being refused."""
        async with self._bulk_slots:
            try:
                (ticket,) = self._batcher.admit(1, deadline=deadline, bulk=True)
            except ServerError as error:
                return error
            self._start(ticket, data, field, None)
            return await self._settled(ticket)

    def close(self) -> None:
        """Ends the decoding threads, after what they do now."""
        if self._pool is not None:
            self._pool.shutdown()

    async def _settled(self, ticket: Ticket) -> Extracted | ServerError:
        try:
            return self._extracted(ticket, await self._outcome(ticket))
        except ServerError as error:
            forget_traceback(error)
            return error

    async def _outcome(self, ticket: Ticket) -> Any:
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._batcher.cancel(ticket)
            raise

    def _extracted(self, ticket: Ticket, inferred: Inferred) -> Extracted:
        seconds = StageSeconds(ticket.decode, ticket.preprocess, inferred.queue, inferred.inference)
        telemetry = self._telemetry
        telemetry.stage("decode", seconds.decode)
        telemetry.stage("preprocess", seconds.preprocess)
        telemetry.stage("queue", seconds.queue)
        telemetry.stage("inference", seconds.inference)
        return Extracted(inferred.features, seconds)

    def _start(self, ticket: Ticket, data: bytes, field: str, box: Box | None) -> None:
        if self._pool is None:
            self._batcher.entrust(ticket, lambda: self._pixels(ticket, data, field, box))
        else:
            self._pool.submit(self._prepare, ticket, data, field, box)

    def _prepare(self, ticket: Ticket, data: bytes, field: str, box: Box | None) -> None:
        """Runs in the pool; whatever happens, the ticket is handed on or given up."""
        reason = ticket.reason_to_drop()
        if reason is not None:
            self._batcher.drop(ticket, reason)
            return
        try:
            pixels = self._pixels(ticket, data, field, box)
        except ServerError as error:
            self._batcher.refuse(ticket, error)
        except Exception as error:  # the ticket's caller waits for an answer, whatever broke
            _log.error("decoding failed", exc_info=error)
            self._batcher.refuse(ticket, ServerError("the server failed on this image"))
        else:
            self._batcher.submit(ticket, pixels)

    def _pixels(self, ticket: Ticket, data: bytes, field: str, box: Box | None) -> Image:
        started = time.perf_counter()
        try:
            image = decode_image(data, self._limits)
            decoded = time.perf_counter()
            if box is not None:
                image = crop(image, *box)
            pixels = self._preprocessing(image)
        except ImageError as error:
            self._telemetry.image_rejected(error.reason)
            where = "box" if error.reason == "bad_box" else field
            raise InvalidArgument(f"{where}: {error}", field=where) from error
        ticket.decode = decoded - started
        ticket.preprocess = time.perf_counter() - decoded
        return pixels
