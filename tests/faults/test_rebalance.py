"""Workers come and go, the broker falls and rises: nothing lost, nobody stuck. Kafka only."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.system import System, Worker
from tests.servers import KafkaServer
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


async def test_workers_join_leave_and_die_while_events_flow(on_kafka: System) -> None:
    """Buffers of two batches are full at every rebalance, so a lost wake-up would show as a worker that idles."""
    system = on_kafka
    system.start("shelver")
    workers: list[Worker] = []
    for fate in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        await system.publish(*system.segments(60))
        workers.append(await joined(system))
        if len(workers) > 1:
            leaver = workers.pop(0)
            leaver.signal(fate)
            await leaver.ended()
    await system.publish(*system.segments(60))
    await system.settles(within=120)


async def test_a_unit_longer_than_a_rebalance_is_not_passed_back_and_forth(on_kafka: System) -> None:
    system = on_kafka
    slow = [event.model_copy(update={"language": "slow"}) for event in system.segments(1)]
    await system.publish(*slow, *system.segments(20))
    first = await joined(system)
    await eventually(lambda: system.shelf.notes("slow"))
    await joined(system)
    system.shelf.note("release")
    system.start("shelver")
    await system.settles(within=90)
    assert len(system.shelf.notes("slow")) <= 3
    assert first.alive


async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kafka_server: KafkaServer, tmp_path: Path) -> None:
    system = System(kafka_server.url, tmp_path)
    await system.prepare()
    workers = [system.start("copier"), system.start("shelver")]
    await system.publish(*system.segments(30))
    await eventually(lambda: len(system.shelf.passages()) > 4)
    for _ in range(2):
        kafka_server.kill()
        kafka_server.start()
        await eventually(lambda: _published(system), within=60)
        await system.settles(within=120)
    assert all(worker.alive for worker in workers), [worker.log()[-2000:] for worker in workers]
    await system.close()


async def _published(system: System) -> bool:
    await system.publish(*system.segments(20))
    return True
