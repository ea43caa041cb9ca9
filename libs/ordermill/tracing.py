"""Traces: one story from the message or request that began it, over every hop, to its end.

A span's place in its trace travels as a W3C `traceparent`: in headers, and beside each event, timer and effect in the
log. Off unless `start_tracing` was called: then nothing of OpenTelemetry is imported, and a trace that comes in is
handed on as it came. Names and attributes follow OpenTelemetry's semantic conventions (messaging, databases, HTTP).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import time_ns
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import SpanContext

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int | float | bool]

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
"""Source: W3C Trace Context, level 1, section 3.2."""
_SAMPLED = 1
EXPORT_TIMEOUT_S = 3.0


class Span:
    """A span while tracing is off: it only hands on the trace that it came with."""

    __slots__ = ("trace",)

    def __init__(self, trace: str | None = None) -> None:
        self.trace = trace
        """The traceparent for what this span causes."""

    @property
    def recording(self) -> bool:
        """Whether anyone will see it: tracing is on and its trace is sampled."""
        return False

    def rename(self, name: str) -> None:
        """Its name is known only now."""

    def end(self, attributes: Attributes | None = None, error: str | None = None) -> None:
        """Send it. `error`: a stable code of what went wrong."""


NO_SPAN = Span()


class _RecordedSpan(Span):
    __slots__ = ("_span",)

    def __init__(self, span: SdkSpan) -> None:
        context = span.get_span_context()
        super().__init__(f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
        self._span = span

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def end(self, attributes: Attributes | None = None, error: str | None = None) -> None:
        if attributes:
            self._span.set_attributes(dict(attributes))
        if error is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


_provider: TracerProvider | None = None
_current: ContextVar[tuple[Span, ...]] = ContextVar("spans", default=())


def endpoint_of(setting: str | None) -> str | None:
    """Where spans go: `setting`, or where OpenTelemetry's own variables say; None keeps tracing off."""
    standard = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return setting or next((found for name in standard if (found := os.environ.get(name))), None)


def start_tracing(service: str, instance: str, version: str, endpoint: str | None, ratio: float) -> None:
    """Send spans of this process by OTLP over HTTP. `endpoint`: the collector's base URL; None leaves it to
    OpenTelemetry's own variables. `ratio`: the share of new traces that is sampled; others do as their parent did.

    After forks: it starts a thread.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    global _provider  # noqa: PLW0603 - a process has one tracer, as it has one logger
    about = {
        "service.namespace": "ordermill",
        "service.name": service,
        "service.instance.id": instance,
        "service.version": version,
    }
    url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    _provider = TracerProvider(ParentBasedTraceIdRatio(ratio), Resource.create(about), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S)))


def stop_tracing() -> None:
    """Send what is left, for a few seconds at most."""
    global _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def tracing() -> bool:
    """Whether spans are made here."""
    return _provider is not None


def start(
    name: str,
    kind: Kind,
    parent: str | None,
    attributes: Attributes | None = None,
    link: str | None = None,
    began_ns: int | None = None,
) -> Span:
    """A span that goes on with `parent`, or begins a trace; `link` names a span of another trace that it belongs to."""
    if _provider is None:
        return Span(parent)
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, set_span_in_context

    before, linked = _context(parent), _context(link)
    context = Context() if before is None else set_span_in_context(NonRecordingSpan(before), Context())
    links = () if linked is None else (Link(linked),)
    tracer = _provider.get_tracer("ordermill")
    return _RecordedSpan(tracer.start_span(name, context, SpanKind[kind.upper()], attributes, links, began_ns))


def _context(traceparent: str | None) -> SpanContext | None:
    found = TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return None
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(found[1], 16), int(found[2], 16), True, TraceFlags(int(found[3], 16)))


def sampled(traceparent: str | None) -> bool:
    """Whether anyone records this trace, so that a span of it is worth making."""
    return traceparent is not None and bool(int(traceparent[-2:], 16) & _SAMPLED)


@contextmanager
def within(spans: Sequence[Span]) -> Iterator[None]:
    """What happens inside is a part of each of these: a batch works for many traces at once."""
    token = _current.set(tuple(spans))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> str | None:
    """The traceparent of the one span that work goes on in, for a call to somewhere else; None in a batch of many."""
    spans = _current.get()
    return spans[0].trace if len(spans) == 1 else None


@contextmanager
def step(name: str, kind: Kind, attributes: Attributes) -> Iterator[None]:
    """A part of every span that work goes on in; it costs nothing while nobody records."""
    spans = [span for span in _current.get() if span.recording] if _provider is not None else ()
    if not spans:
        yield
        return
    began = time_ns()
    error: str | None = None
    try:
        yield
    except BaseException as raised:
        error = getattr(raised, "code", type(raised).__name__)
        raise
    finally:
        for span in spans:
            start(name, kind, span.trace, attributes, began_ns=began).end(error=error)
