"""Events to bytes and back, and the headers beside them.

Framing: Confluent wire format (``0x00``, 4-byte big-endian schema id, Avro body) when a schema registry is set;
otherwise Avro single-object encoding (``0xC3 0x01``, 8-byte little-endian CRC-64-AVRO fingerprint of the schema,
Avro body; Avro 1.12 specification, "Single-object encoding"). Readers take both and refuse trailing bytes.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from typing import Any, Protocol

import fastavro
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form
from pydantic import ValidationError

from earshot.kernel import ids
from earshot.kernel.avro import schema_folder, schema_of
from earshot.kernel.errors import EarshotError, Undecodable
from earshot.kernel.events import Event, dump
from earshot.kernel.topics import Topic

_YEAR_9999_MS = 253_370_764_800_000
_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\x00"
MAX_FOREIGN = 1000
"""Schemas of others that are kept, so that a registry of many thousands cannot fill the memory."""


@dataclass(frozen=True)
class Record:
    """One record of the log, as it is stored.

    Attributes:
        topic: full name, prefix included.
        key: raw key, or ``None``.
        value: raw value; ``None`` deletes the key.
        headers: in order; names may repeat, the last one counts.
        partition: where it lies; ``None`` on a record not yet published.
        offset: its place in the partition; ``-1`` on a record not yet published.
        timestamp_ms: milliseconds since the epoch.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None
    offset: int = -1
    timestamp_ms: int = 0

    @property
    def published_at(self) -> datetime | None:
        """When it was published, as the log says; ``None`` where it says no possible time."""
        if not 0 < self.timestamp_ms < _YEAR_9999_MS:
            return None
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)

    def header(self, name: str) -> str | None:
        """The last header of that name as text, or ``None``; bytes that are not UTF-8 are replaced."""
        values = [value for key, value in self.headers if key == name]
        return values[-1].decode("utf-8", "replace") if values else None


class SchemaRegistry(Protocol):
    """A Confluent-compatible schema registry."""

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        """The id under which a schema is registered. Raises ``Unavailable`` or ``Misconfigured``."""

    def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema of an id. Raises ``Unavailable`` or ``Undecodable``."""


def crc64(schema: dict[str, Any]) -> bytes:
    """CRC-64-AVRO fingerprint of a schema's parsing canonical form, as the 8 little-endian bytes on the wire."""
    return _digest(to_parsing_canonical_form(schema))


def crc64_with_logical_types(schema: dict[str, Any]) -> bytes:
    """The same where the canonical form keeps ``logicalType``, against the specification, as hamba/avro for Go does."""
    canonical = json.loads(to_parsing_canonical_form(schema))
    return _digest(json.dumps(_keep_logical_types(canonical, schema), separators=(",", ":"), ensure_ascii=False))


def _digest(canonical: str) -> bytes:
    digest: str = fingerprint(canonical, "CRC-64-AVRO")
    return bytes.fromhex(digest)


def _keep_logical_types(canonical: Any, raw: Any) -> Any:
    """A canonical schema with the logical types of the one it was made from."""
    if isinstance(raw, list):
        return [_keep_logical_types(*pair) for pair in zip(canonical, raw, strict=True)]
    if not isinstance(raw, dict):
        return canonical
    if "logicalType" in raw:
        return {"type": canonical, "logicalType": raw["logicalType"]}
    kept = {
        name: _keep_logical_types(canonical[name], raw[name]) for name in ("type", "items", "values") if name in raw
    }
    if "fields" in raw:
        kept["fields"] = [_keep_logical_types(*pair) for pair in zip(canonical["fields"], raw["fields"], strict=True)]
    return canonical | kept


@cache
def _parsed(model: type[Event]) -> tuple[Any, bytes]:
    raw = schema_of(model)
    return parse_schema(raw), crc64(raw)


@cache
def _known_writers() -> Mapping[bytes, Any]:
    """Every schema this version can read: those of the models and those in ``schemas/``, past ones included."""
    known: dict[bytes, Any] = {}
    for path in sorted(schema_folder().rglob("*.avsc")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        known[crc64(raw)] = known[crc64_with_logical_types(raw)] = parse_schema(raw)
    return known


@dataclass(frozen=True)
class Codec:
    """Encodes and decodes event bodies; one per process, for any thread.

    Attributes:
        registry: where schemas have their ids; ``None``: single-object encoding, which needs none.
        prefix: of topic names, and so of the registry's subjects.
    """

    registry: SchemaRegistry | None = None
    prefix: str = ""
    _ids: dict[tuple[Topic, type[Event]], int] = field(default_factory=dict, init=False, repr=False)
    _own: dict[int, Any] = field(default_factory=dict, init=False, repr=False)

    def subject(self, topic: Topic) -> str:
        """Under what a registry keeps the schemas of a topic's values: Confluent's ``TopicNameStrategy``."""
        return f"{self.prefix}{topic.name}-value"

    def prepare(self, topics: Iterable[Topic]) -> None:
        """Ask the registry beforehand for what events of these topics need; its outages then touch only other schemas.

        Raises:
            Misconfigured: a schema is not registered.
            Unavailable: the schema registry does not answer.
        """
        for topic in topics:
            if self.registry is not None and topic.event is not None:
                self._id(topic, topic.event)

    def encode(self, topic: Topic, event: Event) -> bytes:
        """Frame and encode an event for a topic.

        Raises:
            Misconfigured: its schema is not registered.
            Unavailable: the schema registry does not answer.
        """
        schema, digest = _parsed(type(event))
        buffer = io.BytesIO()
        if self.registry is None:
            buffer.write(_SINGLE_OBJECT + digest)
        else:
            buffer.write(_CONFLUENT + struct.pack(">I", self._id(topic, type(event))))
        fastavro.schemaless_writer(buffer, schema, dump(event))
        return buffer.getvalue()

    def decode(self, topic: Topic, value: bytes) -> Event:
        """Decode a value of a topic.

        Raises:
            Undecodable: unknown framing or schema, a body that does not fit, trailing bytes.
            Unavailable: the schema registry does not answer.
        """
        if topic.event is None:
            raise Undecodable(f"{topic.name} carries no decodable events.")
        buffer = io.BytesIO(value)
        try:
            writer = self._writer(buffer)
            reader, _ = _parsed(topic.event)
            body = fastavro.schemaless_reader(buffer, writer, reader)
            rest = len(value) - buffer.tell()
            if rest:
                raise Undecodable(f"{rest} bytes follow the Avro body.")
            return topic.event.model_validate(body)
        except EarshotError:
            raise
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
            raise Undecodable(f"The event of {topic.name} has unusable values in: {fields}.") from error
        except Exception as error:  # hostile bytes make the Avro reader raise nearly anything
            raise Undecodable(f"The value{_of(value)} is no {topic.event.__name__}: {type(error).__name__}.") from error

    def _writer(self, buffer: io.BytesIO) -> Any:
        head = buffer.read(1)
        if head == _CONFLUENT:
            (schema_id,) = struct.unpack(">I", buffer.read(4))
            return self._registered(schema_id)
        if head + buffer.read(1) == _SINGLE_OBJECT:
            digest = buffer.read(8)
            writer = _known_writers().get(digest)
            if writer is None:
                raise Undecodable(f"No schema with fingerprint {digest.hex()} is known.")
            return writer
        raise Undecodable("The value has neither Confluent framing nor Avro single-object framing.")

    def _id(self, topic: Topic, model: type[Event]) -> int:
        assert self.registry is not None
        if (topic, model) not in self._ids:
            schema_id = self.registry.id_of(self.subject(topic), schema_of(model))
            self._own[schema_id], _ = _parsed(model)
            self._ids[topic, model] = schema_id
        return self._ids[topic, model]

    def _registered(self, schema_id: int) -> Any:
        if self.registry is None:
            raise Undecodable(
                "The value has Confluent framing, but no schema registry is set.",
                next_step="Set EARSHOT_SCHEMA_REGISTRY_URL.",
            )
        own = self._own.get(schema_id)
        return self._foreign(schema_id) if own is None else own

    @cached_property
    def _foreign(self) -> Callable[[int], Any]:
        """Asks for the schema of an id, once while it is in use."""
        assert self.registry is not None
        registry = self.registry
        return lru_cache(MAX_FOREIGN)(lambda schema_id: parse_schema(registry.schema(schema_id)))


def _of(value: bytes) -> str:
    """With which of the registry's schemas a value says it was written."""
    return f" of schema {struct.unpack('>I', value[1:5])[0]}" if value[:1] == _CONFLUENT and len(value) > 4 else ""


def headers_for(topic: Topic, event: Event | None, key: str, body: bytes | None, source: str) -> dict[str, bytes]:
    """CloudEvents 1.0 binary-mode headers of a record (Kafka protocol binding, ``ce_`` prefix)."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": ids.event_id(topic.name, key, body or b""),
        "ce_source": f"/earshot/{source}",
        "ce_type": f"earshot.{type(event).__name__ if event else 'Tombstone'}",
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "ce_subject": key,
        "ce_partitionkey": key,
        "content-type": "application/avro",
    }
    return {name: value.encode() for name, value in headers.items()}
