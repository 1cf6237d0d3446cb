"""Three brokers, three replicas of everything, two in sync at least: one fails, then another, then two at once."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from earshot.kernel.errors import Unavailable
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS
from earshot.processes import new_topics
from tests.faults.brokers import all_is_well, busy, coordinator, crew, insist, leaders, traffic, whole, works
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.servers import KafkaCluster
from tests.waiting import eventually

pytestmark = pytest.mark.kafka
IMPATIENT = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
"""Of a controller that takes a broker for dead; Kafka's own are 9 s and 2 s."""
Have = Callable[[Callable[[], KafkaCluster]], KafkaCluster]


@pytest.fixture
def impatient_cluster(have: Have) -> Iterator[KafkaCluster]:
    """Three brokers that notice sooner than Kafka's defaults that one is dead."""
    with have(lambda: KafkaCluster(IMPATIENT)) as made:
        yield made


@pytest.fixture(scope="module")
def patient_cluster(have: Have) -> Iterator[KafkaCluster]:
    """Three brokers with Kafka's own timeouts, for all tests of this file."""
    with have(KafkaCluster) as made:
        yield made


@pytest.fixture
def cluster(patient_cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    """The three brokers; those that a test has ended run again after it."""
    yield patient_cluster
    ended = [number for number, node in patient_cluster.nodes.items() if node.runner.ended()]
    if ended:
        patient_cluster.start(*ended)


async def pipeline(cluster: KafkaCluster, folder: Path) -> System:
    """A pipeline whose topics have three replicas and are made as ``earshot topics create`` makes them."""
    system = System(cluster.url, folder, replication=cluster.SIZE)
    await eventually(lambda: whole(system, cluster.SIZE), within=90)
    as_made = new_topics(system.settings)
    prefix = system.settings.topic_prefix
    await system.prepare(**{name.removeprefix(prefix).replace(".", "_"): kept for name, kept in as_made.items()})
    return system


@pytest.fixture
async def replicated(cluster: KafkaCluster, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline on three brokers with Kafka's own timeouts."""
    made = await pipeline(cluster, tmp_path)
    yield made
    await made.close()


@pytest.mark.timeout(400)  # three brokers to start on a busy machine
@pytest.mark.row(8, "`kill -9` of a broker of three, which leads partitions, under traffic")
async def test_one_of_three_brokers_is_killed(
    impatient_cluster: KafkaCluster, tmp_path: Path, outcome: Outcome
) -> None:
    system = await pipeline(impatient_cluster, tmp_path)
    workers = crew(system)
    async with traffic(system):
        await works(system)
        victim = min(await leaders(system, AUDIO_SEGMENTS))
        outcome.hit(await busy(system))
        impatient_cluster.kill(victim)
        with outcome.recovering():
            await works(system)
    await all_is_well(system, outcome, workers)
    await system.close()


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.row(8, "`kill -9` of each of three brokers in turn, the controller among them, under traffic")
async def test_each_of_three_brokers_is_killed(cluster: KafkaCluster, replicated: System, outcome: Outcome) -> None:
    system, seed = replicated, random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    workers = crew(system)
    async with traffic(system):
        for victim in random.Random(seed).sample(sorted(cluster.nodes), cluster.SIZE):
            await works(system)
            await eventually(lambda: whole(system, cluster.SIZE), within=90)
            outcome.hit(await busy(system))
            cluster.kill(victim)
            with outcome.recovering():
                await works(system)
            await asyncio.to_thread(cluster.start, victim)
    await all_is_well(system, outcome, workers)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.row(8, "SIGSTOP of a broker of three, which leads partitions: its connections stay open, and silent")
async def test_one_of_three_brokers_freezes(cluster: KafkaCluster, replicated: System, outcome: Outcome) -> None:
    """As after a power cut of its machine, nobody is told that it is gone."""
    system = replicated
    workers = crew(system)
    await works(system)
    frozen = cluster.nodes[min(await leaders(system, AUDIO_SEGMENTS) & await leaders(system, AUDIO_TRANSCRIPTS))]
    async with traffic(system):
        outcome.hit(await busy(system))
        frozen.suspend()
        try:
            with outcome.recovering():
                await works(system, within=240)
        finally:
            frozen.resume()
    await all_is_well(system, outcome, workers)
    await system.log.close()
    gc.collect()  # aiokafka leaves connections open that were given up while they opened


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.row(8, "two of three brokers ended by `kill -9`, and by SIGTERM, with work in hand")
async def test_two_of_three_brokers_are_gone(
    cluster: KafkaCluster, replicated: System, outcome: Outcome, how: str
) -> None:
    """One replica is not enough: no send is acknowledged, no offset committed, until the others are back."""
    system, gone = replicated, (1, 2)
    await system.publish(*[event.model_copy(update={"language": "slow"}) for event in system.segments(6)])
    copier, shelver = system.start("copier", slow_send_s=1), system.start("shelver")
    await eventually(lambda: len(system.shelf.notes("slow")) >= 2, within=60)  # both batches in work
    outcome.hit(await system.behind("copier"))
    for number in gone:
        await asyncio.to_thread(getattr(cluster, how), number)
    system.shelf.note("release")
    fresh = system.segments(6)
    with pytest.raises(Unavailable):
        await system.publish(*fresh)
    await eventually(lambda: system.state("copier")[0] == "paused", within=60)
    copier.signal(signal.SIGKILL)
    await copier.ended()

    await asyncio.to_thread(cluster.start, *gone)
    with outcome.recovering():
        await eventually(lambda: whole(system, cluster.SIZE), within=120)
        assert {done for done, _ in (await system.lag("copier")).values()} == {0}
        copier = system.start("copier")
        await insist(system, *fresh)
        await works(system)
    await all_is_well(system, outcome, [copier, shelver])


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.row(24, "`kill -9` of the broker that coordinates the group, under traffic")
async def test_the_coordinator_of_the_group_is_killed(
    cluster: KafkaCluster, replicated: System, outcome: Outcome
) -> None:
    system = replicated
    workers = crew(system)
    async with traffic(system):
        await works(system)
        victim = await coordinator(system, "copier")
        outcome.hit(await busy(system))
        cluster.kill(victim)
        with outcome.recovering():
            await works(system)
        assert await coordinator(system, "copier") != victim
    await all_is_well(system, outcome, workers)
