"""Workers come and go, the broker falls and rises: nothing lost, nobody stuck. Kafka only."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.guarantees import Outcome
from tests.faults.system import System, Worker
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.full]


@pytest.fixture
async def on_kafka(kafka_url: str, tmp_path: Path) -> AsyncIterator[System]:
    made = System(kafka_url, tmp_path)
    await made.prepare()
    yield made
    await made.close()


async def joined(system: System) -> Worker:
    """One copier more, once it runs."""
    worker = system.start("copier", instance_id="")
    await eventually(lambda: "started" in worker.log(), within=60)
    return worker


STORM = pytest.mark.row(4, "workers join, and leave by SIGTERM or `kill -9`, one of each every few seconds")


@STORM
async def test_workers_join_leave_and_die_while_events_flow(on_kafka: System, outcome: Outcome) -> None:
    """Buffers of two batches are full at every rebalance, so a lost wake-up would show as a worker that idles."""
    await storm(on_kafka, outcome, [signal.SIGTERM, signal.SIGKILL] * 2)


@STORM
@pytest.mark.timeout(1500)
async def test_twenty_storms(on_kafka: System, outcome: Outcome) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    for _ in range(20):
        await storm(on_kafka, outcome, chance.choices((signal.SIGTERM, signal.SIGKILL), k=chance.randint(1, 3)))


async def storm(system: System, outcome: Outcome, fates: list[signal.Signals]) -> None:
    """For each fate a worker joins a group that is at work, and the eldest meets it."""
    if not system.workers:
        system.start("shelver")
        await joined(system)
    for fate in fates:
        await system.publish(*system.segments(60))
        await joined(system)
        leaver = next(worker for worker in system.workers[1:] if worker.alive)
        outcome.hit(await eventually(lambda: in_flight(system)))
        leaver.signal(fate)
        await leaver.ended()
    with outcome.recovering():
        await system.settles(within=120)
    await account_once(system, outcome)


async def in_flight(system: System) -> int:
    """Publish, and say how much of it is not done yet."""
    await system.publish(*system.segments(60))
    return await system.behind("copier")


async def account_once(system: System, outcome: Outcome) -> None:
    """What all storms so far came to; each account counts everything anew."""
    outcome.published = outcome.duplicates = 0
    await system.account(outcome)


@pytest.mark.row(5, "a worker joins while another is in a unit that outlasts the rebalance; stock Faust never ends it")
async def test_a_unit_longer_than_a_rebalance_is_not_passed_back_and_forth(on_kafka: System, outcome: Outcome) -> None:
    system = on_kafka
    slow = [event.model_copy(update={"language": "slow"}) for event in system.segments(1)]
    await system.publish(*slow, *system.segments(20))
    first = await joined(system)
    await eventually(lambda: system.shelf.notes("slow"))
    outcome.hit(await system.behind("copier"), faults=2)
    for _ in range(2):
        await joined(system)
    with outcome.recovering():
        system.shelf.note("release")
        system.start("shelver")
        await system.settles(within=90)
    assert len(system.shelf.notes("slow")) <= 3
    assert first.alive
    await system.account(outcome)
