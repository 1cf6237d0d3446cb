"""Asked to end while at work; asked to forget what is at work."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from tests.faults.conftest import EITHER
from tests.faults.system import System, Worker
from tests.waiting import eventually


async def at_work(system: System, number: int = 3, **worker: Any) -> tuple[Worker, list[SegmentCut]]:
    """A copier in the middle of segments that take until ``release`` is noted."""
    slow = [item.model_copy(update={"language": "slow"}) for item in system.segments(number)]
    await system.publish(*slow)
    copier = system.start("copier", **worker)
    await eventually(lambda: system.shelf.notes("slow"))
    return copier, slow


async def test_sigterm_lets_the_unit_in_work_finish_and_commits_it(system: System) -> None:
    copier, _ = await at_work(system, number=1)
    copier.signal(signal.SIGTERM)
    await eventually(lambda: "ending" in copier.log())
    system.shelf.note("release")
    assert await copier.ended() == 0
    assert await system.behind("copier") == 0
    assert len(await system.records(AUDIO_TRANSCRIPTS)) == 1


@EITHER
async def test_a_unit_that_outlasts_the_drain_is_done_again_by_the_next_worker(system: System) -> None:
    copier, _ = await at_work(system, drain_s=0.3)
    copier.signal(signal.SIGTERM)
    assert await copier.ended() == 0
    assert await system.behind("copier") == 3
    system.shelf.note("release")
    system.start("copier")
    system.start("shelver")
    await system.settles()


@EITHER
async def test_a_paused_stage_does_not_wait_for_the_drain(system: System) -> None:
    await system.publish(*[item.model_copy(update={"language": "down"}) for item in system.segments(2)])
    copier = system.start("copier", drain_s=3600, retry_first_s=3600, retry_max_s=3600)
    await eventually(lambda: system.state("copier")[0] == "paused")
    copier.signal(signal.SIGTERM)
    assert await copier.ended() == 0
    assert await system.behind("copier") == 2


@EITHER
async def test_a_second_sigterm_ends_it_at_once(system: System) -> None:
    copier, _ = await at_work(system)
    copier.signal(signal.SIGTERM)
    await eventually(lambda: "ending" in copier.log())
    copier.signal(signal.SIGTERM)
    assert await copier.ended() == 128 + signal.SIGTERM
    assert await system.behind("copier") == 3


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
