"""What every call has in common: limits, errors, metrics, one log line, draining.

`Methods` is the server's only handler: it finds the method and wraps it once, at registration. A chain of
`grpc.aio.ServerInterceptor` would do the same through several coroutines a call.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from server.errors import InvalidArgument, ResourceExhausted, ServerError, Unavailable, forget_traceback
from server.fields import MAX_FIELDS, has_too_many_fields
from server.logs import FIELDS
from server.memory import LARGE, Trimmer
from server.telemetry import Telemetry

MAX_METADATA_KEYS = 64
MAX_CALLS = 1024
"""Calls being answered at once, health and reflection not counted: what waits for a thread must be bounded too."""
MESSAGE_LIMIT = 4 << 20
"""Bytes of one request, except for those of `LARGER`."""
BOOK_SECONDS = 0.05
"""After the end of a call until its line is logged: book-keeping is done for many calls at once and never while a
caller waits."""
PACKAGE = "/glimpse.v1."
LARGER = {"/glimpse.v1.GalleryService/Upsert": 32 << 20}
INTERNAL = "the server failed on this request; its log says why"
DETAILS_KEY = "grpc-status-details-bin"
_MAX_MESSAGE = 1500

_log = logging.getLogger("glimpse.calls")


class Context(Protocol):
    """What services and guards use of a `grpc.aio.ServicerContext`."""

    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: Any = ()) -> Any: ...

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...

    def time_remaining(self) -> float | None: ...

    def code(self) -> Any: ...

    def peer(self) -> str: ...


_notes: ContextVar[dict[str, Any]] = ContextVar("notes")


def note(**fields: Any) -> None:
    """Adds fields to the log line of the call being answered."""
    notes = _notes.get(None)
    if notes is not None:
        notes.update(fields)


def deadline_of(context: Context) -> float | None:
    """The caller's deadline on the clock of `time.monotonic`, or None."""
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def status_of(error: BaseException) -> status_pb2.Status:
    """The `google.rpc.Status` of an error, with BadRequest or RetryInfo where the error says so.

    Anything but a `ServerError` is a bug of ours and tells the caller nothing.
    """
    if not isinstance(error, ServerError):
        return status_pb2.Status(code=StatusCode.INTERNAL.value[0], message=INTERNAL)
    message = _shortened(error.message)
    status = status_pb2.Status(code=error.code.value[0], message=message)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field[:256], description=message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(retry)
    return status


class Refused:
    """Stands for a request that was not parsed; raising inside gRPC would answer UNKNOWN with a Python type."""

    def __init__(self, error: ServerError) -> None:
        self.error = error


class Methods(grpc.GenericRpcHandler):
    """The table of methods. Services register themselves with the generated ``add_..._to_server(service, methods)``.

    Methods of `PACKAGE` answer UNAVAILABLE until `open` is called; health and reflection always answer.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._trimmer = Trimmer()
        self._ready = False
        self._inflight = 0
        self._ours = 0
        self._lines: list[tuple[float, dict[str, Any]]] = []
        telemetry.watch_inflight(lambda: self._inflight)
        self._draining = asyncio.Event()
        self._drained: asyncio.Task[bool] | None = None

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Called by generated code."""
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            self._handlers[method] = self._wrapped(method, handler)

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Called by generated code with the same handlers once more, which are not needed twice."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a call, looked up by gRPC."""
        count = len(details.invocation_metadata)
        if count > MAX_METADATA_KEYS:
            return self._refusal(
                details.method if details.method in self._handlers else "unknown",
                ResourceExhausted(f"the call has {count} metadata keys; at most {MAX_METADATA_KEYS} are accepted"),
            )
        handler = self._handlers.get(details.method)
        return self._refusal("unknown", _Unimplemented(details.method)) if handler is None else handler

    def open(self) -> None:
        """Everything is loaded: begin to answer."""
        self._ready = True

    def drain(self) -> None:
        """Ends streams after what they have accepted so far; unary calls go on."""
        self._draining.set()

    async def _accepted(self, context: Context) -> AsyncIterator[Message | Refused]:
        """The requests of a stream until its end or until the server drains.

        Not by gRPC's iterator: that one keeps the last request of a stream that breaks off.
        """
        if self._drained is None:
            self._drained = asyncio.create_task(self._draining.wait())
        while True:
            read = asyncio.ensure_future(context.read())
            try:
                await asyncio.wait({read, self._drained}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not read.done():
                    read.cancel()
            if not read.done():
                raise Unavailable("the server is shutting down; send the rest to another one", retry_after=1.0)
            request = read.result()
            if request is grpc.aio.EOF:
                return
            yield request

    def _wrapped(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        ours = method.startswith(PACKAGE)
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        # Health's Watch is a coroutine that writes by itself and never ends.
        endless = handler.response_streaming and not inspect.isasyncgenfunction(behaviour)

        def checked(request: Any, context: Context) -> Any:
            if ours and not self._ready:
                raise Unavailable("the server is starting", retry_after=1.0)
            if ours and self._ours > MAX_CALLS:
                raise ResourceExhausted(f"{MAX_CALLS} calls are being answered, which is the limit", retry_after=0.5)
            if handler.request_streaming:
                requests = self._accepted(context)
                return requests if ours else _unrefused(requests)
            if isinstance(request, Refused):
                raise request.error
            return request

        if handler.response_streaming:

            async def answer(request: Any, context: Context) -> Any:
                if endless:
                    await self._until_drained(behaviour(checked(request, context), context))
                    return
                async with aclosing(behaviour(checked(request, context), context)) as responses:
                    async for response in responses:
                        await _unless_gone(context.write(response))
        else:

            def answer(request: Any, context: Context) -> Coroutine[Any, Any, Any]:
                answering: Coroutine[Any, Any, Any] = behaviour(checked(request, context), context)
                return answering

        return _rebuilt(handler, self._guarded(method, answer), LARGER.get(method, MESSAGE_LIMIT), self._trimmer)

    async def _until_drained(self, endless: Awaitable[None]) -> None:
        task = asyncio.ensure_future(endless)
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({task, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                # Time for a watcher to hear the last change of health.
                await asyncio.wait({task}, timeout=0.1)
            if task.done():
                task.result()
        finally:
            drained.cancel()
            task.cancel()

    def _refusal(self, method: str, error: ServerError) -> grpc.RpcMethodHandler[Any, Any]:
        async def refuse(request: Any, context: Context) -> None:
            raise error

        return grpc.stream_stream_rpc_method_handler(self._guarded(method, refuse))

    def _guarded(self, method: str, answer: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        """Wraps the answer in errors, metrics and the log line."""
        telemetry = self._telemetry
        name = method.removeprefix(PACKAGE)
        ours = method.startswith(PACKAGE)

        async def guarded(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            notes: dict[str, Any] = {}
            _notes.set(notes)
            self._inflight += 1
            self._ours += ours
            code = StatusCode.OK
            try:
                return await answer(request, context)
            except asyncio.CancelledError:
                code = StatusCode.DEADLINE_EXCEEDED if context.time_remaining() == 0 else StatusCode.CANCELLED
                raise
            except grpc.aio.AbortError:
                code = context.code()
                raise
            except Exception as error:  # the boundary: whatever was raised becomes a status
                status = status_of(error)
                code = error.code if isinstance(error, ServerError) else StatusCode.INTERNAL
                if isinstance(error, ServerError):
                    notes["error"] = status.message
                else:
                    _log.error("unexpected error in %s", name, exc_info=error)
                forget_traceback(error)
            finally:
                self._inflight -= 1
                self._ours -= ours
                seconds = time.perf_counter() - started
                telemetry.request(name, code.name, seconds)
                if _log.isEnabledFor(logging.INFO):
                    fields = {"method": name, "code": code.name, "ms": round(seconds * 1e3, 3), "peer": context.peer()}
                    self._note_down({**fields, **notes})
            # gRPC keeps what `abort` raises, and with it this frame, until the garbage collector runs.
            del request
            details = ((DETAILS_KEY, status.SerializeToString()),) if status.details else ()
            await _unless_gone(context.abort(code, status.message, details))

        return guarded

    def _note_down(self, fields: dict[str, Any]) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(BOOK_SECONDS, self.settle)
        self._lines.append((time.time(), fields))

    def settle(self) -> None:
        """Writes the log lines and books the metrics of the calls that have ended."""
        self._telemetry.settle()
        lines, self._lines = self._lines, []
        for moment, fields in lines:
            record = _log.makeRecord(_log.name, logging.INFO, "", 0, "call", (), None, extra={FIELDS: fields})
            record.created = moment
            _log.handle(record)


class _Unimplemented(ServerError):
    code = StatusCode.UNIMPLEMENTED

    def __init__(self, method: str) -> None:
        super().__init__(f"there is no method {method[:200]!r}")


async def _unless_gone(sending: Awaitable[None]) -> None:
    """A caller who leaves, or whose deadline passes, while the answer is being written is no bug of ours."""
    try:
        await sending
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


async def _unrefused(requests: AsyncIterator[Message | Refused]) -> AsyncIterator[Message]:
    """For services that do not know `Refused`: the stream ends at it."""
    async for request in requests:
        if isinstance(request, Refused):
            raise request.error
        yield request


def _tolerant(deserializer: Callable[[bytes], Any], limit: int, trimmer: Trimmer) -> Callable[[bytes], Any]:
    """Parses requests of at most ``limit`` bytes; any other becomes `Refused`, before it takes more memory."""
    owner = getattr(deserializer, "__self__", None)
    kind = getattr(owner, "DESCRIPTOR", None)
    name = kind.full_name if kind is not None else "protobuf"

    def deserialize(data: bytes) -> Any:
        if len(data) > LARGE:
            trimmer.large_request()
        if len(data) > limit:
            return Refused(
                ResourceExhausted(f"the message has {len(data):,} bytes; at most {limit:,} bytes are accepted here")
            )
        # Below an eighth of the limit not even the worst message takes much memory.
        if kind is not None and len(data) > limit // 8 and has_too_many_fields(data, kind):
            return Refused(ResourceExhausted(f"the message has more than {MAX_FIELDS:,} fields; send less at once"))
        try:
            return deserializer(data)
        except DecodeError:
            return Refused(InvalidArgument(f"the request is not a well-formed {name} message"))

    return deserialize


def _rebuilt(
    handler: grpc.RpcMethodHandler[Any, Any], behaviour: Any, limit: int, trimmer: Trimmer
) -> grpc.RpcMethodHandler[Any, Any]:
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    deserializer = handler.request_deserializer
    result: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=None if deserializer is None else _tolerant(deserializer, limit, trimmer),
        response_serializer=handler.response_serializer,
    )
    return result


def _shortened(message: str) -> str:
    """At most what fits into HTTP/2 trailers, where a character beyond ASCII takes up to twelve bytes; what a caller
    sent and a terminal would obey becomes a question mark."""
    limit = _MAX_MESSAGE if message.isascii() else _MAX_MESSAGE // 10
    cut = message if len(message) <= limit else f"{message[: limit - 3]}..."
    return cut if cut.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in cut)
