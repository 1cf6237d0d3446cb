"""One tenant sends much, another little: how much of the one the engine serves while the other waits, on both logs.

Counted in seconds of audio that were served in between, in the order in which they were: the promise without a clock.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from benchmarks.fairness import FEW, PROMISE, ROOT, SEGMENT_S, Served, System
from earshot.kernel.fairness import PARTS
from tests.faults.conftest import EITHER
from tests.processes import tied
from tests.waiting import eventually

OWN_S = FEW * SEGMENT_S
FIRST_S = 600
"""What of a long recording goes by the lane of its priority."""
WITHIN_S = 120.0
Started = Callable[..., Awaitable[System]]


@pytest.fixture
async def started(broker: str, tmp_path: Path) -> AsyncIterator[Started]:
    """Starts a system that has taken in so many uploads already; its process does not outlive the test."""
    systems: list[tuple[System, subprocess.Popen[bytes]]] = []

    async def start(many: int = 0, **order: float) -> System:
        system = System(broker, tmp_path, **order)
        await system.prepare()
        await system.send("many", many)
        with (tmp_path / "log").open("wb") as log:
            process = await asyncio.to_thread(subprocess.Popen, tied(system.command), cwd=ROOT, stdout=log, stderr=log)
        systems.append((system, process))
        return system

    yield start
    for system, process in systems:
        alive = process.poll() is None
        process.kill()
        process.wait()
        await system.close()
        assert alive, (tmp_path / "log").read_text(errors="replace")[-3000:]


async def in_between_s(system: System, tenant: str) -> float:
    """Seconds of others' audio that were served between the moment a tenant sends ten segments and their end."""
    before = len(system.served())
    await system.send(tenant, FEW)
    await eventually(lambda: len(system.of(tenant)) == FEW, within=WITHIN_S)
    after = system.served()[before:]
    last = max(at for at, each in enumerate(after) if each.tenant == tenant)
    return sum(SEGMENT_S for each in after[:last] if each.tenant != tenant)


def share(served: Sequence[Served], tenant: str, others: set[str]) -> float:
    """The part of others in what was served from the first of a tenant's segments to its last."""
    mine = [at for at, each in enumerate(served) if each.tenant == tenant]
    meanwhile = served[mine[0] : mine[-1] + 1]
    return sum(each.tenant in others for each in meanwhile) / len(meanwhile)


async def busy_with(system: System, tenant: str, segments: int = 3) -> None:
    """Return when the engine has finished some of a tenant's segments."""
    await eventually(lambda: len(system.of(tenant)) >= segments, within=WITHIN_S)


async def test_ten_segments_behind_many_uploads_wait_for_the_window_and_as_much_again(started: Started) -> None:
    system = await started(60, service_s=0.03, window_s=240)
    await busy_with(system, "many")
    assert await in_between_s(system, "few") <= 240 + (PROMISE - 1) * OWN_S
    assert len(system.of("many")) < 60, "there was nothing left to wait for"


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_ten_segments_behind_a_thousand_uploads_wait_for_the_window_and_as_much_again(started: Started) -> None:
    system = await started(1000, service_s=0.05, window_s=600)
    await busy_with(system, "many")
    assert await in_between_s(system, "few") <= 600 + (PROMISE - 1) * OWN_S
    assert len(system.of("many")) < 1000, "there was nothing left to wait for"


@EITHER
async def test_lanes_let_others_pass_a_long_recording(started: Started) -> None:
    """Its first ten minutes have their turn; its rest fills the low lane, which is paused while others are served."""
    await others_pass(await started(service_s=0.03, window_s=100_000, tenant_share=1))


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_the_watchdog_leaves_a_lane_alone_that_is_paused_for_longer_than_a_silence(started: Started) -> None:
    system = await started(service_s=0.4, window_s=100_000, tenant_share=1, silence_s=20)
    await others_pass(system)
    other = [each.at for each in system.of("other")]
    assert max(other) - min(other) > 20


async def others_pass(system: System) -> None:
    await system.send("long", 1, segments=400)
    await busy_with(system, "long", FIRST_S // SEGMENT_S + 3)
    await system.send("other", 4, segments=FIRST_S // SEGMENT_S)
    await busy_with(system, "other")
    await system.send("urgent", 1, segments=FEW, priority="high")
    await busy_with(system, "urgent", FEW)
    await busy_with(system, "other", 4 * FIRST_S // SEGMENT_S)
    served = system.served()
    assert share(served, "other", {"long"}) <= 1 / PARTS + 0.05, "the low lane got more than its part"
    assert share(served, "urgent", {"long", "other"}) <= 0.5, "the high lane was not served before the others"
    assert len(system.of("long")) < 400
