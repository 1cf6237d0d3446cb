"""The event log in memory, held to the same contract as the real ones (``contract/test_eventlog.py``)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from earshot.kernel.codec import Record
from earshot.kernel.errors import Misconfigured, Unavailable


class FakeLog:
    """Implements ``EventLog``.

    Args:
        topics: partitions by topic, made at once.

    Attributes:
        records: everything published, in order.
        committed: next offset by group, topic and partition; a test writes it.
        settings: broker configuration by topic.
        down: while set, every call raises ``Unavailable``.
    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self.records: list[Record] = []
        self.committed: dict[tuple[str, str, int], int] = {}
        self.down = False
        self.settings: dict[str, dict[str, str]] = {}
        self._topics = dict(topics or {})
        self._ends: dict[tuple[str, int], int] = {}
        self._news = asyncio.Condition()

    async def publish(self, records: Sequence[Record]) -> None:
        self._answer()
        for record in records:
            partitions = await self.partitions(record.topic)
            partition = record.partition
            if partition is None:
                partition = zlib.crc32(record.key or b"") % partitions
            if not 0 <= partition < partitions:
                raise Misconfigured(f"{record.topic} has no partition {partition}.")
            offset = self._ends.get((record.topic, partition), 0)
            self._ends[record.topic, partition] = offset + 1
            stamp = record.timestamp_ms or 1_700_000_000_000
            self.records.append(replace(record, partition=partition, offset=offset, timestamp_ms=stamp))
        async with self._news:
            self._news.notify_all()

    async def tail(self, topics: Sequence[str], *, from_start: bool, follow: bool) -> AsyncIterator[Record]:
        self._answer()
        for topic in topics:
            await self.partitions(topic)
        position, end = (0 if from_start else len(self.records)), len(self.records)
        while follow or position < end:
            async with self._news:
                await self._news.wait_for(lambda at=position: at < len(self.records))
            position += 1
            if self.records[position - 1].topic in topics:
                yield self.records[position - 1]

    async def partitions(self, topic: str) -> int:
        self._answer()
        if topic not in self._topics:
            raise Misconfigured(f"The topic {topic} does not exist.")
        return self._topics[topic]

    async def create(self, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
        self._answer()
        made = [name for name in topics if name not in self._topics]
        self._topics.update(dict.fromkeys(made, partitions))
        self.settings |= {name: dict(topics[name]) for name in made}
        return made

    async def configurations(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        self._answer()
        return {name: dict(self.settings.get(name, {})) for name in topics if name in self._topics}

    async def configure(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        for name, settings in topics.items():
            await self.partitions(name)
            self.settings.setdefault(name, {}).update(settings)

    async def lag(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
        self._answer()
        places = [(topic, n) for topic in topics for n in range(await self.partitions(topic))]
        return {place: (self.committed.get((group, *place), 0), self._ends.get(place, 0)) for place in places}

    async def ping(self) -> None:
        self._answer()

    async def close(self) -> None:
        self._answer()

    def on(self, topic: str) -> list[Record]:
        """Everything published on a topic, in order."""
        return [record for record in self.records if record.topic == topic]

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("broker", "The log is down, as the test said.")
