"""Bytes to events and back, whatever the bytes."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema
from hypothesis import given
from hypothesis import strategies as st

from earshot.kernel import events, topics
from earshot.kernel.avro import event_models, schema_folder, schema_of
from earshot.kernel.codec import Codec, Record, crc64, headers_for
from earshot.kernel.errors import Unavailable, Undecodable
from earshot.kernel.events import TENANT_PATTERN, AudioUploaded, Event, dump
from earshot.kernel.topics import AUDIO_UPLOADED, TOPICS, Topic

LONG_MAX = 2**63 - 1
UPLOAD = AudioUploaded(uri="file:///blobs/default/a.wav", recorded_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC))
CLOSED_SETS = {
    "priority": ["high", "normal", "low"],
    "reason": ["erased", "cancelled", "superseded"],
    "task": ["transcribe", "translate"],
}
STATES = {"StageProgressed": ["pending", "failed", "done"], "RecordingCompleted": ["completed", "failed"]}


def test_a_library_that_keeps_logical_types_in_the_canonical_form_is_understood() -> None:
    """hamba/avro for Go frames the first AudioUploaded with 79fc85dd8896955a, the specification: 6abe6a2e2d17f4d5."""
    first = json.loads((schema_folder() / "past" / "AudioUploaded.1.avsc").read_text(encoding="utf-8"))
    assert crc64(first).hex() == "6abe6a2e2d17f4d5"
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parse_schema(first), dump(UPLOAD))
    for fingerprint in ("6abe6a2e2d17f4d5", "79fc85dd8896955a"):
        framed = bytes.fromhex(f"c301{fingerprint}") + body.getvalue()
        assert Codec().decode(AUDIO_UPLOADED, framed) == UPLOAD


class DictRegistry:
    """A schema registry in memory."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        self.schemas[len(self.schemas) + 1] = schema
        return len(self.schemas)

    def schema(self, schema_id: int) -> dict[str, Any]:
        if schema_id not in self.schemas:
            raise Undecodable(f"There is no schema {schema_id}.")
        return self.schemas[schema_id]


class SilentRegistry(DictRegistry):
    """A schema registry that does not answer."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        raise Unavailable("schema registry", "connection refused")


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Values that fit an Avro schema as our models make it."""
    if isinstance(schema, list):
        return st.one_of(*map(values, schema))
    if isinstance(schema, str) and schema.startswith("earshot."):  # said before in the same schema
        return record(schema_of(getattr(events, schema.removeprefix("earshot."))))
    if isinstance(schema, str):
        return {
            "null": st.none(),
            "string": st.text(max_size=20),
            "long": st.integers(1, LONG_MAX),
            "double": st.floats(allow_nan=False, allow_infinity=False),
            "float": st.floats(allow_nan=False, width=32),
            "boolean": st.booleans(),
        }[schema]
    match schema["type"]:
        case "long":  # timestamp-micros
            return st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=9), values(schema["values"]), max_size=3)
        case _:
            return record(schema)


def record(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {}
    for item in schema["fields"]:
        name, kind = item["name"], item["type"]
        fields[name] = values(kind)
        if name == "tenant":
            fields[name] = st.from_regex(TENANT_PATTERN, fullmatch=True)
        if name in CLOSED_SETS and schema["name"] in {"AudioUploaded", "SegmentCut", "RecordingErased"}:
            fields[name] = st.sampled_from(CLOSED_SETS[name]) | (st.none() if "null" in kind else st.nothing())
        if name == "state":
            fields[name] = st.sampled_from(STATES[schema["name"]])
    return st.fixed_dictionaries(fields)


EVENTS = st.one_of([record(schema_of(model)).map(model.model_validate) for model in event_models()])


def topic_of(event: Event) -> Topic:
    return next(topic for topic in TOPICS if topic.event is type(event))


@given(EVENTS)
def test_what_was_encoded_decodes_to_itself(event):
    codec, topic = Codec(), topic_of(event)
    assert codec.decode(topic, codec.encode(topic, event)) == event


@given(EVENTS)
def test_confluent_framing_decodes_to_itself(event):
    codec, topic = Codec(DictRegistry()), topic_of(event)
    value = codec.encode(topic, event)
    assert value[:5] == b"\x00" + struct.pack(">I", 1)
    assert codec.decode(topic, value) == event


@given(EVENTS, st.binary(min_size=1, max_size=9))
def test_trailing_bytes_are_refused(event, tail):
    codec, topic = Codec(), topic_of(event)
    with pytest.raises(Undecodable):
        codec.decode(topic, codec.encode(topic, event) + tail)


@given(EVENTS, st.data())
def test_a_cut_off_value_is_undecodable(event, data):
    codec, topic = Codec(), topic_of(event)
    value = codec.encode(topic, event)
    with pytest.raises(Undecodable):
        codec.decode(topic, value[: data.draw(st.integers(0, len(value) - 1))])


@given(st.sampled_from(TOPICS), st.binary(max_size=64), st.booleans())
def test_random_bytes_raise_nothing_but_undecodable(topic, noise, framed):
    """Framed noise gets past the fingerprint, so that the Avro reader itself meets it."""
    codec = Codec()
    value = codec.encode(AUDIO_UPLOADED, UPLOAD)[:10] + noise if framed else noise
    try:
        event = codec.decode(topic, value)
    except Undecodable:
        return
    assert isinstance(event, topic.event)


@given(EVENTS, st.data())
def test_a_flipped_bit_gives_an_event_or_undecodable(event, data):
    codec, topic = Codec(), topic_of(event)
    value = bytearray(codec.encode(topic, event))
    value[data.draw(st.integers(0, len(value) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = codec.decode(topic, bytes(value))
    except Undecodable:
        return
    assert isinstance(read, type(event))


def test_an_event_of_another_topic_is_undecodable():
    with pytest.raises(Undecodable):
        Codec().decode(topics.AUDIO_EMBEDDINGS, Codec().encode(AUDIO_UPLOADED, UPLOAD))


def test_values_a_model_forbids_are_undecodable_and_named():
    wrong = UPLOAD.model_copy(update={"tenant": "../other"})
    with pytest.raises(Undecodable, match="tenant"):
        Codec().decode(AUDIO_UPLOADED, Codec().encode(AUDIO_UPLOADED, wrong))


def test_dead_letters_have_no_event_to_decode():
    with pytest.raises(Undecodable):
        Codec().decode(AUDIO_UPLOADED.dead_letters, b"anything")


def test_confluent_framing_without_a_registry_names_the_setting():
    with pytest.raises(Undecodable) as caught:
        Codec().decode(AUDIO_UPLOADED, b"\x00\x00\x00\x00\x01x")
    assert "EARSHOT_SCHEMA_REGISTRY_URL" in str(caught.value)


def test_a_registry_that_does_not_answer_is_no_fault_of_the_value():
    with pytest.raises(Unavailable):
        Codec(SilentRegistry()).decode(AUDIO_UPLOADED, b"\x00\x00\x00\x00\x01x")


def test_the_fingerprint_on_the_wire_is_the_published_one():
    """Known to every producer that has the schema file; changes only with the schema."""
    value = Codec().encode(AUDIO_UPLOADED, UPLOAD)
    assert value[:2] == b"\xc3\x01"
    assert value[:10] == Codec().encode(AUDIO_UPLOADED, UPLOAD.model_copy(update={"title": "another"}))[:10]


def test_headers_are_cloudevents_in_binary_mode():
    headers = headers_for(AUDIO_UPLOADED, UPLOAD, "key", b"body", "ingest")
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_type"] == b"earshot.AudioUploaded"
    assert headers["ce_source"] == b"/earshot/ingest"
    assert headers["content-type"] == b"application/avro"
    assert headers["ce_id"] == headers_for(AUDIO_UPLOADED, UPLOAD, "key", b"body", "relay")["ce_id"]


def test_the_last_header_of_a_name_counts_and_bad_utf8_does_not_raise():
    record = Record("t", None, b"", headers=(("a", b"1"), ("a", b"\xff2"), ("b", b"x")))
    assert record.header("a") == "\ufffd2"
    assert record.header("c") is None
