"""A real registry: what is registered in it, what it refuses, and what Confluent's own client makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from earshot.adapters.schema_registrar import Registrar, history
from earshot.adapters.schema_registry import HttpRegistry
from earshot.kernel.avro import schema_folder
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured, Unavailable, Undecodable
from earshot.kernel.events import dump
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, TOPICS
from tests.contract.test_schemas import MODELS, examples_of, topic_of

pytestmark = pytest.mark.registry
UPLOADS = history(schema_folder(), "AudioUploaded")


@pytest.fixture
def prefix() -> str:
    return f"r{uuid4().hex[:8]}."


@pytest.fixture
def registrar(registry_url: str) -> Iterator[Registrar]:
    with closing(Registrar(registry_url)) as made:
        yield made


@pytest.fixture
def codec(registry_url: str, prefix: str) -> Iterator[Codec]:
    with closing(HttpRegistry(registry_url)) as registry:
        yield Codec(registry, prefix)


@pytest.fixture
def registered(registrar: Registrar, codec: Codec) -> dict[str, int]:
    """Every event's schema is registered; the ids of the current ones by subject."""
    subjects = {codec.subject(topic): topic.event.__name__ for topic in TOPICS if topic.event is not None}
    done = [registrar.register(subject, history(schema_folder(), name)) for subject, name in subjects.items()]
    return {one.subject: one.id for one in done}


def at(registry_url: str, path: str) -> Any:
    return httpx.get(registry_url + path).raise_for_status().json()


def with_field(schema: str, **field: Any) -> str:
    changed = json.loads(schema)
    changed["fields"].append(field)
    return json.dumps(changed)


def test_a_new_subject_gets_the_whole_history_and_takes_what_reads_all_of_it(
    registry_url: str, registrar: Registrar, prefix: str
) -> None:
    subject = f"{prefix}audio.uploaded-value"
    first, again = registrar.register(subject, UPLOADS), registrar.register(subject, UPLOADS)
    assert (first.new, again.new) == (True, False)
    assert first.id == again.id
    numbers = at(registry_url, f"/subjects/{subject}/versions")
    versions = [at(registry_url, f"/subjects/{subject}/versions/{number}") for number in numbers]
    assert [json.loads(version["schema"]) for version in versions] == [json.loads(text) for text in UPLOADS]
    assert versions[-1]["id"] == first.id
    assert at(registry_url, f"/config/{subject}")["compatibilityLevel"] == "BACKWARD_TRANSITIVE"


def test_a_stricter_rule_of_the_operators_stays(registry_url: str, registrar: Registrar, prefix: str) -> None:
    path = f"/config/{prefix}audio.uploaded-value"
    httpx.put(registry_url + path, json={"compatibility": "FULL_TRANSITIVE"}).raise_for_status()
    registrar.register(f"{prefix}audio.uploaded-value", UPLOADS)
    assert at(registry_url, path)["compatibilityLevel"] == "FULL_TRANSITIVE"


INCOMPATIBLE = with_field(UPLOADS[-1], name="bitrate", type="long")
COMPATIBLE = with_field(UPLOADS[-1], name="bitrate", type="long", default=0)


def test_an_incompatible_change_is_refused_and_said_to_be_so_beforehand(
    registry_url: str, registrar: Registrar, prefix: str
) -> None:
    subject = f"{prefix}audio.uploaded-value"
    registrar.register(subject, UPLOADS)
    before = at(registry_url, f"/subjects/{subject}/versions")
    assert not registrar.check(subject, [INCOMPATIBLE]).fits
    with pytest.raises(Misconfigured, match=rf"refuses AudioUploaded for {subject}: .*bitrate.*A new field needs a d"):
        registrar.register(subject, [INCOMPATIBLE])
    assert at(registry_url, f"/subjects/{subject}/versions") == before
    assert registrar.check(subject, [COMPATIBLE]).fits
    assert registrar.register(subject, [COMPATIBLE]).new


def test_incompatible_with_any_version_is_incompatible(registrar: Registrar, prefix: str) -> None:
    """A field that came, went and comes back with another type reads the last version, and not the one before it."""
    subject = f"{prefix}audio.uploaded-value"
    registrar.register(subject, UPLOADS)
    registrar.register(subject, [COMPATIBLE])
    registrar.register(subject, [with_field(UPLOADS[-1], name="codec", type="string", default="")])
    with pytest.raises(Misconfigured, match="refuses AudioUploaded"):
        registrar.register(subject, [with_field(UPLOADS[-1], name="bitrate", type="string", default="")])


def test_what_is_no_schema_is_refused(registrar: Registrar, prefix: str) -> None:
    broken = json.dumps({"type": "record", "name": "Broken", "fields": [{"name": "a", "type": "nonsense"}]})
    with pytest.raises(Misconfigured, match="refuses Broken"):
        registrar.register(f"{prefix}x-value", [broken])


def test_the_command_registers_what_is_in_schemas_and_says_so(registry_url: str, prefix: str) -> None:
    environment = os.environ | {"EARSHOT_SCHEMA_REGISTRY_URL": registry_url, "EARSHOT_TOPIC_PREFIX": prefix}

    def earshot(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "earshot", "schemas", *arguments]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=120)

    done = earshot("register", "--json")
    assert done.returncode == 0, done.stderr
    subjects = {one["subject"] for one in json.loads(done.stdout)}
    assert subjects == {f"{prefix}{topic.name}-value" for topic in TOPICS}
    assert set(at(registry_url, "/subjects")) >= subjects
    checked = earshot("check")
    assert (checked.returncode, checked.stdout.count("fits")) == (0, len(TOPICS))
    refused = earshot("register", EARSHOT_SCHEMA_REGISTRY_URL="")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (78, "earshot: No schema registry is set.")


def test_every_example_goes_through_the_registry_and_comes_back(registered: dict[str, int], codec: Codec) -> None:
    for name, model in MODELS.items():
        topic = topic_of(model)
        for event in examples_of(name):
            value = codec.encode(topic, event)
            assert int.from_bytes(value[1:5], "big") == registered[codec.subject(topic)]
            assert codec.decode(topic, value) == event


def test_an_unregistered_schema_stops_us_and_an_unknown_id_is_poison(codec: Codec) -> None:
    event = examples_of("AudioUploaded")[0]
    with pytest.raises(Misconfigured, match=f"{codec.subject(AUDIO_UPLOADED)} is not registered"):
        codec.encode(AUDIO_UPLOADED, event)
    with pytest.raises(Undecodable, match="The registry has no schema 2000000000"):
        codec.decode(AUDIO_UPLOADED, b"\x00" + (2_000_000_000).to_bytes(4, "big") + b"body")


def test_a_wrong_path_is_told_from_an_unknown_schema(registry_url: str) -> None:
    server, _, _ = registry_url.removeprefix("http://").partition("/")
    for path in ("", "/apis/ccompat/v99", "/somewhere"):
        with closing(HttpRegistry(f"http://{server}{path}")) as registry, pytest.raises(Unavailable):
            registry.schema(2_000_000_000)


@pytest.fixture
def stranger(registry_url: str) -> Iterator[SchemaRegistryClient]:
    with closing(SchemaRegistryClient({"url": registry_url})) as client:
        yield client


@pytest.mark.usefixtures("registered")
def test_confluents_deserializer_reads_our_transcripts_with_nothing_but_the_registry(
    stranger: SchemaRegistryClient, codec: Codec, prefix: str
) -> None:
    read = AvroDeserializer(stranger)
    context = SerializationContext(f"{prefix}{AUDIO_TRANSCRIPTS.name}", MessageField.VALUE)
    for event in examples_of("SegmentTranscribed"):
        assert read(codec.encode(AUDIO_TRANSCRIPTS, event), context) == dump(event)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("version", [0, -1], ids=["first", "current"])
def test_we_read_what_confluents_serializer_wrote_by_topic_name(
    stranger: SchemaRegistryClient, codec: Codec, prefix: str, version: int
) -> None:
    write = AvroSerializer(stranger, UPLOADS[version], conf={"auto.register.schemas": False})
    context = SerializationContext(f"{prefix}{AUDIO_UPLOADED.name}", MessageField.VALUE)
    for event in examples_of("AudioUploaded"):
        known = event.model_copy(update={} if version else {"task": None})
        value = write(dump(event), context)
        assert value is not None
        assert codec.decode(AUDIO_UPLOADED, value) == known
