"""`Extractor`: encoded images in, part features out; one bad image fails alone.

Decoding runs in a small pool of threads (OpenCV releases the GIL), never on the event loop: a large image takes
longer than a health check may wait. A decoding thread hands its pixels straight to the batcher. On a single core
there is no pool: nothing could run beside the model, so the model's own thread decodes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from glimpse.images import Image, ImageError, ImageLimits, crop, decode_image
from glimpse.preprocessing import Preprocessing
from server.errors import InvalidArgument, ServerError, forget_traceback
from server.extraction.batcher import Batcher
from server.extraction.ticket import Extracted, Ticket
from server.fairness import Slots
from server.telemetry import Telemetry

_log = logging.getLogger(__name__)

Given = TypeVar("Given")
Answer = TypeVar("Answer")

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


class Extractor:
    """Decodes, preprocesses as the bundle says, and runs the model through the batcher.

    Args:
        workers: threads that decode; 0 leaves it to the model's thread.
        bulk_limit: images of indexing in flight at once, over all callers, who take turns.
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
        self._bulk_slots = Slots(bulk_limit)

    async def one(self, data: bytes, field: str, *, box: Box | None = None, deadline: float | None = None) -> Extracted:
        """Features of one encoded image, or of the box inside it.

        Args:
            field: the request field the image came in, for the error.
            deadline: on the clock of `time.monotonic`.

        Raises:
            InvalidArgument: the image is refused; the message says why.
            ServerError: queue full, deadline passed, or the model failed.
        """
        (ticket,) = self._batcher.admit(1, deadline=deadline)
        self._start(ticket, data, field, box)
        found: Extracted = await ticket.future
        return found

    def answer(
        self,
        data: bytes,
        field: str,
        finish: Callable[[Sequence[tuple[Given, Extracted]]], Iterable[Answer | Exception]],
        given: Given,
        *,
        box: Box | None = None,
        deadline: float | None = None,
    ) -> asyncio.Future[Answer]:
        """What ``finish`` makes of ``given`` and the features of one image; see `Finish`. Otherwise like `one`."""
        (ticket,) = self._batcher.admit(1, deadline=deadline)
        ticket.finish, ticket.given = finish, given
        self._start(ticket, data, field, box)
        return ticket.future

    async def many(
        self, images: Sequence[bytes], fields: Sequence[str], *, deadline: float | None = None
    ) -> list[Extracted | ServerError]:
        """Features of several images, admitted to the queue together or not at all; a refused one is its error."""
        tickets = self._batcher.admit(len(images), deadline=deadline)
        for ticket, data, field in zip(tickets, images, fields, strict=True):
            self._start(ticket, data, field, None)
        outcomes = await asyncio.gather(*(ticket.future for ticket in tickets), return_exceptions=True)
        return [_extracted_or_refused(outcome) for outcome in outcomes]

    async def bulk(self, data: bytes, field: str, *, deadline: float | None = None) -> Extracted | ServerError:
        """Features of one image of an indexing job: waits for a place instead of being refused."""
        async with self._bulk_slots.take():
            try:
                (ticket,) = self._batcher.admit(1, deadline=deadline, bulk=True)
                self._start(ticket, data, field, None)
                found: Extracted = await ticket.future
            except ServerError as error:
                forget_traceback(error)
                return error
            return found

    def close(self) -> None:
        """Ends the decoding threads, after what they do now."""
        if self._pool is not None:
            self._pool.shutdown()

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


def _extracted_or_refused(outcome: Any) -> Extracted | ServerError:
    if isinstance(outcome, ServerError):
        forget_traceback(outcome)
        return outcome
    if isinstance(outcome, BaseException):
        raise outcome
    found: Extracted = outcome
    return found
