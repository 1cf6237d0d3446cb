"""Fakes of what the host of a stage works with, and short ways to make what it is given."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from earshot.kernel.codec import Codec, Record
from earshot.kernel.events import Event, SegmentCut
from earshot.kernel.gate import Gate, RecordingKey, Standing
from earshot.kernel.ports import Heartbeat
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS, Topic
from earshot.streams.arrival import Arrived, Reader
from earshot.streams.dead_letters import DeadLetters
from earshot.streams.metrics import Metrics
from earshot.streams.patience import Patience
from earshot.streams.processor import Processor
from earshot.streams.sender import Sender
from earshot.streams.unit import Tools
from earshot.streams.vitals import Vitals

PARTITIONS = 4


class FakeProducer:
    """Keeps what was sent; a record is acknowledged at once, or when the test says so, or refused."""

    def __init__(self) -> None:
        self.sent: list[Record] = []
        self.refuse: Callable[[Record], Exception | None] = lambda _record: None
        self.held: asyncio.Event | None = None

    async def send(self, record: Record) -> Awaitable[None]:
        return self._acknowledge(record)

    async def _acknowledge(self, record: Record) -> None:
        if self.held is not None:
            await self.held.wait()
        if (error := self.refuse(record)) is not None:
            raise error
        self.sent.append(record)

    def of(self, topic: str) -> list[Record]:
        return [record for record in self.sent if record.topic == topic]


class FakeStandings:
    """Recordings are live at revision 1 unless the test says otherwise."""

    def __init__(self) -> None:
        self.known: dict[RecordingKey, Standing | None] = {}
        self.errors: list[Exception] = []
        self.asked = 0

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        found = {key: self.known.get(key, Standing("live", 1)) for key in keys}
        return {key: standing for key, standing in found.items() if standing is not None}


class FakeAttempts:
    """Counts in memory."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def begin_first(self, stage: str, units: Sequence[str]) -> set[str]:
        fresh = {unit for unit in units if unit not in self.counts}
        self.counts |= dict.fromkeys(fresh, 1)
        return fresh

    async def begin(self, stage: str, unit: str) -> int:
        self.counts[unit] = self.counts.get(unit, 0) + 1
        return self.counts[unit]

    async def forgive(self, stage: str, unit: str) -> None:
        self.counts[unit] -= 1

    async def finish(self, stage: str, units: Sequence[str]) -> None:
        for unit in units:
            self.counts.pop(unit, None)


class FakeHeartbeats:
    """Keeps every beat."""

    def __init__(self) -> None:
        self.beats: list[Heartbeat] = []

    async def beat(self, beat: Heartbeat) -> None:
        self.beats.append(beat)

    async def heartbeats(self) -> list[Heartbeat]:
        return list(self.beats)


def recording(number: int) -> str:
    """A recording id, the same for the same number."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def segment(index: int, *, of: int = 0, **fields: Any) -> SegmentCut:
    """A segment of one second."""
    about: dict[str, Any] = {
        "tenant": "t",
        "recording_id": recording(of),
        "index": index,
        "start_ms": index * 1000,
        "end_ms": index * 1000 + 1000,
        "uri": f"file:///t/{index}.flac",
        "sha256": "0" * 64,
    }
    return SegmentCut(**(about | fields))


def record_of(event: Event, offset: int, topic: Topic = AUDIO_SEGMENTS, **fields: Any) -> Record:
    """A record as it lies in partition 0."""
    value = Codec().encode(topic, event)
    return replace(Record(topic.name, topic.key(event).encode(), value, (), 0, offset), **fields)


@dataclass
class Bench:
    """A processor over fakes.

    Attributes:
        acked: offsets, in order of acknowledgement.
        waits: seconds of every wait between tries.
        points: fault points passed.
    """

    stage: Stage
    producer: FakeProducer = field(default_factory=FakeProducer)
    standings: FakeStandings = field(default_factory=FakeStandings)
    attempts: FakeAttempts = field(default_factory=FakeAttempts)
    vitals: Vitals = field(default_factory=Vitals)
    acked: list[int] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    limit: int = 50

    def __post_init__(self) -> None:
        codec = Codec()
        topics = {*self.stage.sources, *self.stage.sinks, RECORDINGS_PROGRESS}
        counts = {topic.name: PARTITIONS for topic in topics}
        sender = Sender(self.producer, codec, self.stage.name, str, counts, self.vitals, in_flight=4, slow_s=0.05)
        self.metrics = Metrics(self.stage.name, self.vitals)
        self.reader = Reader(codec, {topic.name: topic for topic in self.stage.sources})
        tools = Tools(
            Gate(self.standings),
            self.attempts,
            sender,
            DeadLetters(self.stage.name, sender, self.limit),
            Patience(self.vitals, 0.5, 30.0, self._sleep),
            self.vitals,
            self.metrics,
            self.points.append,
        )
        self.processor = Processor(self.stage, tools)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.reasons.append(self.vitals.reason)
        await asyncio.sleep(0)

    async def arrive(self, record: Record) -> Arrived:
        return await self.reader.read(record, lambda: self.acked.append(record.offset))

    async def process(self, *records: Record) -> None:
        await self.processor.process([await self.arrive(record) for record in records])


def stage_of(work: Callable[[Sequence[Delivery[Any]]], AsyncIterator[Output]], **fields: Any) -> Stage:
    """A stage from segments to transcripts."""
    about: dict[str, Any] = {
        "name": "copier",
        "sources": (AUDIO_SEGMENTS,),
        "sinks": (AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS),
        "work": work,
        "batch": BatchPolicy(max_events=4),
    }
    return Stage(**(about | fields))
