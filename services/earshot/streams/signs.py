"""What a worker says of itself: that its loop turns, how it is, how much waits for it, that its work has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from earshot.kernel.errors import EarshotError
from earshot.kernel.ports import EventLog, Heartbeat, Heartbeats
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Stage
from earshot.streams.settings import WorkerSettings
from earshot.streams.vitals import Vitals

if TYPE_CHECKING:
    import faust

PULSE_S = 1.0
FINISHED_S = 1.0
"""Between two questions whether the stage's work has come to an end."""
log = structlog.get_logger()


class Signs:
    """The signs of one worker. Those that go on do so until they are cancelled; one that fails stops no work.

    Args:
        stage: what it does.
        name: of the worker, in its heartbeats.
        vitals: how it is.
        settings: prefix of topics and groups.
        worker: how often.
        heartbeats: where signs of life are kept.
        log: says how much waits.
    """

    def __init__(
        self,
        stage: Stage,
        name: str,
        vitals: Vitals,
        settings: Settings,
        worker: WorkerSettings,
        heartbeats: Heartbeats,
        log: EventLog,
    ) -> None:
        self._stage = stage
        self._name = name
        self._vitals = vitals
        self._settings = settings
        self._worker = worker
        self._heartbeats = heartbeats
        self._log = log

    async def pulse(self) -> None:
        """Show the watchdog that the event loop turns."""
        while True:
            self._vitals.beats += 1
            await asyncio.sleep(PULSE_S)

    async def heartbeats(self) -> None:
        """Say again and again how the worker is."""
        while True:
            await self.heartbeat()
            await asyncio.sleep(self._worker.heartbeat_s)

    async def heartbeat(self) -> None:
        """Say once how the worker is."""
        await self._call("heartbeat_failed", self._beat)

    async def lag(self, app: faust.App, topics: Sequence[str]) -> None:
        """Keep the lag of the worker's own partitions of these topics up to date."""
        group = self._settings.topic_prefix + self._stage.consumer_group

        async def look() -> None:
            mine = {(tp.topic, tp.partition) for tp in app.consumer.assignment()}
            lags = await self._log.lag(group, topics)
            self._vitals.lag = sum(end - done for place, (done, end) in lags.items() if place in mine)

        while True:
            await self._call("lag_unknown", look)
            await asyncio.sleep(self._worker.lag_s)

    async def finished(self, ending: asyncio.Event) -> None:
        """Set the event when the stage's work has come to an end."""

        async def look() -> None:
            if await self._stage.finished():
                log.info("finished", stage=self._stage.name, group=self._stage.consumer_group)
                ending.set()

        while True:
            await self._call("end_unknown", look)
            await asyncio.sleep(FINISHED_S)

    async def _beat(self) -> None:
        vitals = self._vitals
        info = {"lag": vitals.lag, "deliveries": vitals.deliveries, **self._stage.info()}
        sign = Heartbeat(self._stage.name, self._name, vitals.state, vitals.reason, datetime.now(UTC), info)
        await self._heartbeats.beat(sign)

    async def _call(self, event: str, call: Callable[[], Awaitable[None]]) -> None:
        """Call once; a failure is said, and is no reason to stop working."""
        try:
            await call()
        except EarshotError as error:
            log.warning(event, stage=self._stage.name, error=str(error))
        except Exception:  # a sign of life that cannot be given must never stop the work
            log.exception(event, stage=self._stage.name)
