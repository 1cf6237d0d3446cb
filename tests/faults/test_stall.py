"""A worker that stalls in silence is ended in time, and not ready until then; one that waits or works is left alone."""

from __future__ import annotations

import httpx
import pytest

from earshot.streams.watchdog import EXIT_STUCK
from tests.faults.brokers import lasting
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.processes import free_ports
from tests.waiting import eventually

REASONS = {
    "hang": ("costly", "A unit has been in work for 2 s without any progress."),
    "starve": ("copier", "Nothing was delivered for 3 s"),
    "block": ("copier", "The event loop has not turned for 5 s."),
}
"""By stall: whose, and what its watchdog says; the costly stage's deadline is one second a batch in work."""


async def is_ready(port: int) -> bool:
    """Whether a worker answers that it is ready; one that does not answer is not."""
    try:
        async with httpx.AsyncClient(timeout=1) as http:
            answer = await http.get(f"http://127.0.0.1:{port}/health/ready")
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


@EITHER
@pytest.mark.parametrize("stall", ["starve", *[pytest.param(how, marks=pytest.mark.full) for how in ("hang", "block")]])
@pytest.mark.row(23, "the unit, the thread that fetches, or the event loop hangs for an hour")
async def test_a_silent_stall_ends_the_worker_in_time_and_shows_in_its_readiness(
    system: System, outcome: Outcome, stall: str
) -> None:
    """Seconds to recover: from the stall to the exit of the worker, and then until its successor has done all."""
    (stage, reason), (port,) = REASONS[stall], free_ports(1)
    first, *others = system.segments(9)
    worker = system.start(stage, health_port=port, silence_s=3, stall_s=5)
    await eventually(lambda: is_ready(port), within=120)
    await system.publish(first.model_copy(update={"language": stall}))
    await eventually(lambda: system.shelf.notes(stall))
    with outcome.recovering():
        await system.publish(*others)
        outcome.hit(await system.behind(stage))
        await eventually(lambda: not_ready(port))
        assert await worker.ended() == EXIT_STUCK, worker.log()
    assert reason in worker.log()
    system.shelf.note("mended")
    with outcome.recovering():
        system.start(stage)
        system.start("shelver")
        await system.settles(stage, "shelver")
    await system.account(outcome, stage, "shelver")


async def not_ready(port: int) -> bool:
    return not await is_ready(port)


@EITHER
@pytest.mark.full
@pytest.mark.row(23, "no stall: a unit three times as long as silence is allowed, and a pause as long")
@pytest.mark.parametrize("wait", ["slow", "down"])
async def test_a_long_unit_and_a_paused_stage_are_left_alone(system: System, outcome: Outcome, wait: str) -> None:
    events = [event.model_copy(update={"language": wait}) for event in system.segments(9)]
    await system.publish(*events)
    worker = system.start("copier", silence_s=2, stall_s=10)
    await eventually(lambda: system.shelf.notes(wait), within=60)
    outcome.hit(await system.behind("copier"))
    await lasting(6)
    assert worker.alive, worker.log()
    system.shelf.note("release")
    with outcome.recovering():
        system.start("shelver")
        await system.settles()
    assert worker.alive, worker.log()
    await system.account(outcome)
