"""``kill -9`` at each of the four moments at which it hurts, of both stages: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import signal

import pytest

from tests.faults.guarantees import Outcome
from tests.faults.system import System

POINTS = ("after_fetch", "in_work", "after_send", "after_ack")
STAGES = ("copier", "shelver")


KILLED = pytest.mark.row(1, "`kill -9` after the fetch, in work, after the send, after the acknowledgement")


@KILLED
async def test_killed_once_at_each_point(system: System, outcome: Outcome) -> None:
    """The stages die at different points at the same time."""
    for number, point in enumerate(POINTS):
        await both_die(system, outcome, {"copier": point, "shelver": POINTS[number - 2]}, random.Random(number))
    await both_finish(system, outcome)


@KILLED
@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("point", POINTS)
async def test_killed_twenty_times_at_a_point(system: System, outcome: Outcome, point: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    for _ in range(20):
        # Half of them as dynamic members, whose successors wait for the end of the dead one's session.
        await both_die(system, outcome, dict.fromkeys(STAGES, point), chance, static=chance.random() < 0.5)
    await both_finish(system, outcome)


async def both_die(
    system: System, outcome: Outcome, points: dict[str, str], chance: random.Random, static: bool = True
) -> None:
    """Give both stages work of their own and let each die at its point, the first or the second time it passes."""
    await system.publish(*system.segments(9))
    await system.publish_transcripts(*system.segments(4))
    victims = {
        stage: system.start(stage, point=points[stage], nth=chance.randint(1, 2), instance_id=stage if static else "")
        for stage in STAGES
    }
    for stage, victim in victims.items():
        assert await victim.ended() == -signal.SIGKILL, victim.log()
        outcome.hit(await system.behind(stage))


async def both_finish(system: System, outcome: Outcome) -> None:
    with outcome.recovering():
        survivors = [system.start(stage) for stage in STAGES]
        await system.settles()
    for survivor in survivors:
        survivor.signal(signal.SIGTERM)
        assert await survivor.ended() == 0, survivor.log()
    await system.account(outcome, *STAGES)
