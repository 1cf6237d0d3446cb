"""A worker freezes with work in its hands, is replaced, and wakes up: its late outputs change nothing."""

from __future__ import annotations

import signal

import pytest

from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.streams.host import EXIT_MISCONFIGURED
from tests.faults.brokers import works
from tests.faults.guarantees import Outcome
from tests.faults.system import System, Worker
from tests.waiting import eventually

ON_KAFKA = pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True)
MEMBERS = [("", ""), pytest.param("one", "other", marks=pytest.mark.full)]
"""Names of static members of the group, empty for dynamic ones."""


@ON_KAFKA
@pytest.mark.parametrize(("name", "heirs_name"), MEMBERS)
@pytest.mark.row(6, "SIGSTOP with work in hand until another worker of the group has done it, then SIGCONT")
async def test_a_worker_that_wakes_up_too_late_commits_nothing(
    system: System, outcome: Outcome, name: str, heirs_name: str
) -> None:
    """Its commits are of a generation that is over; what it sends is what its heir has sent."""
    zombie = await with_work_in_hand(system, name)
    outcome.hit(await system.behind("copier"))
    zombie.signal(signal.SIGSTOP)
    heir = system.start("copier", instance_id=heirs_name)
    system.start("shelver")
    with outcome.recovering():
        await eventually(lambda: len(system.shelf.notes("slow")) > 1, within=60)
        system.shelf.note("release")
        await system.settles()
    done = await system.lag("copier")
    zombie.signal(signal.SIGCONT)
    await eventually(lambda: twice(system), within=60)
    await works(system)
    await system.settles()
    after = await system.lag("copier")
    assert all(after[place][0] >= done[place][0] for place in done), (done, after)
    assert zombie.alive, zombie.log()
    assert heir.alive, heir.log()
    await system.account(outcome)


@pytest.mark.full
@pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
@pytest.mark.row(6, "SIGSTOP with work in hand; another worker is refused meanwhile; SIGCONT")
async def test_a_worker_that_wakes_up_goes_on_where_it_was(system: System, outcome: Outcome) -> None:
    """The embedded log has one worker a stage, and whoever holds it keeps it while it lives."""
    zombie = await with_work_in_hand(system)
    outcome.hit(await system.behind("copier"))
    zombie.signal(signal.SIGSTOP)
    system.shelf.note("release")
    assert await system.start("copier").ended() == EXIT_MISCONFIGURED
    system.start("shelver")
    with outcome.recovering():
        zombie.signal(signal.SIGCONT)
        await system.settles()
    assert zombie.alive, zombie.log()
    await system.account(outcome)


async def with_work_in_hand(system: System, instance_id: str = "") -> Worker:
    """A copier that has begun with a segment that takes long."""
    slow = [event.model_copy(update={"language": "slow"}) for event in system.segments(1)]
    await system.publish(*slow, *system.segments(30))
    worker = system.start("copier", instance_id=instance_id)
    await eventually(lambda: system.shelf.notes("slow"), within=60)
    return worker


async def twice(system: System) -> bool:
    """Whether the log holds a transcript more than once."""
    keys = [record.key for record in await system.records(AUDIO_TRANSCRIPTS)]
    return len(keys) > len(set(keys))
