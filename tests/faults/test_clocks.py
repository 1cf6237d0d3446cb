"""Clocks are a day off: only the order of offsets counts, and what is refused for its time is waited out."""

from __future__ import annotations

from pathlib import Path

import pytest

from earshot.kernel.codec import Record
from earshot.kernel.errors import Unavailable
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS
from tests.fakes_stream import record_of
from tests.faults.brokers import all_is_well, configure, crew
from tests.faults.guarantees import Outcome
from tests.faults.pipeline import text_of, transcript
from tests.faults.system import System
from tests.waiting import eventually

DAY_MS = 24 * 3600 * 1000
ON_KAFKA = pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True)


@pytest.mark.parametrize(
    "broker", ["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.full])], indirect=True
)
@pytest.mark.row(18, "records from clocks that are a day ahead and a day behind")
async def test_records_out_of_their_time_are_worked_on_in_the_order_of_their_offsets(
    broker: str, tmp_path: Path, outcome: Outcome
) -> None:
    system = System(broker, tmp_path)
    as_they_say = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2 * DAY_MS)}
    await system.prepare(audio_segments=as_they_say, audio_transcripts=as_they_say)
    now = await now_ms(system)
    cut, said = system.segments(12), system.segments(12)
    skew = [now + days * DAY_MS for days in (1, -1, 0)] * 4
    segments = [record_of(event, -1, timestamp_ms=at) for event, at in zip(cut, skew, strict=True)]
    transcripts = [
        record_of(transcript(event, text_of(event)), -1, AUDIO_TRANSCRIPTS, timestamp_ms=at)
        for event, at in zip(said, skew, strict=True)
    ]
    await system.put(AUDIO_SEGMENTS, *segments)
    await system.put(AUDIO_TRANSCRIPTS, *transcripts)
    system.expect(*cut, *said)
    outcome.hit(await system.behind("copier") + await system.behind("shelver"), faults=16)
    with outcome.recovering():
        crew(system)
        await system.settles()
    for partition, wanted in by_partition(await system.records(AUDIO_TRANSCRIPTS)).items():
        assert [place for place in shelved(system) if place in wanted] == wanted, partition
    await system.account(outcome)
    await system.close()


async def now_ms(system: System) -> int:
    """The time at which the log gets a record: of the first one, published here."""
    await system.publish(*system.segments(1))
    return min(record.timestamp_ms for record in await system.records(AUDIO_SEGMENTS))


def by_partition(records: list[Record]) -> dict[int, list[str]]:
    """Keys in the order of offsets."""
    places: dict[int, list[str]] = {}
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        places.setdefault(record.partition or 0, []).append((record.key or b"").decode())
    return places


def shelved(system: System) -> list[str]:
    """Keys in the order in which the shelver wrote their first passage."""
    rows = system.shelf.run("SELECT recording, segment FROM passages ORDER BY rowid")
    return list(dict.fromkeys(f"{recording}:{index}" for recording, index in rows))


@ON_KAFKA
@pytest.mark.full
@pytest.mark.row(18, "the broker refuses every output for its time, as it does when a worker's clock is wrong")
async def test_a_refused_time_is_waited_out(system: System, outcome: Outcome) -> None:
    """A clock is set one day; until then nothing is committed, nothing dead-lettered, and the reason is shown."""
    await configure(system, AUDIO_TRANSCRIPTS, {"message.timestamp.before.max.ms": "0"})
    workers = [system.start("copier", retry_max_s=1), system.start("shelver")]
    await system.publish(*system.segments(12))
    reason = await eventually(lambda: system.state("copier")[1], within=60)
    assert "for its time" in reason
    assert "clocks" in reason
    outcome.hit(await system.behind("copier"))
    assert await system.behind("copier") == 12
    assert not await system.letters()
    with outcome.recovering():
        await configure(system, AUDIO_TRANSCRIPTS, {})
        await system.settles()
    await all_is_well(system, outcome, workers)


@ON_KAFKA
@pytest.mark.full
@pytest.mark.row(18, "a record from a clock that is a day ahead, refused by the broker at the door")
async def test_a_time_that_is_refused_at_the_door_names_the_clock(system: System, outcome: Outcome) -> None:
    """Kafka takes nothing from more than an hour ahead, where it believes its producers; our topics do not."""
    [event] = system.segments(1)
    early = record_of(event, -1, timestamp_ms=await now_ms(system) + DAY_MS)
    with pytest.raises(Unavailable, match=r"for its time.*clocks"):
        await system.put(AUDIO_SEGMENTS, early)
    await configure(system, AUDIO_SEGMENTS, AUDIO_SEGMENTS.configuration)
    await eventually(lambda: accepted(system, early))
    system.expect(event)
    outcome.hit(await system.behind("copier"))
    with outcome.recovering():
        crew(system)
        await system.settles()
    await system.account(outcome)


async def accepted(system: System, record: Record) -> bool:
    await system.put(AUDIO_SEGMENTS, record)
    return True
