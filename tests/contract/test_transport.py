"""One contract for both Faust transports, seen through a real worker process that copies one topic to another."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.kafka_log import KafkaLog
from earshot.adapters.sqlite_log import SqliteLog
from earshot.kernel.codec import Record
from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports import EventLog
from earshot.streams.transports import faust_broker_url
from tests.processes import tied
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


class Rig:
    """A log with a source and a target of two partitions, and workers on it."""

    def __init__(self, url: str, log: EventLog) -> None:
        self.url, self.log = url, log
        name = uuid.uuid4().hex[:12]
        self.group, self.source, self.target = f"copy-{name}", f"source-{name}", f"target-{name}"
        self.workers: list[Process] = []

    async def start(self, **options: Any) -> Process:
        settings = [f"{name}={value}" for name, value in options.items()]
        program = [sys.executable, "-m", "tests.transport_app", self.url, self.group, self.source, self.target]
        worker = await asyncio.create_subprocess_exec(
            *tied([*program, *settings]), cwd=ROOT, stdout=PIPE, stderr=STDOUT
        )
        self.workers.append(worker)
        return worker

    async def publish(self, *values: bytes | None, partition: int = 0) -> None:
        await self.log.publish([Record(self.source, b"key", value, (("h", b"\xfe"),), partition) for value in values])

    async def copies(self, partition: int = 0) -> list[Record]:
        found = [record async for record in self.log.tail([self.target], from_start=True, follow=False)]
        return [record for record in found if record.partition == partition]

    async def copied(self, *values: bytes | None, partition: int = 0) -> list[Record]:
        """Wait until the target's partition ends with these values."""

        async def check() -> list[Record]:
            found = await self.copies(partition)
            return found if [record.value for record in found][-len(values) :] == list(values) else []

        return await eventually(check, within=40)  # type: ignore[no-any-return]

    async def committed(self, partition: int = 0) -> int:
        return (await self.log.lag(self.group, [self.source]))[self.source, partition][0]

    async def commits(self, offset: int, partition: int = 0) -> None:
        async def check() -> bool:
            return await self.committed(partition) == offset

        await eventually(check, within=40)

    async def stop(self, worker: Process, how: signal.Signals) -> None:
        worker.send_signal(how)
        await asyncio.wait_for(worker.communicate(), 40)

    async def close(self) -> None:
        for worker in self.workers:
            if worker.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
                await worker.communicate()
        await self.log.close()


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each transport."""
    path = tmp_path / "a folder; with, marks %20" / "log.sqlite"
    url = f"sqlite://{path}" if request.param == "sqlite" else request.getfixturevalue("kafka_url")
    made = Rig(url, SqliteLog(path) if request.param == "sqlite" else KafkaLog(url))
    await made.log.create({made.source: {}, made.target: {}}, 2)
    yield made
    await made.close()


async def test_records_arrive_in_order_with_headers_nulls_and_in_their_partition(rig: Rig) -> None:
    await rig.publish(*(b"%d" % n for n in range(20)), None, b"last")
    await rig.publish(b"elsewhere", partition=1)
    worker = await rig.start()
    found = await rig.copied(*(b"%d" % n for n in range(20)), None, b"last")
    assert len(found) == 22
    assert [record.header("offset") for record in found] == [str(n) for n in range(22)]
    assert dict(found[0].headers)["h"] == b"\xfe"
    assert found[0].key == b"key"
    await rig.copied(b"elsewhere", partition=1)
    await rig.publish(b"live")
    await rig.copied(b"live")
    await rig.commits(23)
    await rig.stop(worker, signal.SIGTERM)
    assert worker.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_unacknowledged_record_is_never_passed_and_comes_again(rig: Rig, how: signal.Signals) -> None:
    await rig.publish(b"a", b"hold", b"b", b"c")
    worker = await rig.start(stream_wait_empty="false", broker_session_timeout=6)
    await rig.copied(b"a", b"hold", b"b", b"c")
    await rig.publish(b"mark", partition=1)
    await rig.commits(1, partition=1)  # by now everything acknowledged could have been committed
    assert await rig.committed() == 1
    await rig.stop(worker, how)
    assert await rig.committed() == 1
    await rig.publish(b"d")
    await rig.start(release="true")
    await rig.copied(b"hold", b"b", b"c", b"d")
    await rig.commits(5)
    assert [record.value for record in await rig.copies()].count(b"a") == 1


async def test_stopping_commits_what_is_acknowledged(rig: Rig) -> None:
    worker = await rig.start(broker_commit_interval=3600, stream_wait_empty="false")
    await rig.publish(b"a", b"b")
    await rig.copied(b"a", b"b")
    await rig.stop(worker, signal.SIGTERM)
    assert await rig.committed() == 2


async def test_records_fetched_before_a_pause_are_not_skipped(rig: Rig) -> None:
    """Faust itself drops them for good: their partition is paused, and the position is behind them."""
    values = [b"pause", *(b"%d" % n for n in range(150))]
    await rig.publish(*values)
    await rig.start()
    assert [record.value for record in await rig.copied(b"149")] == values
    await rig.commits(151)


@pytest.mark.kafka
async def test_a_rebalance_commits_what_is_acknowledged(kafka_url: str) -> None:
    """Faust itself drops acknowledged offsets before the commit of a revoke: they would be done twice."""
    rig = Rig(kafka_url, KafkaLog(kafka_url))
    await rig.log.create({rig.source: {}, rig.target: {}}, 2)
    try:
        await rig.publish(b"a", b"b")
        await rig.publish(b"c", partition=1)
        await rig.start(broker_commit_interval=3600, stream_wait_empty="false")
        await rig.copied(b"a", b"b")
        await rig.copied(b"c", partition=1)
        await rig.start(broker_commit_interval=3600, stream_wait_empty="false")
        await rig.commits(2)
        await rig.commits(1, partition=1)
        await rig.publish(b"d")
        await rig.publish(b"e", partition=1)
        await rig.copied(b"d")
        await rig.copied(b"e", partition=1)
        assert [record.value for record in await rig.copies()] == [b"a", b"b", b"d"]
        assert [record.value for record in await rig.copies(1)] == [b"c", b"e"]
    finally:
        await rig.close()


@pytest.mark.kafka
async def test_every_compression_of_a_producer_is_understood(kafka_url: str) -> None:
    """By the log and by a stage: clients in other languages compress with snappy, lz4 or zstd as they see fit."""
    from aiokafka import AIOKafkaProducer

    rig = Rig(kafka_url, KafkaLog(kafka_url))
    await rig.log.create({rig.source: {}, rig.target: {}}, 2)
    values = [kind.encode() * 1000 for kind in ("gzip", "snappy", "lz4", "zstd")]
    try:
        await rig.start()
        for value in values:
            kind = value[: len(value) // 1000].decode()
            servers = kafka_url.removeprefix("kafka://")
            async with AIOKafkaProducer(bootstrap_servers=servers, compression_type=kind) as producer:
                await producer.send_and_wait(rig.source, value, partition=0)
        found = [record.value async for record in rig.log.tail([rig.source], from_start=True, follow=False)]
        assert found == values
        await rig.copied(*values)
        await rig.commits(len(values))
    finally:
        await rig.close()


async def test_a_second_consumer_of_a_group_is_refused(tmp_path: Path) -> None:
    """By the SQLite log, which has one consumer per group; the first goes on, and its death frees the group."""
    path = tmp_path / "log.sqlite"
    rig = Rig(f"sqlite://{path}", SqliteLog(path))
    await rig.log.create({rig.source: {}, rig.target: {}}, 2)
    try:
        first = await rig.start()
        await rig.publish(b"a")
        await rig.copied(b"a")
        second = await rig.start()
        said, _ = await asyncio.wait_for(second.communicate(), 40)
        assert second.returncode != 0
        assert f"Process {first.pid} already consumes".encode() in said
        await rig.stop(first, signal.SIGKILL)
        await rig.start()
        await rig.publish(b"b")
        await rig.copied(b"b")
    finally:
        await rig.close()


@pytest.mark.parametrize("url", ["", "kafka://", "sqlite://relative", "sqlite:///", "redis://x", "http://u:p@h/"])
def test_a_broker_url_of_no_transport_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Misconfigured, match="EARSHOT_BROKER_URL") as caught:
        faust_broker_url(url)
    assert "u:p" not in str(caught.value)
