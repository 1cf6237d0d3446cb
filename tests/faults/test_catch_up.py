"""A stage that was away catches up: everything, in order, in bounded memory, and its lag is told until it is gone."""

from __future__ import annotations

import re
from collections import defaultdict

import httpx
import psutil
import pytest

from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.processes import free_ports
from tests.waiting import eventually

MISSED = 400
"""Events that came while the stage was away."""
SIZE = 20_000
"""Characters of each: 8 MB in all, twice what one fetch brings."""
GROWTH = 64 * 2**20
"""Bytes by which the stage may grow from its first event to its last."""


async def told(port: int) -> int:
    """The lag that a worker's metrics tell."""
    async with httpx.AsyncClient(timeout=5) as http:
        metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    found = re.search(r'^earshot_lag_records\{stage="shelver"\} ([0-9.]+)$', metrics, re.MULTILINE)
    assert found, metrics
    return int(float(found[1]))


@EITHER
@pytest.mark.row(21, f"a stage is stopped while {MISSED} events come, then started")
async def test_a_stage_that_was_away_catches_up_in_order(system: System, outcome: Outcome) -> None:
    """Its order is that of each partition: the stage works on one batch at a time."""
    (port,) = free_ports(1)
    first = [event.model_copy(update={"language": f"size:{SIZE}"}) for event in system.segments(4)]
    await system.publish_transcripts(*first)
    worker = system.start("shelver", health_port=port, lag_s=0.2)
    await system.settles("shelver")
    before = psutil.Process(worker.process.pid).memory_info().rss
    worker.process.terminate()
    assert await worker.ended() == 0

    missed = [event.model_copy(update={"language": f"size:{SIZE}"}) for event in system.segments(MISSED)]
    for at in range(0, MISSED, 50):
        await system.publish_transcripts(*missed[at : at + 50])
    outcome.hit(await system.behind("shelver"))
    rss, lags = [before], [0]
    with outcome.recovering():
        again = system.start("shelver", health_port=port, lag_s=0.2)

        async def caught_up() -> bool:
            lags.append(await told(port))
            rss.append(psutil.Process(again.process.pid).memory_info().rss)
            return max(lags) > 0 and lags[-1] == 0

        await eventually(caught_up, within=120, every=0.1)
    assert await system.behind("shelver") == 0
    await system.settles("shelver")
    assert max(rss) - before < GROWTH, f"it grew by {(max(rss) - before) / 2**20:.0f} MB"
    assert await shelved(system) == await published(system)
    await system.account(outcome, "shelver")


async def published(system: System) -> dict[int, list[tuple[str, int]]]:
    """The segments in the order of each partition of the log."""
    found = defaultdict(list)
    for record in await system.records(AUDIO_TRANSCRIPTS):
        recording, _, index = (record.key or b"").decode().partition(":")
        found[record.partition or 0].append((recording, int(index)))
    return found


async def shelved(system: System) -> dict[int, list[tuple[str, int]]]:
    """The segments in the order in which the stage wrote them, by partition of the log."""
    partition_of = {segment: partition for partition, each in (await published(system)).items() for segment in each}
    rows = system.shelf.run("SELECT recording, segment FROM passages GROUP BY recording, segment ORDER BY min(rowid)")
    found = defaultdict(list)
    for recording, index in rows:
        found[partition_of[recording, index]].append((recording, index))
    return found
