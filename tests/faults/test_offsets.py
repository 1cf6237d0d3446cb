"""A group's offsets are deleted, or point outside the log: it is read from the earliest record again. Kafka only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS
from tests.faults.brokers import all_is_well, crew, delete_group, delete_records, dismissed, move_offsets, works
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.full]
DONE = 18


@pytest.fixture
async def idle(kafka_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline that has worked on some segments, has committed, and has no workers."""
    made = System(kafka_url, tmp_path)
    await made.prepare()
    workers = crew(made)
    await made.publish(*made.segments(DONE))
    await made.settles()
    await dismissed(workers)
    yield made
    await made.close()


async def transcripts(system: System) -> int:
    return len(await system.records(AUDIO_TRANSCRIPTS))


@pytest.mark.row(24, "the group is deleted with its offsets, as it expires after a week without workers")
async def test_a_group_without_offsets_begins_at_the_earliest_record(idle: System, outcome: Outcome) -> None:
    system = idle
    await eventually(lambda: deleted(system), within=30)
    await system.publish(*system.segments(6))
    outcome.hit(await system.behind("copier"))
    assert await system.behind("copier") == DONE + 6
    with outcome.recovering():
        workers = crew(system)
        await system.settles()
    assert await transcripts(system) == DONE + DONE + 6  # all again, which costs work and harms nothing
    await all_is_well(system, outcome, workers)


async def deleted(system: System) -> bool:
    await delete_group(system, "copier")
    return True


@pytest.mark.row(24, "the log ends before the offsets of the group, as after it was made again")
async def test_a_log_that_ends_before_the_commit_is_read_from_the_start(idle: System, outcome: Outcome) -> None:
    """With the old offset kept as the last commit, what arrives until the log is as long again would be in danger."""
    system = idle
    beyond = {place: end + 1000 for place, (_, end) in (await system.lag("copier")).items()}
    await move_offsets(system, "copier", beyond)
    await system.publish(*system.segments(6))
    outcome.hit(in_flight=6)
    with outcome.recovering():
        workers = crew(system)
        await system.settles()
    assert await transcripts(system) == DONE + DONE + 6
    assert "log_ended_before_the_commit" in workers[0].log()
    await works(system)
    await all_is_well(system, outcome, workers)


@pytest.mark.row(24, "retention has deleted records that nobody had read: the offsets lie before the log's start")
async def test_what_was_deleted_unread_is_named_and_the_rest_is_worked_on(idle: System, outcome: Outcome) -> None:
    system = idle
    await system.publish(*system.segments(12), arrives=False)
    lag = await system.lag("copier")
    gone = sum(end - done for done, end in lag.values())
    await delete_records(system, AUDIO_SEGMENTS, {partition: end for (_, partition), (_, end) in lag.items()})
    await system.publish(*system.segments(12))
    outcome.hit(await system.behind("copier"))
    with outcome.recovering():
        workers = crew(system)
        await system.settles()
    told = [line for line in workers[0].log().splitlines() if "records_deleted_unread" in line]
    assert sum(json.loads(line)["number"] for line in told) == gone
    await all_is_well(system, outcome, workers)
