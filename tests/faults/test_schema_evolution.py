"""Schemas change while events flow, on a real broker and a real registry; what no schema fits is put aside."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import fastavro
import pytest
from fastavro.schema import parse_schema

from earshot.adapters.schema_registry import HttpRegistry
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS
from tests.faults.guarantees import Outcome
from tests.faults.pipeline import text_of
from tests.faults.system import PATIENCE_S, System, Worker
from tests.faults.versions import FIRST, Writers, schema_file
from tests.servers import RegistryServer
from tests.system.conftest import EXAMPLES, start, stop
from tests.system.test_public_contract import line_with, lines_of
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.registry]
ROOT = Path(__file__).resolve().parents[2]
AGES = ("past", "current", "future")
MORE: dict[str, dict[str, Any]] = {"future": {"mood": "bright", "takes": [1, 2]}}
UNKNOWN_ID = 2_000_000_000
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def system(kafka_url: str, registry_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """The pipeline with Confluent framing."""
    made = System(kafka_url, tmp_path, schema_registry_url=registry_url)
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
def writers(system: System) -> Iterator[Writers]:
    """Producers old and new; with them, the schemas of the pipeline are registered."""
    made = Writers(system.settings.schema_registry_url, system.settings.topic_prefix)
    yield made
    made.close()


async def publish(system: System, writers: Writers, events: list[SegmentCut], ages: list[str]) -> list[Record]:
    """Publish segments that must arrive, each with the schema of an age."""
    made = [writers.record(event, age, **MORE.get(age, {})) for event, age in zip(events, ages, strict=True)]
    records = [
        replace(record, headers=(("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()),)) for record in made
    ]
    await system.put(AUDIO_SEGMENTS, *records)
    system.expect(*events)
    return records


def schema_id(record: Record) -> int:
    assert record.value is not None
    assert record.value[0] == 0
    return int.from_bytes(record.value[1:5], "big")


def read_by_the_first_release(registry: HttpRegistry, record: Record) -> str:
    """The text of a transcript for a consumer that was built on the first schema and looks up the writer's."""
    writer = parse_schema(registry.schema(schema_id(record)))
    reader = parse_schema(schema_file("past/SegmentTranscribed.1.avsc"))
    body: Any = fastavro.schemaless_reader(io.BytesIO((record.value or b"")[5:]), writer, reader)
    return str(body["text"])


def program(name: str, prefix: str) -> str:
    """A program of docs/events.md, its topics given the prefix of the system under test."""
    found = re.search(
        rf"```python {name}\n(.*?)```", (ROOT / "docs" / "events.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, f"docs/events.md has no program named {name}"
    return re.sub(r'"((?:audio|recordings)\.)', rf'"{prefix}\1', found[1])


def addresses(system: System) -> dict[str, str]:
    kafka = system.settings.broker.removeprefix("kafka://")
    return os.environ | {"KAFKA": kafka, "REGISTRY": system.settings.schema_registry_url}


@pytest.mark.row(
    17, "events of the first, the present and a later schema in one topic; a consumer with the registry alone"
)
async def test_events_of_every_age_are_read_and_strangers_read_ours(
    system: System, writers: Writers, outcome: Outcome
) -> None:
    events = system.segments(12)
    await publish(system, writers, events, [*AGES] * 4)
    outcome.hit(await system.behind("copier"), faults=1)
    prefix = system.settings.topic_prefix
    consumer = [sys.executable, "-c", program("registry-consumer", prefix)]
    with lines_of(consumer, addresses(system), ROOT) as lines, outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
        seen = [json.loads(line_with(lines, TRACE)) for _ in events]
    await system.account(outcome)
    assert {(each["recording_id"], each["index"], each["text"]) for each in seen} == {
        (event.recording_id, event.index, text_of(event)) for event in events
    }
    assert {(each["ce_type"], each["ce_source"], each["content-type"]) for each in seen} == {
        ("earshot.SegmentTranscribed", "/earshot/copier", "application/avro")
    }
    transcripts = [record for record in await system.records(AUDIO_TRANSCRIPTS) if record.value is not None]
    with closing(HttpRegistry(system.settings.schema_registry_url)) as registry:
        texts = [read_by_the_first_release(registry, record) for record in transcripts]
    assert sorted(texts) == sorted(text_of(event) for event in events)


@pytest.mark.row(
    17, "an incompatible schema, an unknown id, Confluent framing of garbage, among good events; then a kill"
)
async def test_what_no_schema_fits_is_put_aside_once_and_blocks_nothing(
    system: System, writers: Writers, outcome: Outcome
) -> None:
    strange, unknown, again, garbage, *good = system.segments(10)
    schema = writers.schemas["current"]
    poison = [
        writers.incompatible(strange),
        writers.framed(unknown, UNKNOWN_ID, schema),
        writers.framed(again, UNKNOWN_ID, schema),
        Record("", AUDIO_SEGMENTS.key(garbage).encode(), b"\x00\x00\x00\x00\x00" + b"?" * 40),
    ]
    poison = [replace(record, headers=(("origin", bytes([number])),)) for number, record in enumerate(poison)]
    system.expected.poison = [record.value for record in poison]
    await publish(system, writers, good[:3], ["past", "current", "future"])
    await system.put(AUDIO_SEGMENTS, *poison)
    await publish(system, writers, good[3:], ["current"] * 3)
    outcome.hit(await system.behind("copier"), faults=len(poison))
    with outcome.recovering():
        worker = system.start("copier")
        system.start("shelver")
        await system.settles()
    assert worker.alive
    letters = {record.value: record for record in await system.letters()}
    for record in poison:
        letter = letters[record.value]
        assert (letter.key, letter.headers[0]) == (record.key, record.headers[0])
        assert letter.header("earshot-error-code") == "undecodable_event"
    reasons = [str(letters[record.value].header("earshot-error")) for record in poison]
    assert reasons[0] == f"The value of schema {schema_id(poison[0])} is no SegmentCut: SchemaResolutionError."
    assert reasons[1:] == [f"The registry has no schema {number}." for number in (UNKNOWN_ID, UNKNOWN_ID, 0)]

    worker.signal(signal.SIGKILL)
    await worker.ended()
    await publish(system, writers, system.segments(2), ["current"] * 2)
    system.start("copier")
    await system.settles()
    assert len(await system.letters()) == len(poison), "what was put aside is not read again"
    await system.account(outcome)


@pytest.mark.full
@pytest.mark.row(
    17, "stages of the first release killed and replaced under load, events of three schemas, both at once"
)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_rolling_change_of_running_stages_loses_nothing(
    system: System, writers: Writers, outcome: Outcome, seed: int
) -> None:
    chance = random.Random(seed)
    old = {stage: system.start(f"{stage}{FIRST}", instance_id=f"{stage}-old") for stage in ("copier", "shelver")}
    ages = ["past"]
    for round_ in range(12):
        if round_ == 3:  # old and new work side by side, in one group; new producers begin
            ages = [*AGES]
            for stage in old:
                system.start(stage, instance_id=f"{stage}-new")
        events = system.segments(20)
        await publish(system, writers, events, chance.choices(ages, k=len(events)))
        if round_ in (6, 9):
            await end(system, old.popitem()[1], chance.choice((signal.SIGKILL, signal.SIGTERM)), outcome)
    with outcome.recovering():
        await system.settles()
    await system.account(outcome)
    written = {schema_id(record) for record in await system.records(AUDIO_TRANSCRIPTS) if record.value is not None}
    assert len(written) == 2, "both releases wrote transcripts"


async def end(system: System, worker: Worker, how: signal.Signals, outcome: Outcome) -> None:
    """End a worker of the old release while it has work."""
    stage = worker.output.name.partition(FIRST)[0]
    outcome.hit(await eventually(lambda: system.behind(stage)))
    worker.signal(how)
    await worker.ended()


@pytest.fixture
async def apart(
    kafka_url: str, registry_server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[System]:
    """The pipeline with a registry of its own, which a worker asks again after a second."""
    monkeypatch.setenv("EARSHOT_BREAKER__REGISTRY_REST_S", "1")
    made = System(kafka_url, tmp_path, schema_registry_url=registry_server.url)
    await made.prepare()
    yield made
    await made.close()


@pytest.mark.full
@pytest.mark.row(
    17, "the registry is killed; events of known schemas, then of one not seen before; a stage starts; it is back"
)
async def test_a_registry_that_is_down_stops_what_is_new_and_nothing_else(
    apart: System, registry_server: RegistryServer, outcome: Outcome
) -> None:
    system = apart
    writers = Writers(registry_server.url, system.settings.topic_prefix)
    unseen, known = system.segments(3), system.segments(2)
    later = [writers.record(event, "future") for event in unseen]
    copier, shelver = system.start("copier"), system.start("shelver")
    await publish(system, writers, system.segments(6), ["past", "current"] * 3)
    await system.settles()
    before, present = writers.record(known[0], "past"), writers.record(known[1], "current")

    registry_server.kill()
    await system.put(AUDIO_SEGMENTS, before, present)
    system.expect(*known)
    await system.settles()  # what was seen before needs no registry

    await system.put(AUDIO_SEGMENTS, *later)
    system.expect(*unseen)
    await pauses(system, "copier", "The schema registry does not answer: ConnectError.")
    await pauses(system, "copier", "it is left alone for")
    shelver.signal(signal.SIGTERM)
    assert await shelver.ended() == 0
    system.start("shelver")
    await pauses(system, "shelver", "The schema registry does not answer")
    assert await system.letters() == []
    outcome.hit(await system.behind("copier"))
    with outcome.recovering():
        registry_server.start()
        await system.settles()
    assert copier.alive
    await system.account(outcome)
    writers.close()


async def pauses(system: System, stage: str, why: str) -> None:
    """Return when a stage is paused and says why."""

    def waits() -> bool:
        state, reason = system.state(stage)
        return state == "paused" and why in reason

    await eventually(waits, within=PATIENCE_S)


@pytest.mark.full
@pytest.mark.timeout(300)  # a whole system starts
def test_strangers_with_the_registry_alone_send_a_recording_and_read_what_was_said(
    kafka_url: str, registry_url: str, tmp_path: Path
) -> None:
    """The programs of docs/events.md, as printed, and a whole system."""
    prefix = f"t{uuid4().hex[:8]}."
    settings = {
        "EARSHOT_BROKER_URL": kafka_url,
        "EARSHOT_SCHEMA_REGISTRY_URL": registry_url,
        "EARSHOT_TOPIC_PREFIX": prefix,
        "EARSHOT_PARTITIONS": "4",
    }
    register = [sys.executable, "-m", "earshot", "schemas", "register"]
    subprocess.run(register, env=os.environ | settings, cwd=tmp_path, check=True, timeout=120)
    running = start(tmp_path / "data", **settings)
    try:
        clip = tmp_path / "data" / "blobs" / "default" / "incoming" / "0920.wav"
        clip.parent.mkdir(parents=True)
        shutil.copy(EXAMPLES / "sense_and_sensibility" / "0920.wav", clip)
        strangers = os.environ | {"KAFKA": kafka_url.removeprefix("kafka://"), "REGISTRY": registry_url}
        consumer = [sys.executable, "-c", program("registry-consumer", prefix)]
        with lines_of(consumer, strangers, tmp_path) as lines:
            producer = [sys.executable, "-c", program("registry-producer", prefix), clip.resolve().as_uri()]
            subprocess.run(producer, env=strangers, cwd=tmp_path, check=True, timeout=120)
            said = json.loads(line_with(lines, "amiable woman"))
        assert said["ce_type"] == "earshot.SegmentTranscribed"
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", said["traceparent"])
        recording = running.http.get(f"/recordings/{said['recording_id']}").raise_for_status().json()
        assert recording["title"] == "Brought by a stranger"
        assert running.ended(said["recording_id"])["state"] == "completed"
        checks = {check["name"]: check for check in json.loads(running.cli("doctor", "--json").stdout)["items"]}
        assert checks["schema registry"]["state"] == "ok"
        assert checks["schema registry"]["found"] == "answers, every schema is registered"
    finally:
        stop(running)
