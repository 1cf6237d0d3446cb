"""The schema registry client against a small registry over real HTTP, and the codec on top of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from earshot.adapters.schema_registry import HttpRegistry
from earshot.kernel.avro import schema_of
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured, Unavailable, Undecodable
from earshot.kernel.events import RecordingErased
from earshot.kernel.topics import RECORDINGS_ERASED
from tests.processes import free_ports

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}


class Registry(ThreadingHTTPServer):
    """Knows ``schemas`` (id to content) under every subject but ``unknown-value``; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schemas: dict[int, dict[str, Any]] = {7: {"schema": json.dumps(SCHEMA)}}
        self.asked: list[str] = []
        self.fail_with = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """The two questions that the client asks, answered as Confluent's registry does."""

    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        number = int(self.path.removeprefix("/schemas/ids/"))
        found = self.server.schemas.get(number)
        self.answer(200 if found else 404, found or {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = json.loads(body["schema"])
        for number, content in self.server.schemas.items():
            if json.loads(content["schema"]) == wanted and self.path != "/subjects/unknown-value":
                return self.answer(200, {"subject": "s", "id": number, "version": 1, "schema": content["schema"]})
        return self.answer(404, {"error_code": 40403, "message": "Schema not found"})

    def answer(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(self.server.fail_with or status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(registry: Registry) -> Iterator[HttpRegistry]:
    made = HttpRegistry(registry.url)
    yield made
    made.close()


def test_each_answer_is_asked_for_once(registry: Registry, client: HttpRegistry) -> None:
    assert [client.id_of("topic-value", SCHEMA) for _ in range(3)] == [7, 7, 7]
    assert [client.schema(7) for _ in range(3)] == [SCHEMA] * 3
    assert registry.asked == ["/subjects/topic-value", "/schemas/ids/7"]


def test_an_unregistered_schema_is_never_registered_but_named(registry: Registry, client: HttpRegistry) -> None:
    with pytest.raises(Misconfigured, match="POST /subjects/unknown-value/versions"):
        client.id_of("unknown-value", SCHEMA)
    assert registry.asked == ["/subjects/unknown-value"]


def test_an_unknown_id_is_undecodable(client: HttpRegistry) -> None:
    with pytest.raises(Undecodable, match="no schema 99"):
        client.schema(99)


def test_a_schema_of_another_kind_is_undecodable(registry: Registry, client: HttpRegistry) -> None:
    registry.schemas[8] = {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}
    with pytest.raises(Undecodable, match="PROTOBUF"):
        client.schema(8)


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, Unavailable), (503, Unavailable), (401, Misconfigured), (400, Undecodable), (422, Undecodable)],
)
def test_a_failing_registry_is_told_from_a_refusing_one(
    registry: Registry, client: HttpRegistry, status: int, error: type[Exception]
) -> None:
    registry.fail_with = status
    with pytest.raises(error):
        client.schema(7)
    registry.fail_with = 0
    assert client.schema(7) == SCHEMA, "a failure is not kept"


def test_a_registry_that_is_away_is_unavailable() -> None:
    client = HttpRegistry(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(Unavailable) as caught:
        client.schema(1)
    assert caught.value.dependency == "schema registry"
    client.close()


def test_the_codec_frames_with_the_registered_id_and_reads_it_back(registry: Registry, client: HttpRegistry) -> None:
    registry.schemas[1001] = {"schema": json.dumps(schema_of(RecordingErased))}
    codec = Codec(client)
    event = RecordingErased(tenant="default", recording_id="r", revision=2, reason="erased")
    encoded = codec.encode(RECORDINGS_ERASED, event)
    assert encoded[:5] == b"\x00" + (1001).to_bytes(4, "big")
    stranger = HttpRegistry(registry.url)
    assert Codec(stranger).decode(RECORDINGS_ERASED, encoded) == event
    stranger.close()
