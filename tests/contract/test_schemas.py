"""The published schemas are the models, their examples are true, and no change breaks who is already there."""

from __future__ import annotations

import copy
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema

from earshot.kernel.avro import event_models, schema_folder, schema_of, write_schemas
from earshot.kernel.codec import Codec, crc64
from earshot.kernel.events import Event, dump
from earshot.kernel.topics import TOPICS, Topic
from tests.avro_compatibility import carry, incompatibilities

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = {model.__name__: model for model in event_models()}
EXAMPLES = sorted(schema_folder().glob("examples/*/*.json"))


def topic_of(model: type[Event]) -> Topic:
    return next(topic for topic in TOPICS if topic.event is model)


def committed(name: str) -> dict[str, Any]:
    return json.loads((schema_folder() / f"{name}.avsc").read_text(encoding="utf-8"))


def examples_of(name: str) -> list[Event]:
    paths = [path for path in EXAMPLES if path.parent.name == name]
    return [MODELS[name].model_validate_json(path.read_bytes()) for path in paths]


def test_the_schema_files_are_exactly_what_the_models_give(tmp_path):
    """A failure says: run ``make schemas`` and commit what it wrote."""
    written = {path.name: path.read_text(encoding="utf-8") for path in write_schemas(tmp_path)}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in schema_folder().glob("*.avsc")}


def test_every_event_has_at_least_two_examples_and_no_example_is_of_an_unknown_event():
    counts = {name: len(examples_of(name)) for name in MODELS}
    assert {name for name, count in counts.items() if count < 2} == set()
    assert {path.parent.name for path in EXAMPLES} == set(MODELS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_example_fits_its_schema_and_survives_the_codec(path):
    model = MODELS[path.parent.name]
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert set(raw) <= set(model.model_fields), "the example has a field the event does not know"
    event = model.model_validate(raw)
    assert fastavro.validate(dump(event), parse_schema(committed(path.parent.name)), raise_errors=True)
    codec, topic = Codec(), topic_of(model)
    assert codec.decode(topic, codec.encode(topic, event)) == event


def test_a_foreign_producer_needs_nothing_but_the_uri():
    """Every other field of an upload has a default in the schema that any Avro library can fill in."""
    required = [item["name"] for item in committed("AudioUploaded")["fields"] if "default" not in item]
    assert required == ["uri"]


def versions(name: str) -> list[dict[str, Any]]:
    """Every committed version of a schema, the newest first."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("The history of the schemas needs git and a clone of the repository.")
    path = f"schemas/{name}.avsc"
    commits = git("log", "--format=%H", "--diff-filter=AM", "--", path).split()
    return [json.loads(git("show", f"{commit}:{path}")) for commit in commits]


def git(*arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={REPOSITORY}", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.mark.parametrize("name", MODELS)
def test_every_committed_version_reads_and_is_read_by_the_current_one(name):
    bodies = [dump(event) for event in examples_of(name)]
    problems = [problem for old in versions(name) for problem in incompatibilities(old, committed(name), bodies)]
    assert problems == []


@pytest.mark.parametrize("name", MODELS)
def test_what_was_framed_with_any_committed_version_is_still_read(name):
    """A failure says: keep the version before under ``schemas/past``; transcripts in the log were framed with it."""
    topic, newest = topic_of(MODELS[name]), examples_of(name)[0]
    for old in versions(name):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parse_schema(old), dump(newest))
        assert Codec().decode(topic, b"\xc3\x01" + crc64(old) + body.getvalue()).recording_id == newest.recording_id


def _without_uri(schema: dict[str, Any]) -> None:
    schema["fields"] = [item for item in schema["fields"] if item["name"] != "uri"]


def _with_required_field(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": "bitrate", "type": "long"})


def _with_other_type(schema: dict[str, Any]) -> None:
    next(item for item in schema["fields"] if item["name"] == "title")["type"] = "long"


def _with_renamed_record(schema: dict[str, Any]) -> None:
    schema["fields"][0]["name"] = "owner"
    del schema["fields"][0]["default"]


@pytest.mark.parametrize("change", [_without_uri, _with_required_field, _with_other_type, _with_renamed_record])
def test_the_compatibility_check_catches_a_breaking_change(change):
    old = committed("AudioUploaded")
    new = copy.deepcopy(old)
    change(new)
    assert incompatibilities(old, new, [dump(event) for event in examples_of("AudioUploaded")])


def test_the_compatibility_check_lets_an_optional_field_pass():
    old = committed("AudioUploaded")
    new = copy.deepcopy(old)
    new["fields"].append({"name": "bitrate", "type": "long", "default": 0})
    bodies = [dump(event) for event in examples_of("AudioUploaded")]
    assert incompatibilities(old, new, bodies) == []
    assert carry(bodies[0], old, new)["bitrate"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_is_the_models_own(name):
    assert committed(name) == schema_of(MODELS[name])
