"""The Faust app of a stage, over the embedded transport in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.settings import Settings
from earshot.kernel.stage import BatchPolicy
from earshot.kernel.topics import AUDIO_SEGMENTS
from earshot.streams.faust_app import build_app
from earshot.streams.settings import WorkerSettings
from tests.fakes_stream import record_of, segment, stage_of
from tests.waiting import eventually

RECORDS = 30


async def nothing(_deliveries: Any) -> AsyncIterator[Any]:
    for _ in ():
        yield _


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(Settings(data=tmp_path))
    await made.log.create({AUDIO_SEGMENTS.name: {}}, 1)
    yield made
    await made.log.close()


async def test_a_rebalance_while_the_buffers_are_full_leaves_nobody_waiting_for_ever(kit: Kit, tmp_path: Path) -> None:
    """Faust empties its queues at a rebalance; the records that waited for room in them must come again."""
    await kit.log.publish([record_of(segment(n), -1) for n in range(RECORDS)])
    seen: list[int] = []
    release = asyncio.Event()

    async def arrive(record: Record, ack: Callable[[], object], _ours: Callable[[], bool]) -> None:
        seen.append(record.offset)
        await release.wait()
        ack()

    stage = stage_of(nothing, batch=BatchPolicy(max_events=1))
    app = build_app(stage, kit.settings, WorkerSettings(), tmp_path / "faust", arrive)
    await app.start()
    try:
        await eventually(lambda: seen and any(queue._putters for queue in app.flow_control._queues))
        await app.consumer._assign(set(app.consumer.assignment()))
        release.set()
        await eventually(lambda: set(seen) == set(range(RECORDS)))
        await eventually(lambda: all_committed(kit))
    finally:
        await app.stop()


async def all_committed(kit: Kit) -> bool:
    lag = await kit.log.lag("copier", [AUDIO_SEGMENTS.name])
    return all(done == end == RECORDS for done, end in lag.values())
