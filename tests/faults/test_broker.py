"""The broker restarts, is not needed for long, gives a topic more partitions: nothing is lost. Kafka only."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_SEGMENTS
from tests.fakes_stream import record_of
from tests.faults.brokers import all_is_well, arrives, busy, crew, grow, insist, lasting, traffic, works
from tests.faults.guarantees import Outcome
from tests.faults.system import System, Worker
from tests.servers import KafkaServer
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.full]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.row(7, "the only broker ended by SIGTERM, and by `kill -9`, under traffic; back after 8 to 30 s")
async def test_a_broker_that_restarts_loses_nothing(
    kafka_server: KafkaServer, tmp_path: Path, outcome: Outcome, how: str
) -> None:
    """The time to recover begins when the broker answers again."""
    system, seed = System(kafka_server.url, tmp_path), random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    await system.prepare()
    workers = crew(system)
    async with traffic(system):
        for _ in range(3):
            await works(system, within=90)
            outcome.hit(await busy(system))
            await asyncio.to_thread(getattr(kafka_server, how))
            await lasting(chance.uniform(8, 30))
            await asyncio.to_thread(kafka_server.start)
            with outcome.recovering():
                await works(system, within=90)
    await all_is_well(system, outcome, workers)
    await system.close()


IDLE_S = 3
POLL_S = 8


@pytest.fixture
def impatient_broker(have: Callable[[Callable[[], KafkaServer]], KafkaServer]) -> Iterator[KafkaServer]:
    """A broker that closes connections over which nothing comes for three seconds."""
    with have(lambda: KafkaServer(settings={"connections.max.idle.ms": str(IDLE_S * 1000)})) as server:
        yield server


@pytest.mark.row(22, "20 s of silence; the broker closes connections after 3, the group expects a poll within 8")
async def test_the_first_events_after_a_long_silence_are_worked_on(
    impatient_broker: KafkaServer, tmp_path: Path, outcome: Outcome
) -> None:
    system = System(impatient_broker.url, tmp_path)
    await system.prepare()
    impatience = {"poll_interval_s": POLL_S, "metadata_s": IDLE_S}
    workers = [system.start("costly", **impatience), system.start("shelver", **impatience)]
    await works(system)
    await system.settles("costly", "shelver")
    open_before = {worker.process.pid: connections(worker, impatient_broker) for worker in workers}
    await lasting(20)
    open_after = {worker.process.pid: connections(worker, impatient_broker) for worker in workers}
    assert all(len(open_after[pid] & open_before[pid]) < len(open_before[pid]) for pid in open_before), open_after
    fresh = system.segments(12)
    await insist(system, *fresh)
    outcome.hit(len(fresh))
    with outcome.recovering():
        await arrives(system, *fresh, within=30)
    await system.settles("costly", "shelver")
    assert all(worker.alive for worker in workers)
    await system.account(outcome, "costly", "shelver")
    await system.close()


def connections(worker: Worker, server: KafkaServer) -> set[int]:
    """The ports from which a worker is connected to a broker."""
    found = psutil.Process(worker.process.pid).net_connections("tcp")
    return {each.laddr.port for each in found if each.raddr and each.raddr.port == server.port}


@pytest.mark.row(26, "a topic grows from three to six partitions under traffic")
async def test_a_topic_that_grows_is_read_to_its_last_partition(
    kafka_url: str, tmp_path: Path, outcome: Outcome
) -> None:
    """Segments may go to any partition; those of the new ones are worked on without a restart."""
    system = System(kafka_url, tmp_path)
    await system.prepare()
    workers = crew(system, metadata_s=2)
    async with traffic(system):
        await works(system)
        outcome.hit(await busy(system))
        await grow(system, AUDIO_SEGMENTS, 6)
        fresh = system.segments(12)
        with outcome.recovering():
            await eventually(lambda: spread(system, *fresh))
            await arrives(system, *fresh)
    await all_is_well(system, outcome, workers)
    assert {partition for (_, partition), (done, _) in (await system.lag("copier")).items() if done} == set(range(6))
    await system.close()


async def spread(system: System, *events: SegmentCut) -> bool:
    """Publish segments to every new partition in turn, by a producer that has begun after the topic grew."""
    name = system.settings.topic(AUDIO_SEGMENTS.name)
    records = [
        replace(record_of(event, -1), topic=name, partition=3 + number % 3) for number, event in enumerate(events)
    ]
    log = Kit(system.settings).log
    try:
        await log.publish(records)
    finally:
        await log.close()
    system.expect(*events)
    return True
