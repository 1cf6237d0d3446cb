"""Apache Kafka outside of stream processors: for the relay, the CLI and the checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidConfigurationError,
    InvalidReplicationFactorError,
    TopicAlreadyExistsError,
    for_code,
)

from earshot.adapters import kafka_topics
from earshot.adapters.guard import BROKER, Figures, Guards, reads, writes
from earshot.adapters.kafka_clients import REQUEST_S, abandon, let_go, missing, of_any, patiently, reported, start
from earshot.kernel.codec import Record
from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable

MAX_RECORD = 1024 * 1024
"""Bytes of one request (``max.message.bytes`` of a broker is 1,048,588 by default)."""
_POLL_MS = 500

log = structlog.get_logger()


class KafkaLog:
    """Implements the kernel's ``EventLog`` on aiokafka. Connects on first use.

    Args:
        url: ``kafka://host:port[,host:port]``.
        replication: replicas of a topic at creation.
        request_s: how long one request, retries included, may take before the broker counts as unavailable.
        figures: of the breakers.
    """

    def __init__(self, url: str, replication: int = 1, request_s: float = REQUEST_S, figures: Figures = BROKER) -> None:
        self.guards = Guards("broker", figures)
        self._servers = url.removeprefix("kafka://").rstrip("/").split(",")
        self._replication = replication
        self._request_s = request_s
        self._producer: AIOKafkaProducer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._starting = asyncio.Lock()

    @writes
    async def publish(self, records: Sequence[Record]) -> None:
        """Return when all in-sync replicas have every record."""
        try:
            await self._publish(records)
        except EarshotError:
            # A refused batch leaves a gap in the sequence of an idempotent producer. aiokafka never closes it, and the
            # broker refuses everything that comes after it on that partition (OutOfOrderSequenceNumber). What did not
            # get through it would send behind our back once it can, beside what the caller publishes again.
            producer, self._producer = self._producer, None
            if producer is not None:
                await abandon(producer)
            raise

    async def _publish(self, records: Sequence[Record]) -> None:
        with reported():
            async with asyncio.timeout(self._request_s):
                producer = await self._started_producer()
                futures = [
                    await producer.send(
                        record.topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                        timestamp_ms=record.timestamp_ms or None,
                        headers=list(record.headers),
                    )
                    for record in records
                ]
                await asyncio.gather(*futures)

    async def tail(self, topics: Sequence[str], *, from_start: bool, follow: bool) -> AsyncIterator[Record]:
        """Records in order of each partition; without ``follow``, up to the ends found at the start."""
        async with self._consumer() as consumer:
            with reported():
                async with asyncio.timeout(self._request_s):
                    ends = await self._ends(consumer, topics)
                    consumer.assign(list(ends))
                    for place, end in ends.items():
                        if not from_start:
                            consumer.seek(place, end)
                    if from_start:
                        await consumer.seek_to_beginning(*ends)
            quiet_since = time.monotonic()
            while follow or await self._before(consumer, ends):
                with reported():
                    found = await consumer.getmany(timeout_ms=_POLL_MS)
                if not found and time.monotonic() - quiet_since > self._request_s:
                    await self.ping()  # the consumer itself would wait for a lost broker in silence
                    quiet_since = time.monotonic()
                for place, messages in found.items():
                    quiet_since = time.monotonic()
                    for message in messages:
                        if follow or message.offset < ends[place]:
                            yield _record(message)

    @reads
    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ``Misconfigured`` when it does not exist."""
        [found] = await self._described([topic])
        return len(found["partitions"])

    @writes
    async def create(self, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
        """Create the missing topics with their broker configurations; return their names."""
        with reported():
            async with asyncio.timeout(self._request_s):
                admin = await self._started_admin()
                there = set(await _topics(admin))
                wanted = [
                    NewTopic(name, partitions, self._replication, topic_configs=dict(settings))
                    for name, settings in topics.items()
                    if name not in there
                ]
                answer = await admin.create_topics(wanted) if wanted else None
        made = _created(answer) if answer is not None else []
        for name in made:
            await self._settled(name)
        return made

    @reads
    async def configurations(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Every value in force, by topic; those that do not exist are left out."""
        with reported():
            async with asyncio.timeout(self._request_s):
                admin = await self._started_admin()
                there = set(await _topics(admin))
                return await kafka_topics.described(admin, [name for name in topics if name in there])

    @writes
    async def configure(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        """Set these values of topics; the others stay."""
        with reported():
            async with asyncio.timeout(self._request_s):
                await kafka_topics.altered(await self._started_admin(), topics)

    @reads
    async def lag(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """Committed offset (0 when none) and end offset by topic and partition."""
        async with self._consumer() as consumer:
            with reported():
                async with asyncio.timeout(self._request_s):
                    ends = await self._ends(consumer, topics)
                    admin = await self._started_admin()
                    commits = await patiently(partial(admin.list_consumer_group_offsets, group, partitions=list(ends)))
        result = {}
        for place, end in ends.items():
            offset = commits[place].offset if place in commits else 0
            result[(place.topic, place.partition)] = (max(offset, 0), end)
        return result

    async def ping(self) -> None:
        """Return when the broker answers."""
        with reported():
            async with asyncio.timeout(self._request_s):
                await _topics(await self._started_admin())
        self.guards.alive()

    async def close(self) -> None:
        """Close the connections."""
        await self._forget_producer()
        admin, self._admin = self._admin, None
        if admin is not None:
            await let_go(admin.close(), self._request_s)

    async def _forget_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await let_go(producer.stop(), self._request_s)

    async def _described(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        with reported():
            async with asyncio.timeout(self._request_s):
                admin = await self._started_admin()
                there = set(await _topics(admin))
                for topic in topics:
                    if topic not in there:
                        raise missing(topic)
                found: list[dict[str, Any]] = await of_any(partial(admin.describe_topics, list(topics)))
        return found

    async def _settled(self, topic: str) -> None:
        """Wait until a new topic has leaders, so that nobody finds it half made."""
        async with asyncio.timeout(self._request_s):
            while True:
                try:
                    [found] = await self._described([topic])
                    if found["partitions"] and all(part["leader"] >= 0 for part in found["partitions"]):
                        return
                except Misconfigured:
                    pass  # not known to this broker yet
                await asyncio.sleep(0.1)

    async def _ends(self, consumer: AIOKafkaConsumer, topics: Sequence[str]) -> dict[TopicPartition, int]:
        found = await self._described(topics)
        places = [TopicPartition(topic["topic"], part["partition"]) for topic in found for part in topic["partitions"]]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
        return ends

    async def _before(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether a position is before its end. Compaction leaves gaps, so positions are what counts."""
        with reported():
            async with asyncio.timeout(self._request_s):
                for place, end in ends.items():
                    if await consumer.position(place) < end:
                        return True
        return False

    async def _started_producer(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_RECORD,
                    request_timeout_ms=int(self._request_s * 1000),
                )
                await start(producer)
                self._producer = producer
            return self._producer

    async def _started_admin(self) -> AIOKafkaAdminClient:
        async with self._starting:
            if self._admin is None:
                admin = AIOKafkaAdminClient(
                    bootstrap_servers=self._servers, request_timeout_ms=int(self._request_s * 1000)
                )
                try:
                    await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=int(self._request_s * 1000),
        )
        with reported():
            async with asyncio.timeout(self._request_s):
                await start(consumer)
        try:
            yield consumer
        finally:
            await let_go(consumer.stop(), self._request_s)


async def _topics(admin: AIOKafkaAdminClient) -> list[str]:
    found: list[str] = await of_any(admin.list_topics)
    return found


def _record(message: Any) -> Record:
    headers = tuple((name, value) for name, value in message.headers)
    place = (message.partition, message.offset, message.timestamp)
    return Record(message.topic, message.key, message.value, headers, *place)


def _created(answer: Any) -> list[str]:
    """The names that were made; a topic that somebody else has made meanwhile is no error."""
    made = []
    for name, code, *rest in answer.topic_errors:
        error = for_code(code)
        if code == 0:
            made.append(name)
        elif error in (InvalidConfigurationError, InvalidReplicationFactorError):
            raise Misconfigured(f"Kafka refuses the topic {name}: {rest[0] if rest else error.__name__}.")
        elif error is not TopicAlreadyExistsError:
            raise Unavailable("broker", f"Kafka did not create the topic {name}: {error.__name__}.")
    return made
