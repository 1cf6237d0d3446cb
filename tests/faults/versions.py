"""Earshot as it was and as it may become: the small pipeline at the first version of its schemas, and other writers."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import fastavro
from fastavro.schema import parse_schema
from pydantic import create_model

from earshot.adapters.schema_registrar import Registrar, history
from earshot.kernel.avro import schema_folder
from earshot.kernel.codec import Record
from earshot.kernel.events import Event, SegmentCut, SegmentTranscribed, StageProgressed, dump
from earshot.kernel.stage import Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS, Topic
from tests.faults.pipeline import Shelf, stages

FIRST = "@1"
"""After the name of a stage: as its first release."""


def schema_file(path: str) -> dict[str, Any]:
    """One of the published schemas."""
    found: dict[str, Any] = json.loads((schema_folder() / path).read_text(encoding="utf-8"))
    return found


def first_version(model: type[Event]) -> type[Event]:
    """The model of an event as it was in ``schemas/past/<Event>.1.avsc``."""
    schema = schema_file(f"past/{model.__name__}.1.avsc")
    fields = {}
    for item in schema["fields"]:
        field = copy.copy(model.model_fields[item["name"]])
        field.description = item["doc"]
        fields[item["name"]] = (field.annotation, field)
    made: Any = create_model(model.__name__, __base__=Event, __doc__=schema["doc"], **fields)  # type: ignore[call-overload]
    return made


FIRSTS: Mapping[Topic, Topic] = {
    topic: replace(topic, event=first_version(model))
    for topic, model in {
        AUDIO_SEGMENTS: SegmentCut,
        AUDIO_TRANSCRIPTS: SegmentTranscribed,
        RECORDINGS_PROGRESS: StageProgressed,
    }.items()
}
"""The topics as the first release knew them."""


def first_stages(shelf: Shelf) -> dict[str, Stage]:
    """The stages of the pipeline as they were: they read and write the first version of every event."""
    return {f"{name}{FIRST}": _as_it_was(stage) for name, stage in stages(shelf).items()}


def _as_it_was(stage: Stage) -> Stage:
    async def work(deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        async for output in stage.work(deliveries):
            topic = FIRSTS[output.topic]
            assert topic.event is not None
            assert output.event is not None
            yield replace(output, topic=topic, event=topic.event.model_validate(dump(output.event)))

    sources = tuple(FIRSTS[topic] for topic in stage.sources)
    return replace(stage, sources=sources, sinks=tuple(FIRSTS[topic] for topic in stage.sinks), work=work)


class Writers:
    """Producers of segments with schemas of different ages, all of them known to a registry.

    Args:
        registry_url: of the registry.
        prefix: of topics.
    """

    def __init__(self, registry_url: str, prefix: str) -> None:
        self._registrar = Registrar(registry_url)
        self._prefix = prefix
        for topic in FIRSTS:
            assert topic.event is not None
            self._register(topic.name, history(schema_folder(), topic.event.__name__))
        past, current = schema_file("past/SegmentCut.1.avsc"), schema_file("SegmentCut.avsc")
        future = copy.deepcopy(current)
        future["fields"].insert(4, {"name": "mood", "type": ["null", "string"], "default": None})
        future["fields"].append({"name": "takes", "type": {"type": "array", "items": "long"}, "default": []})
        self.schemas = {"past": past, "current": current, "future": future}

    def close(self) -> None:
        """Close the connection."""
        self._registrar.close()

    def record(self, event: SegmentCut, age: str, **more: Any) -> Record:
        """A record of a segment, written with the schema of an age; ``more`` is what only that schema knows."""
        schema = self.schemas[age]
        return self.framed(event, self._register(AUDIO_SEGMENTS.name, [json.dumps(schema)]), schema, **more)

    def incompatible(self, event: SegmentCut) -> Record:
        """A record of another team's: its schema is registered, elsewhere, and no segment of ours can be read of it."""
        schema = copy.deepcopy(self.schemas["current"])
        schema["fields"] = [item for item in schema["fields"] if item["name"] not in ("index", "uri")]
        return self.framed(event, self._register("others.segments", [json.dumps(schema)]), schema)

    def framed(self, event: SegmentCut, schema_id: int, schema: dict[str, Any], **more: Any) -> Record:
        """A record with Confluent framing."""
        body = io.BytesIO(b"\x00" + struct.pack(">I", schema_id))
        body.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(body, parse_schema(schema), dump(event) | more)
        return Record("", AUDIO_SEGMENTS.key(event).encode(), body.getvalue())

    def _register(self, topic: str, versions: list[str]) -> int:
        return self._registrar.register(f"{self._prefix}{topic}-value", versions).id
