"""The schema registry client against a small registry over real HTTP, and the codec on top of it."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import pytest

from earshot.adapters import schema_registry
from earshot.adapters.guard import Figures
from earshot.adapters.schema_registry import HttpRegistry
from earshot.kernel import codec as codec_module
from earshot.kernel.avro import schema_of
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured, Unavailable, Undecodable
from earshot.kernel.events import RecordingErased, dump
from earshot.kernel.topics import RECORDINGS_ERASED
from tests.processes import free_ports

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}


class Registry(ThreadingHTTPServer):
    """Knows ``schemas`` (id to content) under every subject but ``unknown-value``; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.schemas: dict[int, dict[str, Any]] = {7: {"schema": json.dumps(SCHEMA)}}
        self.asked: list[str] = []
        self.authorizations: set[str | None] = set()
        self.fail_with: tuple[int, dict[str, Any]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """The two questions that the client asks, answered as Confluent's registry does."""

    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.authorizations.add(self.headers["Authorization"])
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
        status, content = self.server.fail_with or (status, content)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(registry: Registry) -> Iterator[HttpRegistry]:
    made = HttpRegistry(registry.url)
    yield made
    made.close()


def test_an_unregistered_schema_is_never_registered_but_named(registry: Registry, client: HttpRegistry) -> None:
    with pytest.raises(Misconfigured, match=r"unknown-value is not registered\. Run: earshot schemas register"):
        client.id_of("unknown-value", SCHEMA)
    assert registry.asked == ["/subjects/unknown-value"]


def test_a_schema_of_another_kind_is_undecodable(registry: Registry, client: HttpRegistry) -> None:
    registry.schemas[8] = {"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF"}
    with pytest.raises(Undecodable, match="PROTOBUF"):
        client.schema(8)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def unknown(client: HttpRegistry, schema_id: int) -> None:
    with pytest.raises(Undecodable, match=f"no schema {schema_id}"):
        client.schema(schema_id)


def test_an_unknown_id_is_undecodable_and_not_asked_for_again_until_a_minute_later(registry: Registry) -> None:
    clock = Clock()
    client = HttpRegistry(registry.url, clock=clock)
    for clock.now in (0.0, 30.0, 59.9):
        unknown(client, 99)
    assert registry.asked == ["/schemas/ids/99"]
    registry.schemas[99] = {"schema": json.dumps(SCHEMA)}
    clock.now = 60.1
    assert client.schema(99) == SCHEMA, "registered late, seen a minute later"
    client.close()


def test_of_unknown_ids_the_latest_thousand_are_remembered(
    registry: Registry, client: HttpRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_registry, "MAX_UNKNOWN", 3)  # a thousand requests prove nothing more
    for schema_id in (101, 102, 103, 104, 104, 103, 102, 101):
        unknown(client, schema_id)
    assert registry.asked == [f"/schemas/ids/{number}" for number in (101, 102, 103, 104, 101)]


@pytest.mark.parametrize("schema_id", [0, 2**31, 2**32 - 1])
def test_what_cannot_be_an_id_is_not_asked_for(registry: Registry, client: HttpRegistry, schema_id: int) -> None:
    unknown(client, schema_id)
    assert registry.asked == []


NO = {"error_code": 50001, "message": "Error in the backend"}


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (500, NO, Unavailable),
        (503, {}, Unavailable),
        (429, {}, Unavailable),
        (301, {}, Unavailable),
        (401, {}, Misconfigured),
        (403, {"error_code": 40301}, Misconfigured),
        (404, {"error_code": 40403}, Undecodable),
        (422, {"error_code": 42202}, Undecodable),
    ],
)
def test_a_failing_registry_is_told_from_a_refusing_one(
    registry: Registry, status: int, content: dict[str, Any], error: type[Exception]
) -> None:
    clock = Clock()
    client = HttpRegistry(registry.url, clock=clock)
    registry.fail_with = status, content
    with pytest.raises(error):
        client.schema(7)
    registry.fail_with = None
    clock.now = schema_registry.UNKNOWN_S
    assert client.schema(7) == SCHEMA, "a failure is not kept"
    client.close()


@pytest.mark.parametrize("content", [{}, {"detail": "Not Found"}, {"error_code": 404, "message": "HTTP 404 Not Found"}])
def test_a_wrong_path_is_no_answer_about_schemas(
    registry: Registry, client: HttpRegistry, content: dict[str, Any]
) -> None:
    """Else a wrong setting would make poison of every event."""
    registry.fail_with = 404, content
    for ask in (lambda: client.schema(7), lambda: client.id_of("topic-value", SCHEMA)):
        with pytest.raises(Unavailable, match=r"404 is no answer of a schema registry\. Check EARSHOT_SCHEMA_REG"):
            ask()


def test_a_registry_that_is_away_is_unavailable_and_left_alone_after_some_failures() -> None:
    client = HttpRegistry(f"http://127.0.0.1:{free_ports(1)[0]}", Figures(3, 60.0))
    reasons = []
    for _ in range(4):
        with pytest.raises(Unavailable) as caught:
            client.schema(1)
        assert caught.value.dependency == "schema registry"
        reasons.append(str(caught.value))
    assert reasons[:3] == ["The schema registry does not answer: ConnectError. Check EARSHOT_SCHEMA_REGISTRY_URL."] * 3
    assert "After 3 failures in a row it is left alone for 60 s" in reasons[3]
    client.close()


def test_credentials_open_the_registry_and_stay_out_of_what_is_logged(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = HttpRegistry(registry.url.replace("http://", "http://key:s%2Fcret@"))
    assert client.schema(7) == SCHEMA
    assert registry.authorizations == {"Basic " + base64.b64encode(b"key:s/cret").decode()}
    assert registry.url in caplog.text
    assert "cret" not in caplog.text
    client.close()


EVENT = RecordingErased(tenant="default", recording_id="r", revision=2, reason="erased")


def test_the_codec_frames_with_the_registered_id_and_reads_it_back(registry: Registry, client: HttpRegistry) -> None:
    registry.schemas[1001] = {"schema": json.dumps(schema_of(RecordingErased))}
    encoded = Codec(client).encode(RECORDINGS_ERASED, EVENT)
    assert encoded[:5] == b"\x00" + (1001).to_bytes(4, "big")
    stranger = HttpRegistry(registry.url)
    assert Codec(stranger).decode(RECORDINGS_ERASED, encoded) == EVENT
    stranger.close()


def test_a_prefix_of_topics_is_one_of_subjects(registry: Registry, client: HttpRegistry) -> None:
    """As Confluent's clients expect it, which know the whole name of a topic alone."""
    registry.schemas[1001] = {"schema": json.dumps(schema_of(RecordingErased))}
    Codec(client, "staging.").encode(RECORDINGS_ERASED, EVENT)
    assert registry.asked == ["/subjects/staging.recordings.erased-value"]


def framed(schema_id: int, schema: dict[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), dump(EVENT))
    return b"\x00" + schema_id.to_bytes(4, "big") + body.getvalue()


def test_what_was_prepared_or_seen_needs_no_registry_any_more(registry: Registry, client: HttpRegistry) -> None:
    own, foreign = schema_of(RecordingErased), schema_of(RecordingErased)
    foreign["fields"].append({"name": "mood", "type": "string", "default": ""})
    registry.schemas = {1: {"schema": json.dumps(own)}, 2: {"schema": json.dumps(foreign)}}
    codec = Codec(client)
    codec.prepare([RECORDINGS_ERASED, RECORDINGS_ERASED.dead_letters])
    body = fastavro.parse_schema(foreign)
    value = io.BytesIO()
    fastavro.schemaless_writer(value, body, dump(EVENT) | {"mood": "bright"})
    strange = b"\x00" + (2).to_bytes(4, "big") + value.getvalue()
    assert codec.decode(RECORDINGS_ERASED, strange) == EVENT
    asked = list(registry.asked)
    registry.fail_with = 503, {}
    encoded = codec.encode(RECORDINGS_ERASED, EVENT)
    assert encoded == framed(1, own)
    assert [codec.decode(RECORDINGS_ERASED, each) for each in (encoded, strange)] == [EVENT, EVENT]
    assert registry.asked == asked
    with pytest.raises(Unavailable):
        codec.decode(RECORDINGS_ERASED, framed(3, own))


def test_preparing_names_what_is_not_registered(client: HttpRegistry) -> None:
    with pytest.raises(Misconfigured, match=r"recordings\.erased-value is not registered"):
        Codec(client).prepare([RECORDINGS_ERASED])


def test_foreign_schemas_are_kept_as_long_as_they_are_in_use(
    registry: Registry, client: HttpRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec_module, "MAX_FOREIGN", 2)
    schema = schema_of(RecordingErased)
    registry.schemas = {number: {"schema": json.dumps(schema)} for number in (1, 2, 3)}
    codec = Codec(client)
    for number in (1, 2, 1, 2, 3, 3, 1):
        codec.decode(RECORDINGS_ERASED, framed(number, schema))
    assert registry.asked == [f"/schemas/ids/{number}" for number in (1, 2, 3, 1)]
