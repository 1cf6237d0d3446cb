"""Two batches in work at once: the next is prepared while one is worked on, and no promise is weaker for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import permutations
from typing import Any

import pytest

from earshot.kernel.codec import Record
from earshot.kernel.stage import BatchPolicy, Delivery, Output, progress
from earshot.streams.faust_producer import FaustProducer
from tests.fakes_stream import Bench, record_of, recording, segment, stage_of
from tests.waiting import eventually

DLQ = "audio.segments.dlq"
KILLER = 2


class Held:
    """A verb that says what it has begun, and ends a segment when the test says so."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.may_end: dict[int, asyncio.Event] = {}

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        for delivery in deliveries:
            self.begun.append(delivery.event.index)
            await self.may_end.setdefault(delivery.event.index, asyncio.Event()).wait()
            yield progress("copier", delivery)


def two_at_once(work: Any, **fields: Any) -> Bench:
    return Bench(stage_of(work, batch=BatchPolicy(max_events=1), batches_in_work=2, costly=True, **fields))


def name(index: int) -> str:
    return f"{recording(0)}:1:{index}"


async def turns() -> None:
    """Let everything go on that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_is_done_first_is_acknowledged_first() -> None:
    verb = Held()
    bench = two_at_once(verb)
    first, second = (asyncio.create_task(bench.process(record_of(segment(n), n))) for n in range(2))
    await eventually(lambda: verb.begun == [0, 1])
    verb.may_end[1].set()
    await second
    assert bench.acked == [1]
    verb.may_end[0].set()
    await first
    assert bench.acked == [1, 0]
    assert bench.attempts.counts == {}


async def test_what_was_tried_before_is_worked_on_with_nothing_beside_it() -> None:
    verb = Held()
    bench = two_at_once(verb)
    bench.attempts.counts[name(1)] = 1
    working = [asyncio.create_task(bench.process(record_of(segment(0), 0)))]
    await eventually(lambda: verb.begun == [0])
    working += [asyncio.create_task(bench.process(record_of(segment(n), n))) for n in (1, 2)]
    await turns()
    assert verb.begun == [0], "something was begun beside it"
    assert bench.attempts.counts == {name(0): 1, name(1): 1}, "it was counted before its turn came"
    verb.may_end[0].set()
    await eventually(lambda: verb.begun == [0, 1])
    await turns()
    assert verb.begun == [0, 1], "something was begun beside it"
    assert bench.attempts.counts == {name(1): 2}
    verb.may_end[1].set()
    await eventually(lambda: verb.begun == [0, 1, 2])
    verb.may_end[2].set()
    await asyncio.wait_for(asyncio.gather(*working), 10)
    assert bench.acked == [0, 1, 2]


async def test_two_that_were_tried_before_come_one_after_the_other() -> None:
    verb = Held()
    bench = two_at_once(verb)
    bench.attempts.counts |= {name(0): 1, name(1): 2}
    working = [asyncio.create_task(bench.process(record_of(segment(n), n))) for n in range(2)]
    await turns()
    assert verb.begun == [0]
    verb.may_end[0].set()
    await eventually(lambda: verb.begun == [0, 1])
    verb.may_end[1].set()
    await asyncio.wait_for(asyncio.gather(*working), 10)


class Lethal:
    """A verb that ends its worker at one segment: what lives on are the tries, as they were counted then."""

    def __init__(self) -> None:
        self.died = asyncio.Event()

    async def __call__(self, deliveries: Sequence[Delivery[Any]]) -> AsyncIterator[Output]:
        for delivery in deliveries:
            await turns()
            if delivery.event.index == KILLER:
                self.died.set()
                await asyncio.Event().wait()
            yield progress("copier", delivery)


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
async def test_what_ends_workers_takes_nothing_beside_it_to_the_dead_letters(order: tuple[int, ...]) -> None:
    """In whatever order the log delivers them: it alone is dead-lettered, after its third worker."""
    counts: dict[str, int] = {}
    left, letters, deaths = list(order), 0, 0
    while left:
        verb = Lethal()
        bench = two_at_once(verb)
        bench.attempts.counts = counts
        waiting = [record_of(segment(index), index) for index in left]
        pumps = [asyncio.create_task(_pump(bench, waiting)) for _ in range(2)]
        died = asyncio.create_task(verb.died.wait())
        await asyncio.wait({died, asyncio.create_task(_all(pumps))}, return_when=asyncio.FIRST_COMPLETED)
        counts = dict(bench.attempts.counts)
        left = [index for index in left if index not in bench.acked]
        letters += len(bench.producer.of(DLQ))
        deaths += died.done()
        for task in (*pumps, died):
            task.cancel()
        await asyncio.wait([*pumps, died])
    assert (deaths, letters) == (3, 1)
    assert counts == {}


async def test_one_record_is_handed_to_the_producer_at_a_time() -> None:
    """A producer that is replaced after a refusal must not be used meanwhile."""
    inside: list[int] = []

    class Producer:
        async def send(self, *_: Any) -> Any:
            inside.append(1)
            await turns()
            assert len(inside) == 1
            inside.pop()
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done

    class App:
        async def maybe_start_producer(self) -> Producer:
            return Producer()

    sending = FaustProducer(App())  # type: ignore[arg-type]
    confirmations = await asyncio.gather(*(sending.send(Record("t", b"k", b"v", ())) for _ in range(5)))
    await asyncio.gather(*confirmations)


async def _pump(bench: Bench, waiting: list[Record]) -> None:
    while waiting:
        await bench.process(waiting.pop(0))


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
