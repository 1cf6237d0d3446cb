"""``kill -9`` at each of the four moments at which it hurts, of both stages: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import signal

import pytest

from tests.faults.system import System, Worker

POINTS = ("after_fetch", "in_work", "after_send", "after_ack")
SEEDS = (1, 2, 3, 4)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_once_each(system: System, point: str) -> None:
    await killed(system, point, rounds=1, seed=POINTS.index(point))


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("point", POINTS)
async def test_killed_twenty_times_each(system: System, point: str) -> None:
    await killed(system, point, rounds=20, seed=random.SystemRandom().randrange(2**32))


async def killed(system: System, point: str, rounds: int, seed: int) -> None:
    """Both stages die ``rounds`` times with work in flight; then both finish. ``seed`` is printed when it fails."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(rounds):
        await system.publish(*system.segments(9))
        await system.publish_transcripts(*system.segments(4))
        victims = {stage: system.start(stage, point=point, nth=chance.randint(1, 2)) for stage in ("copier", "shelver")}
        for stage, victim in victims.items():
            await dies_with_work_in_flight(system, stage, victim)
    survivors = [system.start("copier"), system.start("shelver")]
    await system.settles()
    for survivor in survivors:
        survivor.signal(signal.SIGTERM)
        assert await survivor.ended() == 0, survivor.log()
    assert await system.complaints("copier", "shelver") == []


async def dies_with_work_in_flight(system: System, stage: str, victim: Worker) -> None:
    assert await victim.ended() == -signal.SIGKILL, victim.log()
    assert await system.behind(stage) > 0, "the fault hit an idle stage"
