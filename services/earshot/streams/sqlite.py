"""The embedded transport: Faust's consumer and producer over one SQLite file, for several processes of one machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
from faust.transport import base
from faust.types import TP, ConsumerMessage, RecordMetadata
from mode import Service

from earshot.adapters.sqlite_log import SqliteLog
from earshot.adapters.sqlite_records import Limits
from earshot.kernel.codec import Record
from earshot.kernel.errors import Unavailable
from earshot.streams.commits import LowestUnacked

FETCH_BYTES = 4 * 1024 * 1024
MAINTAIN_S = 60.0
READ_AGAIN_S = 5.0
"""Between two tries to read a log that cannot be read; the watchdog ends the worker when that lasts."""

log = structlog.get_logger()


class _Consumer(base.Consumer):
    """Reads every partition of its topics: the one consumer of its group."""

    transport: Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log_file = self.transport.open_log()
        self._positions: dict[TP, int] = {}
        self._heads: dict[TP, int] = {}
        self._assigned: frozenset[TP] = frozenset()
        self._moves = 0

    async def create_topic(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing: topics are created before workers start."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Take the group and all partitions of the topics. Raises ``Misconfigured`` when it is taken."""
        partitions = {TP(topic, n) for topic in topics for n in range(await self.log_file.partitions(topic))}
        await self.log_file.join(self.app.conf.id, partitions)
        # Not inline: the callbacks wait for this very subscription to end.
        self.add_future(self._assign(partitions))

    async def _assign(self, partitions: set[TP]) -> None:
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._assigned))
        self.app.consumer_generation_id += 1
        self._assigned = frozenset(partitions)
        await self.on_partitions_assigned(set(partitions), self.app.consumer_generation_id)

    def assignment(self) -> set[TP]:
        """The partitions being consumed."""
        return set(self._assigned)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Record]]:  # noqa: ASYNC109 - Faust's signature
        try:
            return await self._fetched(active_partitions, timeout)
        except Unavailable as error:  # raised, it would end the worker, who would come no further than this again
            log.warning("nothing can be read, trying again", error=str(error))
            await asyncio.sleep(min(READ_AGAIN_S, error.after_s or READ_AGAIN_S))
            return {}

    async def _fetched(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Record]]:  # noqa: ASYNC109 - likewise
        deadline = time.monotonic() + timeout
        while self.flow_active and not self.should_stop:
            moves = self._moves
            wanted: dict[tuple[str, int], int] = {
                tp: self._positions[tp] for tp in active_partitions or () if tp in self._positions
            }
            found = await self.log_file.fetch(wanted, self._limits())
            if moves != self._moves or not self.flow_active:
                return {}  # a seek came between: the positions stay where it put them
            left = deadline - time.monotonic()
            if found or left <= 0:
                return {TP(*place): self._take(TP(*place), records) for place, records in found.items()}
            await self.log_file.wait(left)
        return {}

    def _limits(self) -> Limits:
        return Limits(self.app.conf.broker_max_poll_records or Limits.records, FETCH_BYTES)

    def _take(self, tp: TP, records: list[Record]) -> list[Record]:
        self._positions[tp] = records[-1].offset + 1
        self._heads[tp] = max(self._heads.get(tp, 0), self._positions[tp])
        return records

    def _to_message(self, tp: TP, record: Record) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            tp.partition,
            record.offset,
            record.timestamp_ms / 1000,
            0,
            list(record.headers),
            record.key,
            record.value,
            None,
            None,
            None,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        try:
            await self.log_file.commit(self.app.conf.id, {(tp.topic, tp.partition): n for tp, n in offsets.items()})
        except Unavailable as error:
            log.warning("commit failed, the next one covers it", error=str(error))
            return False
        return True

    async def seek_to_committed(self) -> dict[TP, int]:
        """Go back to the commits, to the beginning where there is none."""
        committed = await self.log_file.committed(self.app.conf.id)
        self._moves += 1
        self._positions = {tp: committed.get(tp, 0) for tp in self._assigned}
        return dict(self._positions)

    async def _seek(self, partition: TP, offset: int) -> None:
        self._moves += 1
        self._positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Go to the given offsets."""
        for partition, offset in partitions.items():
            await self._seek(partition, offset)

    async def position(self, tp: TP) -> int | None:
        """The next offset to fetch."""
        return self._positions.get(tp)

    def highwater(self, tp: TP) -> int:
        """The end of the partition as last seen; asked for every record."""
        return self._heads.get(tp, 0)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        """The ends of the partitions."""
        heads = await self.log_file.heads()
        return {tp: heads.get(tp, 0) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        """Where reading may start."""
        return dict.fromkeys(partitions, 0)

    def topic_partitions(self, topic: str) -> int | None:
        """The number of partitions of a consumed topic."""
        return sum(tp.topic == topic for tp in self._assigned) or None

    def key_partition(self, _topic: str, _key: bytes | None, partition: int | None = None) -> int | None:
        """Not known before the log has chosen."""
        return partition

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    @Service.task
    async def _maintain(self) -> None:
        async for _ in self.itertimer(MAINTAIN_S, name="maintain"):
            try:
                await self.log_file.maintain()
            except Unavailable as error:
                log.warning("upkeep of the log failed, trying again later", error=str(error))

    async def on_stop(self) -> None:
        """Commit, then let go of the group."""
        await super().on_stop()
        await self.log_file.close()


class Consumer(LowestUnacked, _Consumer):
    """Commits the lowest unacknowledged offset."""

    def _to_message(self, tp: TP, record: Record) -> ConsumerMessage:
        message = super()._to_message(tp, record)
        self.track_delivery(tp, record.offset, self.app.consumer_generation_id)
        return message


class Producer(base.Producer):
    """Appends to the log; what it returns resolves when the record is on the disk."""

    transport: Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log_file = self.transport.open_log()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - Faust's signature
    ) -> Awaitable[RecordMetadata]:
        """Queue a record."""
        pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers or ())
        record = Record(topic, key, value, pairs, partition, timestamp_ms=int((timestamp or time.time()) * 1000))
        return asyncio.ensure_future(_metadata(await self.log_file.send(record)))

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Append a record and return when it is on the disk."""
        return await (await self.send(*args, **kwargs))

    async def create_topic(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing: topics are created before workers start."""

    async def flush(self) -> None:
        """Return when everything queued is on the disk."""
        await self.buffer.flush()
        await self.log_file.flush()

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Not known before the log has chosen."""
        raise NotImplementedError

    def supports_headers(self) -> bool:
        """They are stored with the record."""
        return True

    async def on_stop(self) -> None:
        """Write what is queued and close."""
        await super().on_stop()
        await self.log_file.close()


async def _metadata(written: Awaitable[Record]) -> RecordMetadata:
    record = await written
    assert record.partition is not None
    tp = TP(record.topic, record.partition)
    return RecordMetadata(record.topic, record.partition, tp, record.offset, record.timestamp_ms / 1000, 0)


class Transport(base.Transport):
    """``earshotsqlite:///path``."""

    Consumer = Consumer
    Producer = Producer
    default_port = 0
    driver_version = "sqlite"

    def open_log(self) -> SqliteLog:
        """A log of its own for the consumer and for the producer: separate connections."""
        return SqliteLog(Path(self.url[0].path))
