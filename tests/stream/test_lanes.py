"""Sources that go one before the other: precedence with a part for each, pauses at the log, bounded room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from earshot.kernel.stage import BatchPolicy
from earshot.kernel.topics import LANES, Topic
from earshot.streams.arrival import Arrived
from earshot.streams.collector import Collector
from earshot.streams.lanes import Lanes
from tests.fakes_stream import record_of, segment

HIGH, NORMAL, LOW = LANES.values()
FULL = 4


class Log:
    """Notes which sources may flow."""

    def __init__(self) -> None:
        self.turned: list[tuple[str, bool]] = []

    def __call__(self, topic: Topic, flows: bool) -> None:
        self.turned.append((topic.name, flows))


def arrival(topic: Topic, offset: int, *, seconds: float = 30.0, ours: bool = True) -> Arrived:
    event = segment(offset, start_ms=0, end_ms=int(seconds * 1000))
    return Arrived(record_of(event, offset), topic, event, None, lambda: None, lambda: ours)


async def laned(*lanes: tuple[Topic, int], full: int = 1000, most: int = 1) -> Collector:
    """A collector in which so many wait in each lane."""
    collector = Collector(BatchPolicy(max_events=most), Lanes((HIGH, NORMAL, LOW), Log(), full))
    for topic, number in lanes:
        for n in range(number):
            await collector.put(arrival(topic, n))
    return collector


async def taken(collector: Collector, number: int) -> list[Arrived]:
    batches = [await collector.take() for _ in range(number)]
    return [arrived for batch in batches for arrived in batch or []]


def names(arrived: Sequence[Arrived]) -> list[str]:
    return [each.topic.name for each in arrived]


async def test_a_higher_lane_goes_first_and_a_lower_one_keeps_a_tenth() -> None:
    collector = await laned((LOW, 30), (HIGH, 100))
    order = names(await taken(collector, 90))
    lower = [at for at, name in enumerate(order) if name == LOW.name]
    assert lower == [10, 20, 30, 40, 50, 60, 70, 80]


async def test_each_lane_in_its_own_order_and_nobody_is_left() -> None:
    collector = await laned((LOW, 5), (NORMAL, 5), (HIGH, 5))
    order = await taken(collector, 15)
    for topic in (HIGH, NORMAL, LOW):
        assert [each.record.offset for each in order if each.topic is topic] == [0, 1, 2, 3, 4]


async def test_a_lower_lane_gets_all_there_is_while_none_above_it_waits() -> None:
    collector = await laned((LOW, 20))
    assert names(await taken(collector, 20)) == [LOW.name] * 20


async def test_a_tenth_is_of_seconds_not_of_events() -> None:
    collector = Collector(BatchPolicy(), Lanes((HIGH, LOW), Log()))
    for n in range(100):
        await collector.put(arrival(HIGH, n, seconds=1))
    for n in range(2):
        await collector.put(arrival(LOW, n, seconds=5))
    order = names(await taken(collector, 80))
    assert [at for at, name in enumerate(order) if name == LOW.name] == [50]


async def test_a_batch_is_filled_from_lower_lanes() -> None:
    collector = await laned((HIGH, 2), (NORMAL, 1), (LOW, 9), most=6)
    assert names(await taken(collector, 1)) == [HIGH.name] * 2 + [NORMAL.name] + [LOW.name] * 3


async def test_a_full_lane_is_paused_and_goes_on_when_half_of_it_is_gone() -> None:
    log = Log()
    collector = Collector(BatchPolicy(), Lanes((HIGH, LOW), log, FULL))
    for n in range(FULL):
        await collector.put(arrival(LOW, n))
    assert log.turned == [(LOW.name, False)]
    await taken(collector, FULL // 2 - 1)
    assert log.turned == [(LOW.name, False)]
    await taken(collector, 1)
    assert log.turned == [(LOW.name, False), (LOW.name, True)]


async def test_what_was_on_its_way_to_a_paused_lane_fits_and_keeps_no_other_lane_waiting() -> None:
    collector = await laned((LOW, 2 * FULL - 1), full=FULL)
    await asyncio.wait_for(collector.put(arrival(LOW, 99)), 5)
    await asyncio.wait_for(collector.put(arrival(HIGH, 0)), 5)
    assert names(await taken(collector, 1)) == [HIGH.name]


async def test_never_more_waits_than_twice_what_fills_a_lane() -> None:
    collector = await laned((LOW, 2 * FULL), full=FULL)
    more = asyncio.create_task(collector.put(arrival(LOW, 99)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(more), 0.05)
    await taken(collector, 1)
    await asyncio.wait_for(more, 5)


async def test_what_was_revoked_takes_no_room_and_is_not_handed_out() -> None:
    log, ours = Log(), True
    collector = Collector(BatchPolicy(), Lanes((HIGH, LOW), log, FULL))
    for n in range(FULL - 1):
        event = segment(n)
        await collector.put(Arrived(record_of(event, n), LOW, event, None, lambda: None, lambda: ours))
    ours = False
    await collector.put(arrival(LOW, 10))
    assert log.turned == []
    (left,) = await taken(collector, 1)
    assert left.record.offset == 10


async def test_closing_frees_who_takes_and_who_puts() -> None:
    collector = await laned((LOW, 2 * FULL), full=FULL)
    putting = asyncio.create_task(collector.put(arrival(LOW, 99)))
    await asyncio.sleep(0)
    await collector.close()
    await asyncio.wait_for(putting, 5)
    assert await collector.take() is None
