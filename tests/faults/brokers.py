"""What the fault suite asks of Kafka beyond the kernel's port: replicas, coordinators, groups, offsets; and traffic."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from earshot.kernel.errors import Unavailable
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import Topic
from tests.faults.guarantees import Outcome
from tests.faults.pipeline import passages_of, text_of
from tests.faults.system import PATIENCE_S, System, Worker
from tests.waiting import eventually


async def lasting(seconds: float) -> None:
    """Let a fault last: how long is part of what is injected, nothing is waited for."""
    await asyncio.sleep(seconds)


# --- Kafka ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def admin_of(system: System) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of the system's broker."""
    servers = system.settings.broker.removeprefix("kafka://").split(",")
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=10_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def coordinator(system: System, stage: str) -> int:
    """The node that coordinates a stage's group."""
    async with admin_of(system) as admin:
        return int(await admin.find_coordinator(system.settings.topic_prefix + stage))


async def leaders(system: System, topic: Topic) -> set[int]:
    """The nodes that lead partitions of a topic."""
    async with admin_of(system) as admin:
        [found] = await admin.describe_topics([system.settings.topic(topic.name)])
        return {part["leader"] for part in found["partitions"]}


async def whole(system: System, nodes: int) -> bool:
    """Whether so many nodes are there and every partition has as many replicas in sync."""
    async with admin_of(system) as admin:
        topics = await admin.describe_topics()
        in_sync = {len(part["isr"]) for topic in topics for part in topic["partitions"]}
        return len((await admin.describe_cluster())["brokers"]) == nodes and in_sync <= {nodes}


async def grow(system: System, topic: Topic, partitions: int) -> None:
    """Give a topic more partitions."""
    async with admin_of(system) as admin:
        await admin.create_partitions({system.settings.topic(topic.name): NewPartitions(partitions)})


async def configure(system: System, topic: Topic, config: Mapping[str, str]) -> None:
    """Replace the configuration of a topic."""
    resource = ConfigResource(ConfigResourceType.TOPIC, system.settings.topic(topic.name), configs=dict(config))
    async with admin_of(system) as admin:
        for answer in await admin.alter_configs([resource]):
            for code, message, *_ in answer.resources:
                assert code == 0, message


async def delete_records(system: System, topic: Topic, before: Mapping[int, int]) -> None:
    """Delete the oldest records of a topic, as retention does: by partition, those before an offset."""
    name = system.settings.topic(topic.name)
    async with admin_of(system) as admin:
        await admin.delete_records({TopicPartition(name, part): RecordsToDelete(end) for part, end in before.items()})


async def move_offsets(system: System, stage: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Commit offsets for a stage that nobody works for."""
    group = system.settings.topic_prefix + stage
    servers = system.settings.broker.removeprefix("kafka://").split(",")
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        places = {TopicPartition(*place): offset for place, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()


async def delete_group(system: System, stage: str) -> None:
    """Delete a stage's group with its offsets, as their expiry does; nobody may be working for it."""
    group = system.settings.topic_prefix + stage
    async with admin_of(system) as admin:
        node = await admin.find_coordinator(group)
        answer = await admin._send_request(_DeleteGroups([group]), node)
    [(_, code)] = answer.results
    if code:
        raise for_code(code)(group)


class _DeleteGroupsResponse(Response):
    API_KEY = 42
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("results", Array(("group_id", String("utf-8")), ("error_code", Int16)))
    )


class _DeleteGroupsStruct(RequestStruct):
    API_KEY = 42
    API_VERSION = 0
    RESPONSE_TYPE = _DeleteGroupsResponse
    SCHEMA = Schema(("groups", Array(String("utf-8"))))


class _DeleteGroups(Request[_DeleteGroupsStruct]):
    """aiokafka has every other request of an administrator."""

    API_KEY = 42

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[_DeleteGroupsStruct]) -> _DeleteGroupsStruct:
        return request_struct_class(self._groups)


# --- workers --------------------------------------------------------------------------------------------------------


def crew(system: System, **worker: Any) -> list[Worker]:
    """One worker of each stage, who leave their group at once when they are asked to end."""
    return [system.start(stage, instance_id="", **worker) for stage in ("copier", "shelver")]


async def dismissed(workers: Sequence[Worker]) -> None:
    """Ask workers to end; return when all have, in good order."""
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [await worker.ended() for worker in workers] == [0] * len(workers)


async def all_is_well(system: System, outcome: Outcome, workers: Sequence[Worker]) -> None:
    """Nothing lost, nothing wrong, nobody ended."""
    await system.settles(within=2 * PATIENCE_S)
    assert all(worker.alive for worker in workers), [worker.log()[-2000:] for worker in workers]
    await system.account(outcome)


# --- traffic --------------------------------------------------------------------------------------------------------


async def insist(system: System, *events: SegmentCut, within: float = PATIENCE_S) -> None:
    """Publish segments until it is acknowledged, as the relay does: again and again, the same ones."""

    async def acknowledged() -> bool:
        try:
            await system.publish(*events)
        except Unavailable:
            return False
        return True

    await eventually(acknowledged, within=within)


async def arrives(system: System, *events: SegmentCut, within: float = PATIENCE_S) -> None:
    """Return when the passages of these segments are on the shelf."""
    wanted = {(event.recording_id, event.index, text) for event in events for text in passages_of(text_of(event))}
    await eventually(lambda: wanted <= set(system.shelf.passages()), within=within, every=0.2)


async def works(system: System, within: float = PATIENCE_S) -> None:
    """Return when new segments, some for every partition, have gone all the way."""
    fresh = system.segments(12)
    await insist(system, *fresh, within=within)
    await arrives(system, *fresh, within=within)


@asynccontextmanager
async def traffic(system: System) -> AsyncIterator[None]:
    """Segments are published all the time, one after the other, each until it is acknowledged."""
    ended = asyncio.Event()

    async def run() -> None:
        while not ended.is_set():
            await insist(system, *system.segments(1), within=2 * PATIENCE_S)
            await asyncio.sleep(0.05)  # the pace

    task: asyncio.Task[Any] = asyncio.create_task(run())
    try:
        yield
    finally:
        ended.set()
        await task


async def busy(system: System, stage: str = "copier") -> int:
    """How many units are in flight, once there are any."""
    return int(await eventually(lambda: system.behind(stage)))
