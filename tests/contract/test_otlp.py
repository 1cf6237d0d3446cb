"""Spans reach an OTLP collector when an endpoint is set."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings
from earshot.kernel.telemetry import CatalogExporter


@pytest.fixture
def collector() -> Iterator[tuple[str, Queue[tuple[str, bytes]]]]:
    """A collector's endpoint and what it was sent."""
    sent: Queue[tuple[str, bytes]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_are_exported_where_the_endpoint_says(
    collector: tuple[str, Queue[tuple[str, bytes]]], tmp_path: Path
) -> None:
    endpoint, sent = collector
    kit = Kit(Settings(data=tmp_path, otlp_endpoint=endpoint))
    provider = TracerProvider(resource=Resource.create({"service.name": "transcriber"}))
    provider.add_span_processor(BatchSpanProcessor(kit.span_exporter()))
    with provider.get_tracer("test").start_as_current_span("process audio.segments"):
        pass
    provider.shutdown()
    path, body = sent.get(timeout=10)
    assert path == "/v1/traces"
    request = ExportTraceServiceRequest.FromString(body)
    (spans,) = request.resource_spans
    service = {item.key: item.value.string_value for item in spans.resource.attributes}["service.name"]
    assert (service, spans.scope_spans[0].spans[0].name) == ("transcriber", "process audio.segments")


async def test_without_an_endpoint_the_catalog_keeps_them(tmp_path: Path) -> None:
    kit = Kit(Settings(data=tmp_path))
    assert isinstance(kit.span_exporter(), CatalogExporter)
    await kit.catalog.close()
