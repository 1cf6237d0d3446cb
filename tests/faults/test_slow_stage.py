"""A stage far slower than what comes in: its memory stays flat, its group stays whole, its lag is told as it is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from earshot.kernel.events import SegmentCut
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.outages import TAKES, Outages, memory_of, metric
from tests.faults.system import PARTITIONS, QUICK, System, Worker
from tests.waiting import eventually

MIB = 2**20
EVENTS = 120
GROWTH = 16 * MIB


def slowly(events: list[SegmentCut], seconds: float) -> list[SegmentCut]:
    """The same segments, each of which takes the keeper so long."""
    return [event.model_copy(update={"language": f"{TAKES}{seconds}"}) for event in events]


@EITHER
@pytest.mark.row(12, "every event takes 0.1 s more than by itself, while 120 wait")
async def test_a_slow_stage_keeps_its_group_its_memory_and_a_true_lag(
    broker: str, tmp_path: Path, outcome: Outcome
) -> None:
    """It takes longer than the session of its group would last without heartbeats."""
    system = Outages(broker, tmp_path)
    await system.prepare()
    await system.publish(*slowly(system.segments(EVENTS), 0.1))
    keeper, began = system.start("keeper", instance_id=""), time.monotonic()
    await eventually(lambda: _moved(system))
    member, before = await _members(system), memory_of(keeper)
    outcome.hit(await system.behind("keeper"))
    with outcome.recovering():
        await eventually(lambda: _behind(system, EVENTS // 4), every=0.2)
    assert time.monotonic() - began > QUICK["session_timeout_s"]
    assert memory_of(keeper) - before < GROWTH
    assert await _members(system) == member
    assert keeper.log().count("started") == 1
    await eventually(lambda: _true_lag(system, keeper), every=0.2)
    system.start("shelver")
    await system.settles("keeper", "shelver")
    await eventually(lambda: _true_lag(system, keeper))
    await system.account(outcome, "keeper", "shelver")
    await system.close()


async def _moved(system: System) -> bool:
    """Whether every partition has moved: none waits until another is done."""
    lag = await system.lag("keeper")
    assert len(lag) == PARTITIONS
    return all(0 < done < end for done, end in lag.values())


async def _behind(system: System, most: int) -> bool:
    return await system.behind("keeper") <= most


async def _members(system: System) -> object:
    """Who consumes as the keeper's group, and since which rebalance."""
    group = f"{system.settings.topic_prefix}keeper"
    if system.settings.embedded:
        return await system.log.consumer_of(group)  # type: ignore[attr-defined]
    admin = await system.log._started_admin()  # type: ignore[attr-defined]
    [answer] = await admin.describe_consumer_groups([group])
    [found] = answer.groups
    return found[2], sorted(member[0] for member in found[5])


async def _true_lag(system: System, worker: Worker) -> bool:
    """Whether the worker's metric is what the log says, before and after the look at it."""
    before = await system.behind("keeper")
    told = await metric(worker, "earshot_lag_records")
    return before == told == await system.behind("keeper")
