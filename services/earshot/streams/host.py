"""The host: a stage becomes an at-least-once Faust app that never sits alive and idle."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from earshot.kernel.codec import Codec, Record
from earshot.kernel.ending import Ending, end_within
from earshot.kernel.errors import Misconfigured
from earshot.kernel.gate import Gate
from earshot.kernel.ports import Attempts, EventLog, Heartbeats
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Stage
from earshot.kernel.topics import RECORDINGS_PROGRESS, Topic
from earshot.streams.arrival import Reader
from earshot.streams.collector import Collector
from earshot.streams.dead_letters import DeadLetters
from earshot.streams.faust_app import build_app, let_flow
from earshot.streams.faust_producer import FaustProducer, Guard
from earshot.streams.lanes import Lanes
from earshot.streams.metrics import Metrics
from earshot.streams.patience import Patience
from earshot.streams.processor import Processor
from earshot.streams.sender import Sender
from earshot.streams.settings import WorkerSettings
from earshot.streams.signs import Signs
from earshot.streams.tasks import cancelled, first, raise_first
from earshot.streams.unit import Point, Tools, pass_by
from earshot.streams.vitals import Vitals
from earshot.streams.watchdog import Watchdog, watch

if TYPE_CHECKING:
    import faust

EXIT_BUG = 70
"""EX_SOFTWARE of sysexits.h: an error nobody foresaw; its event is not committed."""
EXIT_MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h: a person must act."""
log = structlog.get_logger()


@dataclass(frozen=True)
class Ports:
    """What every stage's host works with, apart from the stage's own.

    Attributes:
        probes: check, by name, what every stage depends on; raise ``Unavailable`` while it is down.
        broker: guards what is sent to the broker.
    """

    codec: Codec
    gate: Gate
    attempts: Attempts
    heartbeats: Heartbeats
    log: EventLog
    probes: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    broker: Guard | None = None


class Host:
    """Runs one stage in this process until it is asked to end.

    Args:
        stage: what to do.
        settings: where things are.
        worker: how to behave.
        ports: of this process.
        point: called at the fault points; tests use it to crash there.
    """

    def __init__(
        self, stage: Stage, settings: Settings, worker: WorkerSettings, ports: Ports, point: Point = pass_by
    ) -> None:
        self.stage = stage
        self.vitals = Vitals()
        self.metrics = Metrics(stage.name, self.vitals, stage.counts)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._worker = worker
        self._ports = ports
        self._point = point
        self._patience = Patience(self.vitals, worker.retry_first_s, worker.retry_max_s)
        self._collector = Collector(stage.batch, Lanes(stage.sources, self._let_flow) if stage.lanes else None)
        self._app: faust.App | None = None
        self._ending = Ending(worker.drain_s + worker.stop_s)
        self._intake_broken = asyncio.Event()
        self._broken: Exception | None = None
        self._limit: threading.Timer | None = None
        self._signs = Signs(stage, self.name, self.vitals, settings, worker, ports.heartbeats, ports.log)
        self._topics = {settings.topic(topic.name): topic for topic in stage.sources}

    @property
    def probes(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Checks of everything the worker depends on, by name."""
        own = self.stage.probe
        return {**self._ports.probes, **({f"what the {self.stage.name} needs": own} if own else {})}

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until something needs a person; return the exit code of the process."""
        watching = watch(
            Watchdog(
                self.vitals,
                deadline_s=self.stage.deadline_s * self.stage.batches_in_work,  # each may wait for those before it
                stall_s=self._worker.stall_s,
                silence_s=self._worker.silence_s,
            )
        )
        try:
            with self._ending.on_signals():
                return await self._run()
        except Misconfigured as error:
            log.critical("misconfigured", stage=self.stage.name, error=str(error), exc_info=True)
            return EXIT_MISCONFIGURED
        except Exception:
            log.critical("worker_failed", stage=self.stage.name, exc_info=True)
            return EXIT_BUG
        finally:
            watching.set()
            if self._limit is not None:
                self._limit.cancel()

    async def _run(self) -> int:
        async with AsyncExitStack() as stack:
            background = [asyncio.create_task(self._signs.pulse()), asyncio.create_task(self._signs.heartbeats())]
            stack.push_async_callback(cancelled, background)
            start = asyncio.create_task(self._start(stack))
            await first(start, self._asked())
            if not start.done():  # asked to end while a dependency was down
                self._limit = end_within(self._worker.stop_s, 0)
                await cancelled([start])
                return 0
            app, processor = start.result()
            background.append(asyncio.create_task(self._signs.heartbeat()))  # it is ready now
            background.append(asyncio.create_task(self._signs.lag(app, sorted(self._topics))))
            background.append(asyncio.create_task(self._signs.finished(self._ending.asked)))
            pumps = [asyncio.create_task(self._pump(processor)) for _ in range(self.stage.batches_in_work)]
            await self._until_ended(app, pumps)
        return 0

    async def _start(self, stack: AsyncExitStack) -> tuple[faust.App, Processor]:
        """Check topics and schemas, enter the stage's resources and start the app; waits while a dependency is down."""
        partitions = await self._patience.until(self._partitions)
        await self._patience.until(lambda: asyncio.to_thread(self._ports.codec.prepare, self._carrying))
        with self.vitals.pause("It is loading what it works with."):  # alive, and not ready
            await self._patience.until(lambda: stack.enter_async_context(self.stage.resources()))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"earshot-{self.stage.name}-")))
        reader = Reader(self._ports.codec, self._topics)

        async def arrive(record: Record, ack: Callable[[], object], ours: Callable[[], bool]) -> None:
            self.vitals.delivered()
            try:
                await self._collector.put(await self._patience.until(lambda: reader.read(record, ack, ours)))
            except Exception as error:  # Faust would log it, start its agent again and go on behind this record
                self._broken = error
                self._intake_broken.set()
                raise

        app = self._app = build_app(self.stage, self._settings, self._worker, folder, arrive)

        async def assigned(*_: Any, **__: Any) -> None:
            self.vitals.joining = False

        app.on_partitions_assigned.connect(assigned, weak=False)
        stack.push_async_callback(app.stop)
        self.vitals.joining = True
        await app.start()
        log.info("started", stage=self.stage.name, topics=sorted(self._topics), worker=self.name)
        return app, Processor(self.stage, self._tools(app, partitions))

    def _tools(self, app: faust.App, partitions: dict[str, int]) -> Tools:
        ports, worker = self._ports, self._worker
        sender = Sender(
            FaustProducer(app, ports.broker),
            ports.codec,
            self.stage.name,
            self._settings.topic,
            partitions,
            self.vitals,
            in_flight=worker.sends_in_flight,
            slow_s=worker.slow_send_s,
        )
        letters = DeadLetters(self.stage.name, sender, worker.dead_letters_in_a_row)
        patience, vitals, metrics = self._patience, self.vitals, self.metrics
        return Tools(ports.gate, ports.attempts, sender, letters, patience, vitals, metrics, self._point)

    @property
    def _carrying(self) -> set[Topic]:
        """The topics whose events it reads or writes."""
        return {*self.stage.sources, *self.stage.sinks, RECORDINGS_PROGRESS}

    async def _partitions(self) -> dict[str, int]:
        """How many partitions each topic has that the stage may touch. Raises ``Misconfigured`` for a missing one."""
        topics = self._carrying | {topic.dead_letters for topic in self.stage.sources}
        found: dict[str, int] = {}
        for name in sorted(self._settings.topic(topic.name) for topic in topics):
            try:
                found[name] = await self._ports.log.partitions(name)
            except Misconfigured as error:
                raise Misconfigured(
                    f"{self.stage.name} needs the topic {name}: {error.detail}", next_step="Run: earshot topics create"
                ) from error
        return found

    def _let_flow(self, topic: Topic, flows: bool) -> None:
        assert self._app is not None, "nothing arrives before the app is there"
        let_flow(self._app, self._settings.topic(topic.name), flows=flows)

    async def _pump(self, processor: Processor) -> None:
        while (batch := await self._collector.take()) is not None:
            await processor.process(batch)

    async def _until_ended(self, app: faust.App, pumps: list[asyncio.Task[None]]) -> None:
        """Wait for the end; then let the batches in work finish, within the drain's deadline."""
        try:
            await first(*pumps, self._asked(), self._intake_broken.wait(), app.wait_until_stopped())
            raise_first(pumps)
            if not self._ending.asked.is_set():
                raise self._broken or app.crash_reason or RuntimeError("The Faust app stopped by itself.")
            await self._collector.close()
            # What waits for something that is down is not worth waiting for: it will be delivered again.
            await asyncio.wait(
                pumps, timeout=0 if self.vitals.paused else self._worker.drain_s, return_when=asyncio.FIRST_EXCEPTION
            )
            raise_first(pumps)
            if not all(pump.done() for pump in pumps):
                log.warning("not_drained", stage=self.stage.name, reason=self.vitals.reason or "The deadline passed.")
        finally:
            # What follows commits what is acknowledged and leaves the group, where the broker still answers.
            self._limit = end_within(self._worker.stop_s, 0 if self._ending.asked.is_set() else EXIT_BUG)
            await self._collector.close()
            await cancelled(pumps)

    async def _asked(self) -> None:
        """Return when the worker is to end; from then on it is not ready."""
        await self._ending.asked.wait()
        if not self.vitals.ending:
            self.vitals.ending = True
            log.info("ending", stage=self.stage.name)
