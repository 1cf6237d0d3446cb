"""Outputs on their way to the broker: sent as they are yielded, bounded in flight, every acknowledgement awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, aclosing, contextmanager
from typing import Protocol, cast

from earshot.kernel.codec import Codec, Record, headers_for
from earshot.kernel.stage import Output
from earshot.kernel.topics import Topic, slot_of_key
from earshot.streams.vitals import Vitals

Trace = Callable[[Output], Mapping[str, str]]


class Producer(Protocol):
    """The producing half of a transport."""

    async def send(self, record: Record) -> Awaitable[None]:
        """Hand a record over; what is returned resolves when the broker has acknowledged it.

        Both may raise ``Permanent`` (refused for good), ``Unavailable`` or ``Misconfigured``.
        """


class Sender:
    """Publishes what a stage yields.

    Args:
        producer: of the transport.
        codec: encodes events.
        source: the stage's name, for ``ce_source``.
        full_name: topic name with prefix.
        partitions: how many each topic has, by full name.
        in_flight: at most so many sends unacknowledged.
        slow_s: a send that takes longer shows as a pause.
        vitals: where pauses show.
    """

    def __init__(
        self,
        producer: Producer,
        codec: Codec,
        source: str,
        full_name: Callable[[str], str],
        partitions: Mapping[str, int],
        vitals: Vitals,
        *,
        in_flight: int = 64,
        slow_s: float = 5.0,
    ) -> None:
        self._producer = producer
        self._codec = codec
        self._source = source
        self._full_name = full_name
        self._partitions = partitions
        self._vitals = vitals
        self._in_flight = in_flight
        self._slow_s = slow_s

    async def publish(self, outputs: AsyncIterator[Output], trace: Trace, seen: Callable[[], None]) -> int:
        """Send every output and wait until the broker has acknowledged all; return how many there were.

        ``seen`` is called for each output before it is sent. Raises what the stage or the producer raises.
        """
        waiting: deque[asyncio.Future[None]] = deque()
        number = 0
        async with aclosing(cast("AsyncGenerator[Output, None]", outputs)) as stream:
            async for output in stream:
                self._vitals.moved()
                seen()
                number += 1
                waiting.append(await self._start(await self._record(output, trace(output))))
                if len(waiting) >= self._in_flight:
                    await self._confirm(waiting.popleft())
        while waiting:
            await self._confirm(waiting.popleft())
        return number

    async def send(self, record: Record) -> None:
        """Send one record as it is and wait for its acknowledgement."""
        await self._confirm(await self._start(record))

    async def _start(self, record: Record) -> asyncio.Future[None]:
        with self._slow_is_a_pause():  # a client that cannot reach the broker does not even take a record
            handed = await self._producer.send(record)
        future = asyncio.ensure_future(handed)
        future.add_done_callback(_look)
        return future

    async def _confirm(self, future: asyncio.Future[None]) -> None:
        with self._slow_is_a_pause():
            await asyncio.wait({future})
        future.result()

    @contextmanager
    def _slow_is_a_pause(self) -> Iterator[None]:
        """What takes long inside this block shows as a pause."""
        reason = f"The broker has not acknowledged a record for {self._slow_s:g} s. Check it, and EARSHOT_BROKER_URL."
        with ExitStack() as pauses:
            late = asyncio.get_running_loop().call_later(
                self._slow_s, lambda: pauses.enter_context(self._vitals.pause(reason))
            )
            try:
                yield
            finally:
                late.cancel()

    async def _record(self, output: Output, trace: Mapping[str, str]) -> Record:
        value = None if output.event is None else await self._encode(output.topic, output)
        headers = headers_for(output.topic, output.event, output.key, value, self._source)
        headers |= {name: text.encode() for name, text in trace.items()}
        name = self._full_name(output.topic.name)
        partition = slot_of_key(output.key) % self._partitions[name]
        return Record(name, output.key.encode(), value, tuple(headers.items()), partition)

    async def _encode(self, topic: Topic, output: Output) -> bytes:
        assert output.event is not None
        if self._codec.registry is None:
            return self._codec.encode(topic, output.event)
        return await asyncio.to_thread(self._codec.encode, topic, output.event)


def _look(future: asyncio.Future[None]) -> None:
    """Mark an error as seen: the first one of a batch is raised, those of later sends would only be logged."""
    if not future.cancelled():
        future.exception()
