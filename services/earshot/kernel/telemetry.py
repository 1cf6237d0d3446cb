"""One trace a recording: W3C headers through every topic, spans kept where they can be looked at.

For one event the producer's span is the parent (the waterfall a person wants to see). A batch has one span for each
of its events, each the child of its own producer, so that every recording's trace is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from earshot import __version__
from earshot.kernel.codec import Record
from earshot.kernel.errors import EarshotError
from earshot.kernel.events import Event
from earshot.kernel.ports import SpanRow, Spans

_PROPAGATOR = TraceContextTextMapPropagator()
TENANT, RECORDING, SEGMENT, REVISION = "earshot.tenant", "earshot.recording_id", "earshot.segment", "earshot.revision"


def set_up(service: str, exporter: SpanExporter | None) -> TracerProvider:
    """Make the process's tracer provider. ``None`` exports nothing."""
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": __version__}))
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    trace.set_tracer_provider(provider)
    return provider


def tracer() -> trace.Tracer:
    """The tracer of all our spans."""
    return trace.get_tracer("earshot", __version__)


def trace_headers() -> dict[str, str]:
    """The W3C headers of the current span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def headers_of(span: Span) -> dict[str, str]:
    """The W3C headers of a span that need not be the current one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    return carrier


def context_of(headers: Mapping[str, str]) -> otel_context.Context:
    """The trace context that headers carry; a new one when they carry none that is valid."""
    return _PROPAGATOR.extract(dict(headers), otel_context.Context())


def record_context(record: Record) -> otel_context.Context:
    """The trace context of a record."""
    names = ("traceparent", "tracestate")
    return context_of({name: value for name in names if (value := record.header(name)) is not None})


def attributes_of(event: Event) -> dict[str, str | int]:
    """Whose recording, which attempt, which segment."""
    attributes: dict[str, str | int] = {TENANT: event.tenant, RECORDING: event.recording_id, REVISION: event.revision}
    index = getattr(event, "index", None)
    return attributes if index is None else attributes | {SEGMENT: index}


def start_processing(stage: str, record: Record, event: Event) -> Span:
    """A consumer span for one event of a stage, the child of the span that published it."""
    return tracer().start_span(
        f"process {record.topic}",
        context=record_context(record),
        kind=SpanKind.CONSUMER,
        attributes={"earshot.stage": stage, **attributes_of(event)},
    )


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[Span]:
    """A span around a block; an exception marks it as failed and goes on."""
    with tracer().start_as_current_span(name, attributes=attributes) as current:
        yield current


def fail(current: Span, error: BaseException) -> None:
    """Mark a span as failed: with the message of our own errors, with the class alone of any other's.

    Tenants see their traces, and what a bug says is not written for them.
    """
    name = type(error).__name__
    current.set_status(Status(StatusCode.ERROR, f"{name}: {error}" if isinstance(error, EarshotError) else name))


def trace_id_of(current: Span) -> str:
    """The trace id as 32 hex digits."""
    return trace.format_trace_id(current.get_span_context().trace_id)


class CatalogExporter(SpanExporter):
    """Keeps the spans that belong to a recording in the catalog."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write what has a recording. What this raises, the SDK logs, and goes on without these spans."""
        rows = [row for item in spans if (row := _row(item)) is not None]
        if rows:
            self._spans.write(rows)
        return SpanExportResult.SUCCESS


def _row(item: ReadableSpan) -> SpanRow | None:
    attributes = dict(item.attributes or {})
    recording = attributes.pop(RECORDING, "")
    tenant = attributes.pop(TENANT, "")
    if not recording or item.context is None:
        return None
    return SpanRow(
        trace_id=trace.format_trace_id(item.context.trace_id),
        span_id=trace.format_span_id(item.context.span_id),
        parent_id=trace.format_span_id(item.parent.span_id) if item.parent else None,
        service=str(item.resource.attributes.get("service.name", "")),
        name=item.name,
        start_ns=item.start_time or 0,
        end_ns=item.end_time or 0,
        tenant=str(tenant),
        recording_id=str(recording),
        error=""
        if item.status.is_ok or item.status.status_code is StatusCode.UNSET
        else (item.status.description or "error"),
        attributes=attributes,
    )
