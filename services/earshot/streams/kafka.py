"""The Kafka transport: Faust's own driver with commits that pass nothing unacknowledged, and an idempotent producer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from earshot.streams.commits import LowestUnacked

log = structlog.get_logger()


class Consumer(LowestUnacked, driver.Consumer):
    """Commits the lowest unacknowledged offset.

    Where an offset is out of range the client goes back to the earliest record there is (``auto.offset.reset``): that
    nothing is skipped is worth the repetition. What that came from is said in the log, as an error.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._gaps: set[TP] = set()
        super().__init__(*args, **kwargs)

    def _to_message(self, tp: TP, record: Any) -> Any:
        message = super()._to_message(tp, record)
        partition = TP(*tp)
        expected = self.track_delivery(partition, record.offset, message.generation_id or 0)
        if expected is not None and record.offset < expected:
            log.error("log_ended_before_the_commit", **_place(partition), committed=expected, again_from=record.offset)
        elif expected is not None and record.offset > expected and partition not in self._gaps:
            self.add_future(self._look_into_gap(partition, expected))
        return message

    async def _look_into_gap(self, partition: TP, expected: int) -> None:
        """Tell compaction, which leaves gaps, from retention, which has deleted what nobody had read."""
        self._gaps.add(partition)
        try:
            start = (await self.earliest_offsets(partition))[partition]
        except KafkaError as error:
            log.warning("gap_unexplained", **_place(partition), expected=expected, error=str(error))
            return
        if start > expected:
            self._gaps.discard(partition)
            log.error("records_deleted_unread", **_place(partition), first=expected, number=start - expected)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to our own watchdog.

        Faust's cannot see what goes on under ``noack``: of every backlog of five minutes it logs an error for each
        partition every few seconds.
        """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to the commits; to the beginning where there is none, which the client itself does not."""
        committed = await super().seek_to_committed()
        fresh = [partition for partition, offset in committed.items() if not offset or offset < 0]
        if fresh:
            await self._thread.seek_to_beginning(*fresh)
        return committed


def _place(partition: TP) -> dict[str, Any]:
    return {"topic": partition.topic, "partition": partition.partition}


class Producer(driver.Producer):
    """Every record once and in order in the log, acknowledged by all in-sync replicas."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    """``earshotkafka://host:port``."""

    Consumer = Consumer
    Producer = Producer
