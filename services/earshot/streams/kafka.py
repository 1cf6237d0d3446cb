"""The Kafka transport: Faust's own driver with commits that pass nothing unacknowledged, and an idempotent producer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from earshot.streams.commits import LowestUnacked


class Consumer(LowestUnacked, driver.Consumer):
    """Commits the lowest unacknowledged offset."""

    def _to_message(self, tp: TP, record: Any) -> Any:
        message = super()._to_message(tp, record)
        self.track_delivery(TP(*tp), record.offset, message.generation_id or 0)
        return message

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


class Producer(driver.Producer):
    """Every record once and in order in the log, acknowledged by all in-sync replicas."""

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):
    """``earshotkafka://host:port``."""

    Consumer = Consumer
    Producer = Producer
