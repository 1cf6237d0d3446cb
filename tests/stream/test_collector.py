"""Batches by count, seconds of audio and age, with backpressure."""

from __future__ import annotations

import asyncio

import pytest

from earshot.kernel.stage import BatchPolicy
from earshot.kernel.topics import AUDIO_SEGMENTS
from earshot.streams.arrival import Arrived
from earshot.streams.collector import Collector
from tests.fakes_stream import record_of, segment


def arrival(offset: int, *, seconds: float = 1.0, ours: bool = True) -> Arrived:
    event = segment(offset, start_ms=0, end_ms=int(seconds * 1000))
    return Arrived(record_of(event, offset), AUDIO_SEGMENTS, event, None, lambda: None, lambda: ours)


def offsets(batch: list[Arrived] | None) -> list[int]:
    assert batch is not None
    return [arrived.record.offset for arrived in batch]


async def test_takes_what_is_there_when_no_age_is_allowed() -> None:
    collector = Collector(BatchPolicy(max_events=8))
    for n in range(3):
        await collector.put(arrival(n))
    assert offsets(await collector.take()) == [0, 1, 2]


async def test_never_more_than_max_events() -> None:
    collector = Collector(BatchPolicy(max_events=2, max_age_s=60))
    putting = asyncio.create_task(_put(collector, 5))
    assert offsets(await collector.take()) == [0, 1]
    assert offsets(await collector.take()) == [2, 3]
    await putting


async def test_closes_a_batch_before_it_exceeds_its_seconds_of_audio() -> None:
    collector = Collector(BatchPolicy(max_events=10, max_audio_s=30, max_age_s=0.05))
    for n, seconds in enumerate([20, 10, 20, 15]):
        await collector.put(arrival(n, seconds=seconds))
    assert offsets(await collector.take()) == [0, 1]
    assert offsets(await collector.take()) == [2]
    assert offsets(await collector.take()) == [3]


async def test_an_event_longer_than_the_batch_is_taken_alone() -> None:
    collector = Collector(BatchPolicy(max_events=10, max_audio_s=30, max_age_s=60))
    await collector.put(arrival(0, seconds=45))
    assert offsets(await collector.take()) == [0]


async def test_the_first_event_waits_no_longer_than_its_age() -> None:
    collector = Collector(BatchPolicy(max_events=10, max_age_s=0.05))
    await collector.put(arrival(0))
    assert offsets(await collector.take()) == [0]


async def test_company_that_comes_in_time_is_taken_along() -> None:
    collector = Collector(BatchPolicy(max_events=2, max_age_s=60))
    await collector.put(arrival(0))
    taking = asyncio.create_task(collector.take())
    await asyncio.sleep(0)
    await collector.put(arrival(1))
    assert offsets(await taking) == [0, 1]


async def test_putting_waits_while_a_whole_batch_waits() -> None:
    collector = Collector(BatchPolicy(max_events=2))
    await _put(collector, 2)
    third = asyncio.create_task(collector.put(arrival(2)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(third), 0.05)
    await collector.take()
    await asyncio.wait_for(third, 5)


async def test_events_of_revoked_partitions_are_dropped() -> None:
    collector = Collector(BatchPolicy(max_events=4))
    await collector.put(arrival(0, ours=False))
    await collector.put(arrival(1))
    assert offsets(await collector.take()) == [1]


async def test_two_that_take_get_one_whole_batch_each() -> None:
    collector = Collector(BatchPolicy(max_events=2, max_age_s=60))
    first, second = asyncio.create_task(collector.take()), asyncio.create_task(collector.take())
    await _put(collector, 4)
    assert offsets(await first) == [0, 1]
    assert offsets(await second) == [2, 3]


async def test_closing_frees_who_takes_and_who_puts() -> None:
    collector = Collector(BatchPolicy(max_events=1))
    taking = asyncio.create_task(Collector(BatchPolicy()).take())
    await collector.put(arrival(0))
    putting = asyncio.create_task(collector.put(arrival(1)))
    await asyncio.sleep(0)
    await collector.close()
    await asyncio.wait_for(putting, 5)
    assert await collector.take() is None
    taking.cancel()


async def _put(collector: Collector, number: int) -> None:
    for n in range(number):
        await collector.put(arrival(n))
