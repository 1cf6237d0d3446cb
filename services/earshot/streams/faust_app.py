"""A stage's sources as a Faust app that acknowledges nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust

from earshot.kernel.codec import Record
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Stage
from earshot.streams.settings import WorkerSettings
from earshot.streams.transports import SAFE_SETTINGS, assert_cython, faust_broker_url, register

Arrive = Callable[[Record, Callable[[], object], Callable[[], bool]], Awaitable[None]]
"""What an event is handed to: its record, its acknowledgement, whether its partition is still ours."""
MIN_BUFFER = 16
"""Events. When a buffer was full Faust looks again only after a second; what is left in it must last as long."""


ANSWER_S = 10.0
"""A broker that answers nothing for so long beyond what it may take for a rebalance is gone."""


def build_app(stage: Stage, settings: Settings, worker: WorkerSettings, folder: Path, arrive: Arrive) -> faust.App:
    """The app of a stage: one agent, one event at a time, nothing acknowledged but by ``arrive``'s second argument.

    Args:
        stage: says the consumer group and the topics.
        settings: broker and prefix.
        worker: timeouts.
        folder: temporary; Faust keeps a data folder even without tables.
        arrive: called for every record; the log waits while it does.
    """
    assert_cython()
    register()
    app = faust.App(
        settings.topic_prefix + stage.consumer_group,
        broker=faust_broker_url(settings.broker),
        datadir=str(folder),
        autodiscover=False,
        value_serializer="raw",
        key_serializer="raw",
        stream_buffer_maxsize=max(MIN_BUFFER, 2 * stage.batch.max_events),
        stream_wait_empty=False,
        **SAFE_SETTINGS | _membership(worker, stage.deadline_s * stage.batches_in_work),
    )
    names = [settings.topic(topic.name) for topic in stage.sources]
    source = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    async def intake(stream: Any) -> None:
        async for event in stream.noack().events():
            await arrive(*_taken(app, event))

    app.agent(source, name=f"{stage.name}.intake", concurrency=1)(intake)
    return app


def let_flow(app: faust.App, topic: str, *, flows: bool) -> None:
    """Fetch from a source's partitions of this worker, or do not; the others are fetched from as before."""
    consumer = app.consumer
    mine = {partition for partition in consumer.assignment() if partition.topic == topic}
    if flows:
        consumer.resume_partitions(mine)
    else:
        consumer.pause_partitions(mine)


def _membership(worker: WorkerSettings, deadline_s: float) -> dict[str, Any]:
    """How long the group waits for what; nothing is fetched during a unit, which may reach its deadline three times."""
    return {
        "consumer_group_instance_id": worker.instance_id or None,
        "broker_session_timeout": worker.session_timeout_s,
        "broker_request_timeout": max(worker.session_timeout_s, worker.rebalance_timeout_s) + ANSWER_S,
        "consumer_metadata_max_age_ms": int(worker.metadata_s * 1000),
        "producer_metadata_max_age_ms": int(worker.metadata_s * 1000),
        "broker_heartbeat_interval": worker.broker_heartbeat_s,
        "broker_rebalance_timeout": worker.rebalance_timeout_s,
        "broker_max_poll_interval": max(worker.poll_interval_s, 4 * deadline_s),
    }


def _taken(app: faust.App, event: Any) -> tuple[Record, Callable[[], object], Callable[[], bool]]:
    message = event.message
    pairs = message.headers.items() if hasattr(message.headers, "items") else message.headers or ()
    record = Record(
        topic=message.topic,
        key=message.key,
        value=message.value,
        headers=tuple((str(name), bytes(value or b"")) for name, value in pairs),
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int((message.timestamp or 0) * 1000),
    )
    generation = message.generation_id
    return record, event.ack, lambda: bool(generation == app.consumer_generation_id)
