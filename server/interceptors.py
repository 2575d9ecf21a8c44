"""What every call has in common: who calls, limits, errors, metrics, one log line, the audit trail, draining.

`Methods` is the server's only handler: it finds the method and wraps it once, at registration. A chain of
`grpc.aio.ServerInterceptor` would do the same through several coroutines a call.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing
from contextvars import ContextVar
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from grpc import StatusCode

from server.errors import (
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    Unavailable,
    forget_traceback,
)
from server.fairness import Clients, client_of
from server.logs import FIELDS
from server.memory import Trimmer
from server.parsing import Refused, rebuilt
from server.quotas import STORING, Quotas
from server.security import audit, caller
from server.security.guard import Guard
from server.security.recorder import Recorder
from server.security.roles import ACCESS, OPEN, Access
from server.statuses import DETAILS_KEY, status_of
from server.streams import Streams, unless_gone
from server.telemetry import Telemetry
from server.tracing import Tracing

MAX_METADATA_KEYS = 64
BOOK_SECONDS = 0.05
"""After the end of a call until its line is logged: book-keeping is done for many calls at once and never while a
caller waits."""
PACKAGE = "/glimpse.v1."

_log = logging.getLogger("glimpse.calls")


class Context(Protocol):
    """What services and guards use of a `grpc.aio.ServicerContext`."""

    async def abort(self, code: StatusCode, details: str = "", trailing_metadata: Any = ()) -> Any: ...

    async def read(self) -> Any: ...

    async def write(self, message: Any) -> None: ...

    def time_remaining(self) -> float | None: ...

    def code(self) -> Any: ...

    def peer(self) -> str: ...

    def invocation_metadata(self) -> Any: ...

    def auth_context(self) -> Mapping[str, Any]: ...


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


class Methods(grpc.GenericRpcHandler):
    """The table of methods. Services register themselves with the generated ``add_..._to_server(service, methods)``.

    Methods of `PACKAGE` answer UNAVAILABLE until `open` is called; health and reflection always answer.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        guard: Guard,
        recorder: Recorder,
        clients: Clients | None = None,
        streams: Streams | None = None,
        quotas: Quotas | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._clients = clients or Clients()
        self._streams = streams or Streams()
        self._quotas = quotas
        self._telemetry = telemetry
        self._guard = guard
        self._recorder = recorder
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._trimmer = Trimmer()
        self._ready = False
        self._inflight = 0
        self._lines: list[tuple[float, dict[str, Any]]] = []
        self._settling = False
        telemetry.watch_inflight(lambda: self._inflight)

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
        if handler is None:
            return self._refusal("unknown", _Unimplemented(details.method))
        # Nobody without credentials makes the server parse what they send.
        refusal = self._guard.refusal(ACCESS.get(details.method), details.invocation_metadata)
        return handler if refusal is None else self._refusal(details.method, refusal)

    def open(self) -> None:
        """Everything is loaded: begin to answer."""
        self._ready = True

    def drain(self) -> None:
        """Ends streams after what they have accepted so far; unary calls go on."""
        self._streams.drain()

    async def _accepted(self, access: Access, context: Context, stores: bool) -> AsyncIterator[Message | Refused]:
        """The requests of a stream until its end or until the server drains; each is its caller's to make."""
        async for request in self._streams.requests(context):
            if stores and self._quotas is not None:
                self._quotas.check()
            yield request if isinstance(request, Refused) else self._permitted(access, request)

    def _permitted(self, access: Access, request: Message) -> Message | Refused:
        """A request of a stream, or why the caller may not make it."""
        if access.role is None:
            return request
        asking = caller.current()
        self._guard.recheck(asking)
        entry = audit.pending()
        if entry is not None and not access.people:  # others have an entry a request
            entry.asked(request)
        try:
            self._guard.check(access, asking, request, later=True)
        except PermissionDenied as error:
            return Refused(error)
        return request

    def _wrapped(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        ours = method.startswith(PACKAGE)
        access = ACCESS.get(method)
        stores = method in STORING
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        # Health's Watch is a coroutine that writes by itself and never ends.
        endless = handler.response_streaming and not inspect.isasyncgenfunction(behaviour)

        def checked(request: Any, context: Context) -> Any:
            if ours and not self._ready:
                raise Unavailable("the server is starting", retry_after=1.0)
            assert access is not None  # or the guard has refused the call
            if handler.request_streaming:
                requests = self._accepted(access, context, stores)
                return requests if ours else _unrefused(requests)
            if isinstance(request, Refused):
                raise request.error
            if stores and self._quotas is not None:
                self._quotas.check()
            entry = audit.pending()
            if entry is not None:
                entry.asked(request)
            self._guard.check(access, caller.current(), request)
            return request

        async def stream(request: Any, context: Context) -> None:
            if endless:
                await self._until_drained(behaviour(checked(request, context), context))
                return
            assert access is not None
            pages = None if handler.request_streaming else audit.pending()
            async with aclosing(behaviour(checked(request, context), context)) as responses:
                async for response in responses:
                    if pages is not None:
                        self._recorder.add(pages.page(response, access.people))
                        self._guard.recheck(caller.current())
                    if self._recorder.strict:
                        await self._recorder.durable()
                    await self._streams.send(context.write(response))

        async def single(request: Any, context: Context) -> Any:
            response = await behaviour(checked(request, context), context)
            entry = audit.pending()
            if entry is not None and access is not None and access.people:
                entry.told(response, access.people)
            return response

        answer = stream if handler.response_streaming else single
        guarded = self._guarded(method, answer, access, stream=handler.request_streaming)
        return rebuilt(method, handler, guarded, self._trimmer)

    async def _until_drained(self, endless: Awaitable[None]) -> None:
        task = asyncio.ensure_future(endless)
        drained = asyncio.ensure_future(self._streams.drained())
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

        return grpc.stream_stream_rpc_method_handler(self._guarded(method, refuse, OPEN))

    def _guarded(
        self,
        method: str,
        answer: Callable[[Any, Context], Awaitable[Any]],
        access: Access | None,
        *,
        stream: bool = False,
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        """Wraps the answer in the caller's identity, errors, metrics, the log line and the audit trail."""
        telemetry, guard, recorder = self._telemetry, self._guard, self._recorder
        name = method.removeprefix(PACKAGE)
        ours = method.startswith(PACKAGE)
        audited = recorder.on and access is not None and access.audit

        async def guarded(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            notes: dict[str, Any] = {}
            _notes.set(notes)
            self._inflight += 1
            held = ExitStack()
            trace = None
            if ours and self._tracing is not None:
                trace = self._tracing.begin(name, context.invocation_metadata())
            code = StatusCode.OK
            peer = context.peer()
            entry: audit.Entry | None = None
            try:
                asking = guard.identify(access, context)
                caller.answer_to(asking)
                if asking is not caller.ANYONE:
                    notes["caller"] = asking.name
                if audited:
                    entry = audit.Entry(name, asking.name, peer, record=recorder.add)
                audit.begin(entry)
                guard.allow(access, asking)
                if ours:
                    client = client_of(peer, "" if asking is caller.ANYONE else asking.name)
                    held.enter_context(self._clients.call(client, stream=stream))
                answered = await answer(request, context)
                if audited and recorder.strict and entry is not None:
                    recorder.add(entry)
                    entry = None
                    await recorder.durable()
                return answered
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
                held.close()
                if trace is not None:
                    trace.end(code.name)
                seconds = time.perf_counter() - started
                telemetry.request(name, code.name, seconds)
                if entry is None and recorder.on and code in (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED):
                    entry = audit.Entry(name, notes.get("caller", "unknown"), peer)
                if entry is not None:
                    entry.code = code.name
                    recorder.add(entry)
                if _log.isEnabledFor(logging.INFO):
                    fields = {"method": name, "code": code.name, "ms": round(seconds * 1e3, 3), "peer": peer}
                    self._lines.append((time.time(), {**fields, **notes}))
                self._settle_soon()
            # gRPC keeps what `abort` raises, and with it this frame, until the garbage collector runs.
            del request
            details = ((DETAILS_KEY, status.SerializeToString()),) if status.details else ()
            await unless_gone(context.abort(code, status.message, details))

        return guarded

    def _settle_soon(self) -> None:
        """Also where nothing is logged: the metrics' notes would pile up until somebody scrapes them."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_later(BOOK_SECONDS, self.settle)

    def settle(self) -> None:
        """Writes the log lines and books the metrics of the calls that have ended."""
        self._settling = False
        self._telemetry.settle()
        lines, self._lines = self._lines, []
        for moment, fields in together(lines):
            record = _log.makeRecord(_log.name, logging.INFO, "", 0, "call", (), None, extra={FIELDS: fields})
            record.created = moment
            _log.handle(record)


def together(lines: list[tuple[float, dict[str, Any]]]) -> list[tuple[float, dict[str, Any]]]:
    """What one caller was refused for want of room in one moment is one line that counts it: a flood must not fill the
    disk with lines, nor take the time to write them."""
    found: list[tuple[float, dict[str, Any]]] = []
    refused: dict[tuple[str, str], dict[str, Any]] = {}
    for moment, fields in lines:
        if fields["code"] == StatusCode.RESOURCE_EXHAUSTED.name:
            key = fields["method"], client_of(fields["peer"], fields.get("caller", ""))
            if key in refused:
                refused[key]["calls"] = refused[key].get("calls", 1) + 1
                continue
            refused[key] = fields
        found.append((moment, fields))
    return found


class _Unimplemented(ServerError):
    code = StatusCode.UNIMPLEMENTED

    def __init__(self, method: str) -> None:
        super().__init__(f"there is no method {method[:200]!r}")


async def _unrefused(requests: AsyncIterator[Message | Refused]) -> AsyncIterator[Message]:
    """For services that do not know `Refused`: the stream ends at it."""
    async for request in requests:
        if isinstance(request, Refused):
            raise request.error
        yield request
