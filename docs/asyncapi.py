"""Writes ``schemas/asyncapi.yaml`` from the topics, the events and the stages: ``python docs/asyncapi.py``."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from earshot import __version__
from earshot.adapters.wiring import Kit
from earshot.kernel.avro import event_models, schema_of
from earshot.kernel.dead_letters import CODE, ERROR, FAILED_AT, SOURCE, STAGE, TRACE_ID
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Stage
from earshot.kernel.topics import TOPICS, Topic, all_topics
from earshot.processes import STAGES, topic_configurations

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "schemas" / "asyncapi.yaml"
AVRO = "application/vnd.apache.avro;version=1.9.0"
TEXT = {"type": "string"}
OURS = {
    "ce_specversion": "CloudEvents version, 1.0.",
    "ce_id": "The event's id; the same event has the same one.",
    "ce_source": "Who published it.",
    "ce_type": "earshot. and the name of the schema.",
    "ce_time": "When it was published, ISO 8601 in UTC.",
    "ce_subject": "The record's key.",
    "ce_partitionkey": "The record's key.",
    "content-type": "application/avro",
    "traceparent": "W3C trace context.",
    "tracestate": "W3C trace context.",
}
WHY = {
    STAGE: "Which stage could not process it.",
    CODE: "A code of docs/errors.md.",
    ERROR: "The cause and the next step, for a person.",
    SOURCE: "topic/partition/offset it came from.",
    TRACE_ID: "32 hex digits.",
    FAILED_AT: "When, ISO 8601 in UTC.",
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Earshot",
            "version": __version__,
            "description": "Every event of the flow. docs/events.md tells producers and consumers the rest.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {topic.name: _channel(topic) for topic in all_topics()},
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    message = topic.event.__name__ if topic.event else "DeadLetter"
    about = (topic.event.__doc__ or "").strip().splitlines()[0] if topic.event else "What a stage could not process."
    kept = topic_configurations(_settings())[topic.name]
    configuration: dict[str, Any] = {"cleanup.policy": [kept["cleanup.policy"]]}
    if "retention.ms" in kept:
        configuration["retention.ms"] = int(kept["retention.ms"])
    return {
        "address": topic.name,
        "description": about,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": configuration}},
    }


def _operations() -> dict[str, Any]:
    """What each stage receives and sends, and what the door sends."""
    found: dict[str, Any] = {}
    for name in STAGES:
        stage: Stage = import_module(f"earshot.{name}.app").create_stage(Kit(_settings()))
        for action, topics in (("receive", stage.sources), ("send", stage.sinks)):
            for topic in topics:
                found[f"{name}.{action}.{topic.name}"] = _operation(action, topic, f"The {name} {action}s it.")
    for topic in TOPICS:
        if not any(key.endswith(f".send.{topic.name}") for key in found):
            found[f"relay.send.{topic.name}"] = _operation("send", topic, "Leaves the catalog's outbox by the relay.")
    return found


def _operation(action: str, topic: Topic, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{topic.name}"}, "summary": summary}


def _messages() -> dict[str, Any]:
    found = {}
    for model in event_models():
        topics = [topic for topic in TOPICS if topic.event is model]
        found[model.__name__] = {
            "name": f"earshot.{model.__name__}",
            "summary": (model.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/avro",
            "headers": {"type": "object", "properties": _described(OURS)},
            "payload": {"schemaFormat": AVRO, "schema": schema_of(model)},
            "bindings": {"kafka": {"key": TEXT | {"description": _key(topics[0])}}},
            "examples": _examples(model.__name__),
        }
    found["DeadLetter"] = {
        "name": "earshot.DeadLetter",
        "summary": "The original key, bytes and headers, and why.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "required": list(WHY), "properties": _described(WHY)},
        "payload": {"type": "string", "format": "binary", "description": "The value as it was."},
    }
    return found


def _described(names: dict[str, str]) -> dict[str, Any]:
    return {name: TEXT | {"description": about} for name, about in names.items()}


def _key(topic: Topic) -> str:
    return "The recording's id, a colon, the segment's index." if topic.by_segment else "The recording's id."


def _examples(name: str) -> list[dict[str, Any]]:
    files = sorted((ROOT / "schemas" / "examples" / name).glob("*.json"))
    return [{"name": file.stem, "payload": json.loads(file.read_text(encoding="utf-8"))} for file in files]


def _settings() -> Settings:
    """As they are without any environment."""
    return Settings.model_construct()


def text() -> str:
    """The document as YAML."""
    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
