"""The relay waits out what passes, and lets nothing that will not pass block the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from earshot.adapters.catalog import Catalog
from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import LimitExceeded
from earshot.kernel.fairness import Window
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, RECORDINGS_ERASED, TOPICS, slot_of_key
from earshot.relay.app import run
from earshot.relay.relay import EVERYTHING, Pace, Vitals, Work, alone, relay
from earshot.relay.settings import RelaySettings
from earshot.relay.tidy import collect_orphans
from tests.fakes_catalog import TRACE, FakeLeases, accepted, new, new_catalog, transcribed, upload
from tests.fakes_log import FakeLog
from tests.fakes_media import FakeBlobs
from tests.waiting import eventually

PARTITIONS = 5
PLACES = {topic.name: (f"x.{topic.name}", PARTITIONS) for topic in TOPICS}


@pytest.fixture
async def catalog(tmp_path) -> AsyncIterator[Catalog]:
    catalog = await new_catalog(tmp_path)
    yield catalog
    await catalog.close()


@asynccontextmanager
async def relaying(catalog: Catalog, log: FakeLog, window: Window = EVERYTHING) -> AsyncIterator[Vitals]:
    vitals = Vitals()
    pace = Pace(rows=10, poll_s=0.01, retry_max_s=0.05, publish_s=0.5, window=window)
    task = asyncio.create_task(relay(catalog, log, PLACES, Codec(), vitals, pace, asyncio.Event()))
    try:
        yield vitals
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def new_log() -> FakeLog:
    return FakeLog(dict(PLACES.values()))


async def test_rows_are_published_where_their_key_belongs_and_then_gone(catalog):
    log = new_log()
    jobs = [await accepted(catalog) for _ in range(12)]
    async with relaying(catalog, log) as vitals:
        await eventually(lambda: vitals.published == 12)
    assert await _empty(catalog)
    assert [record.key.decode() for record in log.records] == [job.job.recording_id for job in jobs]
    assert all(record.partition == slot_of_key(record.key.decode()) % PARTITIONS for record in log.records)


async def _empty(catalog: Catalog) -> bool:
    return not await catalog.pending(1) and not (await catalog.backlog()).uploads


async def test_an_outage_is_waited_out_with_its_reason(catalog):
    log = new_log()
    log.down = True
    await accepted(catalog)
    async with relaying(catalog, log) as vitals:
        await eventually(lambda: vitals.reason)
        log.down = False
        await eventually(lambda: len(log.records) == 1)
        await eventually(lambda: not vitals.reason)


async def test_while_the_broker_is_not_there_at_the_start_the_relay_says_so(tmp_path):
    kit = Kit(Settings(data=tmp_path, broker_url=f"sqlite://{tmp_path}/log.sqlite"))
    kit.log = log = FakeLog(dict.fromkeys((topic.name for topic in TOPICS), PARTITIONS))
    log.down = True
    await kit.catalog.migrate()
    await accepted(kit.catalog)
    running = asyncio.create_task(run(kit, RelaySettings(heartbeat_s=0.05, retry_max_s=0.05)))
    await eventually(lambda: _beats(kit.catalog, "paused"))
    log.down = False
    await eventually(lambda: _beats(kit.catalog, "running"))
    assert len(log.records) == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def _beats(catalog: Catalog, state: str) -> bool:
    [beat] = await catalog.heartbeats()
    return (beat.stage, beat.state, bool(beat.reason)) == ("relay", state, state == "paused")


async def test_a_broker_that_never_answers_is_no_reason_to_hang(catalog):
    class Silent(FakeLog):
        async def publish(self, records: Sequence[Record]) -> None:
            await asyncio.Event().wait()

    await accepted(catalog)
    async with relaying(catalog, Silent()) as vitals:
        await eventually(lambda: "did not acknowledge" in vitals.reason)
    assert not await _empty(catalog)


async def test_asked_to_end_it_finishes_the_rows_that_are_being_published(catalog):
    class Slow(FakeLog):
        begun, let_go = asyncio.Event(), asyncio.Event()

        async def publish(self, records: Sequence[Record]) -> None:
            self.begun.set()
            await self.let_go.wait()
            await super().publish(records)

    log, ending = Slow(dict(PLACES.values())), asyncio.Event()
    await accepted(catalog)
    pace = Pace(rows=1, poll_s=3600)
    task = asyncio.create_task(relay(catalog, log, PLACES, Codec(), Vitals(), pace, ending))
    await asyncio.wait_for(log.begun.wait(), 10)
    await accepted(catalog)
    ending.set()
    log.let_go.set()
    await asyncio.wait_for(task, 10)
    assert (len(log.records), (await catalog.backlog()).uploads) == (1, 1)


async def test_asked_to_end_it_does_not_sleep_on(catalog):
    ending = asyncio.Event()
    task = asyncio.create_task(relay(catalog, new_log(), PLACES, Codec(), Vitals(), Pace(poll_s=3600), ending))
    await asyncio.sleep(0)
    ending.set()
    await asyncio.wait_for(task, 10)


async def test_a_row_the_broker_refuses_becomes_a_failure_a_person_sees(catalog):
    class Narrow(FakeLog):
        async def publish(self, records: Sequence[Record]) -> None:
            if any(len(record.value or b"") > 5000 for record in records):
                raise LimitExceeded("The record is too large.")
            await super().publish(records)

    of = upload(uri="", sha256="")
    texts = ("short", "x" * 6000, "short too")
    segments = tuple(transcribed("default", of.recording_id, n, text=text) for n, text in enumerate(texts))
    job = (await catalog.accept(new(of, source_key=None, segments=segments))).job
    log = Narrow(dict(PLACES.values()))
    async with relaying(catalog, log):
        await eventually(lambda: _empty(catalog))
    transcripts = [record for record in log.records if record.topic == PLACES[AUDIO_TRANSCRIPTS.name][0]]
    assert [record.key.decode()[-2:] for record in transcripts] == [":0", ":2"]
    [stage] = (await catalog.job("default", job.id)).stages
    assert (stage.stage, stage.failed) == ("relay", 1)


async def test_uploads_beyond_the_window_wait_until_a_job_has_ended(catalog):
    log = new_log()
    jobs = [await accepted(catalog, claimed_ms=60_000) for _ in range(3)]
    async with relaying(catalog, log, Window(60_000, 60_000)):
        await eventually(lambda: len(log.records) == 1)
        await catalog.erase("default", jobs[2].job.recording_id, TRACE)
        await eventually(lambda: len(log.on(PLACES[RECORDINGS_ERASED.name][0])) == 1)
        assert len(log.on(PLACES[AUDIO_UPLOADED.name][0])) == 1, "an upload did not wait for its turn"
        await catalog.cancel("default", jobs[0].job.id, TRACE)
        await eventually(lambda: len(log.on(PLACES[AUDIO_UPLOADED.name][0])) == 2)


async def test_a_relay_that_died_before_it_published_leaves_what_may_go_to_the_next(catalog):
    job = await accepted(catalog, claimed_ms=60_000)
    assert await catalog.let_go(Window(60_000, 60_000), 10) == 1  # and here it died
    log = new_log()
    async with relaying(catalog, log, Window(60_000, 60_000)):
        await eventually(lambda: _empty(catalog))
    assert [record.key.decode() for record in log.records] == [job.job.recording_id]
    assert (await catalog.backlog()).in_flight_ms == 60_000, "it was counted twice, or not at all"


class Working:
    """Work of a relay: notes who does it, and goes on until the lease is lost or the test lets it end."""

    def __init__(self) -> None:
        self.at_work: list[str] = []

    def of(self, name: str, ending: asyncio.Event) -> Work:
        async def work(lost: Callable[[], bool]) -> None:
            self.at_work.append(name)
            await eventually(lambda: lost() or ending.is_set(), every=0.01)
            self.at_work.remove(name)

        return work


async def test_of_two_relays_one_works_and_the_other_stands_by_until_it_is_gone():
    leases, working = FakeLeases(), Working()
    endings = {name: asyncio.Event() for name in "ab"}
    vitals = {name: Vitals() for name in "ab"}
    tasks = {
        name: asyncio.create_task(alone(leases, name, 1.0, vitals[name], ending, working.of(name, ending)))
        for name, ending in endings.items()
    }
    await eventually(lambda: working.at_work == ["a"] and "Another worker" in vitals["b"].reason)
    endings["a"].set()
    await asyncio.wait_for(tasks["a"], 10)
    await eventually(lambda: working.at_work == ["b"] and not vitals["b"].reason)
    endings["b"].set()
    await asyncio.wait_for(tasks["b"], 10)


async def test_a_relay_that_was_killed_is_followed_when_its_lease_has_run_out():
    leases, working, ending = FakeLeases(), Working(), asyncio.Event()
    assert await leases.acquire("relay", "killed", 0.5)
    task = asyncio.create_task(alone(leases, "b", 0.5, Vitals(), ending, working.of("b", ending)))
    await eventually(lambda: working.at_work == ["b"])
    ending.set()
    await asyncio.wait_for(task, 10)


async def test_a_relay_whose_lease_was_taken_stops_and_stands_by():
    leases, working, ending, vitals = FakeLeases(), Working(), asyncio.Event(), Vitals()
    task = asyncio.create_task(alone(leases, "a", 0.3, vitals, ending, working.of("a", ending)))
    await eventually(lambda: working.at_work == ["a"])
    leases.held["relay"] = ("b", time.monotonic() + 3600)
    await eventually(lambda: not working.at_work and vitals.reason)
    ending.set()
    await asyncio.wait_for(task, 10)


async def test_only_old_blobs_of_no_recording_are_collected(catalog):
    blobs = FakeBlobs()
    job = (await accepted(catalog)).job
    known, orphan = f"default/recordings/{job.recording_id}/source", "default/recordings/unknown/source"
    for key in (known, orphan, "default/transcripts/x"):
        await blobs.put(key, b"x")
    now = datetime.now(UTC)
    day = timedelta(days=1)
    assert await collect_orphans(blobs, catalog, now - timedelta(days=300), day) == 0
    assert await collect_orphans(blobs, catalog, now + 2 * day, day) == 1
    assert await blobs.size(known) == 1
    assert [key async for key, _ in blobs.list("default/recordings/unknown/")] == []
