"""OpenTelemetry traces: a span a call, and below it one for each stage of each of its images. Off unless asked for.

The stages of an image are timed anyway; their spans are made afterwards from those times. A caller's trace goes on:
its W3C ``traceparent`` is taken from the call's metadata. Spans never hold an id, an image or a vector.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from server.settings import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

TRACEPARENT = "traceparent"
_NANOSECONDS = 1_000_000_000


class Trace:
    """The span of one call. Its stages may be told from any thread, also after the call has ended."""

    __slots__ = ("_context", "_span", "_tracer")

    def __init__(self, tracer: Any, span: Any, context: Any) -> None:
        self._tracer = tracer
        self._span = span
        self._context = context

    def stage(self, name: str, started: float, seconds: float) -> None:
        """A stage that began at ``started``, on the clock of `time.perf_counter`, and took so long."""
        begin = time.time_ns() - int((time.perf_counter() - started) * _NANOSECONDS)
        span = self._tracer.start_span(name, context=self._context, start_time=begin)
        span.end(end_time=begin + int(seconds * _NANOSECONDS))

    def end(self, code: str) -> None:
        """The call has ended with this gRPC status."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("rpc.response.status_code", code)
        if code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS"):
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """The trace of the call being answered; None when there are no traces, or outside of calls."""
    return _current.get()


class Tracing:
    """Makes the spans of calls and sends them away in the background.

    Args:
        endpoint: of an OTLP collector, ``HOST:PORT`` or a URL.
        share: of the calls that begin a trace here, this much is traced; a caller's own decision is followed.
        version: of the server.
        exporter: in place of the one for OTLP, called at once: for tests.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str, share: float, version: str, *, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigurationError(
                f"otlp_endpoint needs OpenTelemetry, which is not installed ({error.name}): pip install '.[otel]'"
            ) from error
        resource = Resource.create({"service.name": "glimpse", "service.version": version})
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
        if exporter is None:
            insecure = not endpoint.startswith("https://")
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=insecure)))
        else:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("glimpse")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Trace:
        """The trace of a call, which becomes the current one.

        Args:
            method: ``SearchService/Search``.
            metadata: of the call.
        """
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = self._propagator.extract({key: str(value) for key, value in metadata if key == TRACEPARENT})
        service, _, name = method.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = self._tracer.start_span(method, context=parent, kind=SpanKind.SERVER, attributes=attributes)
        trace = Trace(self._tracer, span, set_span_in_context(span, parent))
        _current.set(trace)
        return trace

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()
