"""One contract for every event log: the one in memory, the SQLite file, Apache Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.adapters.kafka_log import KafkaLog
from earshot.adapters.sqlite_log import SqliteLog
from earshot.kernel.codec import Record
from earshot.kernel.errors import LimitExceeded, Misconfigured, Unavailable
from earshot.kernel.ports import EventLog
from tests.fakes_log import FakeLog
from tests.processes import free_ports
from tests.servers import KafkaServer

KINDS = ["fake", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)]


@pytest.fixture(params=KINDS)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    """Each implementation."""
    made: EventLog
    if request.param == "kafka":
        made = KafkaLog(request.getfixturevalue("kafka_url"))
    else:
        made = FakeLog() if request.param == "fake" else SqliteLog(tmp_path / "log.sqlite")
    yield made
    await made.close()


@pytest.fixture
async def topic(log: EventLog) -> str:
    """A new topic of three partitions."""
    name = f"contract.{uuid.uuid4().hex}"
    assert await log.create({name: {"retention.ms": "3600000"}}, 3) == [name]
    return name


async def contents(log: EventLog, *topics: str) -> list[Record]:
    return [record async for record in log.tail(topics, from_start=True, follow=False)]


async def test_what_is_published_comes_back_byte_for_byte(log: EventLog, topic: str) -> None:
    headers = (("traceparent", b"\x00\xff"), ("twice", b"1"), ("twice", b"2"))
    await log.publish([Record(topic, b"key\x00", b"\x00value", headers, 1), Record(topic, b"gone", None, (), 1)])
    first, second = await contents(log, topic)
    assert (first.key, first.value, first.headers, first.partition) == (b"key\x00", b"\x00value", headers, 1)
    assert first.header("twice") == "2"
    assert first.timestamp_ms > 1_600_000_000_000
    assert (second.key, second.value, second.offset) == (b"gone", None, first.offset + 1)


async def test_a_partition_keeps_its_order_and_the_same_key_its_partition(log: EventLog, topic: str) -> None:
    await log.publish([Record(topic, b"%d" % (n % 7), b"%d" % n) for n in range(70)])
    found = await contents(log, topic)
    assert len(found) == 70
    for key in {record.key for record in found}:
        of_key = [record for record in found if record.key == key]
        assert len({record.partition for record in of_key}) == 1
        assert [int(record.value or b"") for record in of_key] == sorted(int(record.value or b"") for record in of_key)
    places = [(record.partition, record.offset) for record in found]
    assert len(set(places)) == 70


async def test_publishing_many_at_once_from_several_tasks_loses_none(log: EventLog, topic: str) -> None:
    await asyncio.gather(*(log.publish([Record(topic, None, b"%d" % n, (), n % 3)]) for n in range(300)))
    assert sorted(int(record.value or b"") for record in await contents(log, topic)) == list(range(300))


async def test_following_gives_what_is_published_later(log: EventLog, topic: str) -> None:
    await log.publish([Record(topic, None, b"before", (), 0)])
    tail = log.tail([topic], from_start=True, follow=True)
    assert (await asyncio.wait_for(anext(tail), 20)).value == b"before"
    await log.publish([Record(topic, None, b"after", (), 2)])
    assert (await asyncio.wait_for(anext(tail), 20)).value == b"after"
    await tail.aclose()  # type: ignore[attr-defined]


async def test_an_empty_topic_ends_at_once(log: EventLog, topic: str) -> None:
    assert await contents(log, topic) == []


async def test_several_topics_are_read_together(log: EventLog, topic: str) -> None:
    other = f"{topic}.other"
    await log.create({other: {}}, 1)
    await log.publish([Record(topic, None, b"a", (), 0), Record(other, None, b"b", (), 0)])
    assert {record.value for record in await contents(log, topic, other)} == {b"a", b"b"}


async def test_creating_twice_makes_nothing_the_second_time(log: EventLog, topic: str) -> None:
    assert await log.create({topic: {}}, 8) == []
    assert await log.partitions(topic) == 3


async def test_how_a_topic_is_kept_is_told_and_changed(log: EventLog, topic: str) -> None:
    other = f"{topic}.compacted"
    await log.create({other: {"cleanup.policy": "compact", "retention.ms": "5000000"}}, 1)
    await log.configure({topic: {"retention.ms": "7200000"}, other: {"retention.ms": "6000000"}})
    found = await log.configurations([topic, other, "contract.nowhere"])
    assert set(found) == {topic, other}
    assert found[topic]["retention.ms"] == "7200000"
    assert (found[other]["retention.ms"], found[other]["cleanup.policy"]) == ("6000000", "compact")
    await log.configure({})
    assert await log.configurations([]) == {}


async def test_what_does_not_exist_cannot_be_configured(log: EventLog) -> None:
    with pytest.raises((Misconfigured, Unavailable)):
        await log.configure({"contract.nowhere": {"retention.ms": "1"}})


async def test_a_missing_topic_is_a_misconfiguration(log: EventLog) -> None:
    with pytest.raises(Misconfigured, match="does not exist"):
        await log.partitions("contract.nowhere")
    with pytest.raises(Misconfigured, match="does not exist"):
        await anext(log.tail(["contract.nowhere"], from_start=True, follow=False))


async def test_lag_of_a_group_that_never_ran_counts_from_zero(log: EventLog, topic: str) -> None:
    await log.publish([Record(topic, None, b"x", (), 2)])
    assert await log.lag("never-ran", [topic]) == {(topic, 0): (0, 0), (topic, 1): (0, 0), (topic, 2): (0, 1)}


@pytest.mark.kafka
async def test_kafka_gets_the_topic_configuration(kafka_url: str) -> None:
    name = f"contract.{uuid.uuid4().hex}"
    log = KafkaLog(kafka_url)
    await log.create({name: {"cleanup.policy": "compact", "max.message.bytes": "4096"}}, 2)
    with pytest.raises(LimitExceeded):
        await log.publish([Record(name, b"k", b"x" * 8192)])
    with pytest.raises(Unavailable):  # a compacted topic takes no record without a key
        await log.publish([Record(name, None, b"x")])
    with pytest.raises(Misconfigured, match=name):
        await log.create({f"{name}.bad": {"cleanup.policy": "nonsense"}}, 1)
    with pytest.raises(Misconfigured, match=name):
        await log.configure({name: {"retention.ms": "nonsense"}})
    await log.close()


@pytest.mark.kafka
async def test_a_refused_record_is_not_in_the_way_of_those_behind_it(kafka_url: str) -> None:
    """A producer that is kept after a refusal has everything refused that comes after it on that partition."""
    name = f"contract.{uuid.uuid4().hex}"
    log = KafkaLog(kafka_url)
    await log.create({name: {"max.message.bytes": "4096"}}, 1)
    await log.publish([Record(name, b"k", b"first")])
    with pytest.raises(LimitExceeded):
        await log.publish([Record(name, b"k", b"x" * 8192)])
    await log.publish([Record(name, b"k", b"second")])
    assert [record.value for record in await contents(log, name)] == [b"first", b"second"]
    await log.close()


async def test_ping_answers(log: EventLog) -> None:
    await log.ping()


@pytest.mark.kafka
async def test_a_broker_that_dies_under_a_tail_is_unavailable(kafka_server: KafkaServer) -> None:
    log = KafkaLog(kafka_server.url, request_s=3)
    await log.create({"t": {}}, 1)
    await log.publish([Record("t", b"k", b"x")])
    tail = log.tail(["t"], from_start=True, follow=True)
    assert (await asyncio.wait_for(anext(tail), 30)).value == b"x"
    kafka_server.kill()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(anext(tail), 60)
    await log.close()


@pytest.mark.parametrize("call", ["ping", "partitions", "publish", "create", "lag", "configurations", "configure"])
async def test_kafka_away_is_unavailable(call: str) -> None:
    """The port answers nothing: every method says so, in bounded time."""
    log = KafkaLog(f"kafka://127.0.0.1:{free_ports(1)[0]}", request_s=0.5)
    calls = {
        "ping": log.ping,
        "partitions": lambda: log.partitions("t"),
        "publish": lambda: log.publish([Record("t", None, b"x")]),
        "create": lambda: log.create({"t": {}}, 1),
        "lag": lambda: log.lag("g", ["t"]),
        "configurations": lambda: log.configurations(["t"]),
        "configure": lambda: log.configure({"t": {"retention.ms": "1"}}),
    }
    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(calls[call](), 20)
    assert caught.value.dependency == "broker"
    await log.close()
