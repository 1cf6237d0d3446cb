"""The host's own cost: how many events a null stage takes a second, and how long one hop lasts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from aiokafka import AIOKafkaConsumer

from earshot import processes
from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record, headers_for
from earshot.kernel.events import RecordingCompleted, RecordingErased
from earshot.kernel.settings import Settings
from earshot.kernel.topics import RECORDINGS_COMPLETED, RECORDINGS_ERASED, Topic, slot_of_key

ROOT = Path(__file__).resolve().parents[1]
BATCH = 500


@contextmanager
def settings_of(overrides: dict[str, str]) -> Iterator[Settings]:
    """Settings of an empty system, also in the environment for workers."""
    with tempfile.TemporaryDirectory() as folder:
        values = overrides | {"EARSHOT_DATA": folder, "EARSHOT_TOPIC_PREFIX": f"h{uuid4().hex[:8]}."}
        before = dict(os.environ)
        os.environ.update(values)
        try:
            settings = Settings()
            asyncio.run(processes.prepare(settings))
            yield settings
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def stage(name: str, settings: Settings) -> Iterator[None]:
    """A worker process of ``null_stage.py``."""
    command = [sys.executable, str(ROOT / "benchmarks" / "null_stage.py"), name]
    log_path = settings.data / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=dict(os.environ), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def records(settings: Settings, kit: Kit, topic: Topic, count: int, partitions: int) -> list[Record]:
    """``count`` events of a topic."""
    made = []
    for number in range(count):
        recording = f"00000000-0000-4000-8000-{number:012d}"
        event = (
            RecordingErased(recording_id=recording, reason="erased")
            if topic is RECORDINGS_ERASED
            else RecordingCompleted(
                recording_id=recording, state="completed", segments=0, duration_ms=0, transcript_uri=""
            )
        )
        body = kit.codec.encode(topic, event)
        headers = tuple(headers_for(topic, event, recording, body, "benchmark").items())
        place = slot_of_key(recording) % partitions
        made.append(Record(settings.topic(topic.name), recording.encode(), body, headers, place))
    return made


async def publish(settings: Settings, topic: Topic, count: int) -> None:
    """Put events into the log."""
    kit = Kit(settings)
    try:
        made = records(settings, kit, topic, count, await kit.log.partitions(settings.topic(topic.name)))
        for start in range(0, count, BATCH):
            await kit.log.publish(made[start : start + BATCH])
    finally:
        await kit.log.close()


async def consumed(settings: Settings, group: str, topic: Topic, count: int) -> float:
    """Seconds from the first committed offset to the last of ``count``, over how many lay between."""
    kit = Kit(settings)
    first: tuple[float, int] | None = None
    try:
        while True:
            lag = await kit.log.lag(settings.topic_prefix + group, [settings.topic(topic.name)])
            done, now = sum(committed for committed, _ in lag.values()), time.perf_counter()
            if done and first is None:
                first = (now, done)
            if done >= count and first is not None:
                return (count - first[1]) / max(now - first[0], 1e-9)
            await asyncio.sleep(0.02)
    finally:
        await kit.log.close()


def host_rate(overrides: dict[str, str], count: int) -> float:
    """Messages a second through the host with a null stage, from its first commit to its last."""
    with settings_of(overrides) as settings:
        asyncio.run(publish(settings, RECORDINGS_ERASED, count))
        with stage("null", settings):
            return asyncio.run(consumed(settings, "null", RECORDINGS_ERASED, count))


def hop_latency(overrides: dict[str, str], count: int) -> list[float]:
    """Milliseconds from publishing an event to seeing what a stage published because of it, one at a time."""
    with settings_of(overrides) as settings, stage("copy", settings):
        return asyncio.run(_hops(settings, count))


async def _hops(settings: Settings, count: int) -> list[float]:
    kit, watcher = Kit(settings), Kit(settings)
    took: list[float] = []
    try:
        partitions = await kit.log.partitions(settings.topic(RECORDINGS_COMPLETED.name))
        made = [_pair(settings, kit, number, partitions) for number in range(count + 1)]
        seen = watcher.log.tail([settings.topic(RECORDINGS_ERASED.name)], from_start=True, follow=True)
        for number, record in enumerate(made):
            began = time.perf_counter()
            await kit.log.publish([record])
            await anext(seen)
            if number:
                took.append((time.perf_counter() - began) * 1000)
    finally:
        await kit.log.close()
        await watcher.log.close()
    return took


def _pair(settings: Settings, kit: Kit, number: int, partitions: int) -> Record:
    (record,) = records(settings, kit, RECORDINGS_COMPLETED, 1, partitions)
    recording = f"00000000-0000-4000-8000-{number:012d}"
    return Record(record.topic, recording.encode(), record.value, record.headers, slot_of_key(recording) % partitions)


def plain_aiokafka_rate(overrides: dict[str, str], count: int) -> float:
    """Messages a second of a bare aiokafka consumer that commits at the end of each fetch."""
    with settings_of(overrides) as settings:
        asyncio.run(publish(settings, RECORDINGS_ERASED, count))
        return asyncio.run(_plain(settings, count))


async def _plain(settings: Settings, count: int) -> float:
    consumer = AIOKafkaConsumer(
        settings.topic(RECORDINGS_ERASED.name),
        bootstrap_servers=settings.broker.removeprefix("kafka://"),
        group_id=f"plain-{uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        done, first = 0, None
        while done < count:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            done += sum(len(batch) for batch in fetched.values())
            if fetched:
                await consumer.commit()
                first = first or (time.perf_counter(), done)
        assert first is not None
        return (count - first[1]) / max(time.perf_counter() - first[0], 1e-9)
    finally:
        await consumer.stop()
