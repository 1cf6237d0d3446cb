"""Asked to end while at work; asked to forget what is at work."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from earshot.kernel.ending import EXIT_FORCED
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.system import System, Worker
from tests.servers import KafkaServer
from tests.waiting import eventually


async def at_work(system: System, number: int = 3, **worker: Any) -> tuple[Worker, list[SegmentCut]]:
    """A copier in the middle of segments that take until ``release`` is noted."""
    slow = [item.model_copy(update={"language": "slow"}) for item in system.segments(number)]
    await system.publish(*slow)
    copier = system.start("copier", **worker)
    await eventually(lambda: system.shelf.notes("slow"))
    return copier, slow


async def asked(system: System, copier: Worker, outcome: Outcome, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask a copier to end, and return when it knows."""
    outcome.hit(await system.behind("copier"))
    copier.signal(number)
    await eventually(lambda: "ending" in copier.log())


async def done_by_the_next(system: System, outcome: Outcome) -> None:
    """What was not finished is, by the next worker; exactly once in the store."""
    system.shelf.note("release")
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    await system.account(outcome)


@pytest.mark.row(19, "SIGTERM during a unit that ends within the drain")
async def test_sigterm_lets_the_unit_in_work_finish_and_commits_it(system: System, outcome: Outcome) -> None:
    copier, _ = await at_work(system, number=1)
    await asked(system, copier, outcome)
    system.shelf.note("release")
    assert await copier.ended() == 0
    assert await system.behind("copier") == 0
    assert len(await system.records(AUDIO_TRANSCRIPTS)) == 1
    await done_by_the_next(system, outcome)


@EITHER
@pytest.mark.row(19, "SIGINT during a unit that outlasts the drain")
async def test_a_unit_that_outlasts_the_drain_is_done_again_by_the_next_worker(
    system: System, outcome: Outcome
) -> None:
    copier, _ = await at_work(system, drain_s=0.3)
    await asked(system, copier, outcome, signal.SIGINT)
    assert await copier.ended() == 0
    assert await system.behind("copier") == 3
    await done_by_the_next(system, outcome)


@EITHER
@pytest.mark.row(19, "SIGTERM during the wait before another try")
async def test_a_paused_stage_does_not_wait_for_the_drain(system: System, outcome: Outcome) -> None:
    await system.publish(*[item.model_copy(update={"language": "down"}) for item in system.segments(2)])
    copier = system.start("copier", drain_s=3600, retry_first_s=3600, retry_max_s=3600)
    await eventually(lambda: system.state("copier")[0] == "paused")
    await asked(system, copier, outcome)
    assert await copier.ended() == 0
    assert await system.behind("copier") == 2
    await done_by_the_next(system, outcome)


@EITHER
@pytest.mark.row(19, "SIGTERM twice")
async def test_a_second_sigterm_ends_it_at_once(system: System, outcome: Outcome) -> None:
    copier, _ = await at_work(system, drain_s=3600)
    await asked(system, copier, outcome)
    copier.signal(signal.SIGTERM)
    assert await copier.ended() == EXIT_FORCED
    assert await system.behind("copier") == 3
    await done_by_the_next(system, outcome)


@contextmanager
def locked(log: Path) -> Iterator[None]:
    """Keep the embedded log from every writer, as a process that hangs in a write would."""
    with Path(f"{log}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
@pytest.mark.row(19, "SIGTERM while the log cannot be written")
async def test_it_ends_in_time_while_the_embedded_log_cannot_be_written(system: System, outcome: Outcome) -> None:
    copier, _ = await at_work(system, drain_s=0.5, stop_s=0.5)
    before = await system.behind("copier")
    outcome.hit(before)
    with locked(Path(system.settings.broker.removeprefix("sqlite://"))):
        system.shelf.note("release")  # so it is done with its work, and can neither publish nor commit
        copier.signal(signal.SIGTERM)
        assert await copier.ended() == 0
    assert await system.behind("copier") == before
    await done_by_the_next(system, outcome)


@pytest.fixture
async def on_its_own(kafka_server: KafkaServer, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline whose broker may be taken away."""
    made = System(kafka_server.url, tmp_path)
    await made.prepare()
    yield made
    await made.close()


@pytest.mark.kafka
@pytest.mark.full
@pytest.mark.row(19, "SIGTERM while the broker is down")
async def test_it_ends_in_time_while_the_broker_is_down(
    on_its_own: System, kafka_server: KafkaServer, outcome: Outcome
) -> None:
    system = on_its_own
    copier, _ = await at_work(system, drain_s=2, stop_s=2)
    outcome.hit(await system.behind("copier"))
    kafka_server.kill()
    system.shelf.note("release")  # so it is done with its work, and can neither publish nor commit
    copier.signal(signal.SIGTERM)
    assert await copier.ended(within=30) == 0
    kafka_server.start()
    await done_by_the_next(system, outcome)


@EITHER
@pytest.mark.parametrize("state", ["erased", "cancelled"])
async def test_what_is_withdrawn_while_it_is_at_work_is_undone(system: System, state: str) -> None:
    _, slow = await at_work(system)
    for event in slow:
        system.shelf.run("INSERT OR REPLACE INTO standings VALUES ('t', ?, ?, 1)", event.recording_id, state)
    system.expected.texts.clear()
    system.shelf.note("release")
    system.start("shelver")
    await system.settles()
    last = {record.key: record.value for record in await system.records(AUDIO_TRANSCRIPTS)}
    assert last == {AUDIO_TRANSCRIPTS.key(event).encode(): None for event in slow}
