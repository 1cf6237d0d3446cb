"""One event on its way through a stage, and the ways it can leave: published, undone, given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Span

from earshot.kernel import telemetry
from earshot.kernel.codec import Record
from earshot.kernel.errors import EarshotError, Permanent, UnknownRecording
from earshot.kernel.events import Event
from earshot.kernel.gate import Gate, Verdict
from earshot.kernel.ports import Attempts
from earshot.kernel.stage import Delivery, Output, Stage, Stale, progress
from earshot.streams.arrival import Arrived
from earshot.streams.dead_letters import DeadLetters
from earshot.streams.metrics import Metrics
from earshot.streams.patience import Patience
from earshot.streams.sender import Sender
from earshot.streams.vitals import Vitals

Point = Callable[[str], None]
"""Called at ``after_fetch``, ``in_work``, ``after_send`` and ``after_ack``: the moments at which a crash hurts."""
log = structlog.get_logger()


def pass_by(_name: str) -> None:
    """The fault point of production: nothing."""


@dataclass(frozen=True)
class Unit:
    """One decoded event, with its span. Its ``id`` is ``recording:revision:index``: costly tries count under it."""

    arrived: Arrived
    delivery: Delivery[Event]
    span: Span

    @property
    def id(self) -> str:
        """Under which costly tries are counted."""
        event = self.delivery.event
        return f"{event.recording_id}:{event.revision}:{getattr(event, 'index', None)}"


@dataclass(frozen=True)
class Tools:
    """Everything a stage's events are processed with."""

    gate: Gate
    attempts: Attempts
    sender: Sender
    dead_letters: DeadLetters
    patience: Patience
    vitals: Vitals
    metrics: Metrics
    point: Point = pass_by


class Desk:
    """The ways out of a stage. Every method waits for the broker's acknowledgement."""

    def __init__(self, stage: Stage, tools: Tools) -> None:
        self._stage = stage
        self._tools = tools

    async def publish(self, outputs: AsyncIterator[Output], units: Sequence[Unit]) -> int:
        """Publish outputs, each in the trace of the unit that caused it; return how many there were."""
        spans = {_place(unit.arrived.record): unit.span for unit in units}

        def trace(output: Output) -> Mapping[str, str]:
            span = spans.get(_place(output.cause.record))
            return telemetry.headers_of(span) if span else trace_of(output.cause.record)

        return await self._tools.sender.publish(outputs, trace, lambda: self._tools.point("in_work"))

    async def undo(self, judged: Sequence[tuple[Unit, Verdict]]) -> None:
        """Undo what was erased, cancelled or overtaken, however long it takes.

        A verdict may change while it is acted on: a cancelled attempt is tried again, and its null would then come
        after the new attempt's transcript. So the gate is asked again until the answer stays the same.
        """
        while judged:
            stale = [Stale(unit.delivery, verdict) for unit, verdict in judged]
            units = [unit for unit, _ in judged]
            await self._undo_once(stale, units)
            now = await self.judge(units)
            judged = [pair for pair, before in zip(now, judged, strict=True) if pair[1] not in (before[1], Verdict.GO)]

    async def _undo_once(self, stale: Sequence[Stale], units: Sequence[Unit]) -> None:
        await self._tools.patience.until(lambda: self.publish(self._stage.undo(stale), units))

    async def judge(self, units: Sequence[Unit]) -> list[tuple[Unit, Verdict]]:
        """Ask the gate once about all, waiting while the catalog does not answer."""
        if not units or not self._stage.gated:
            return [(unit, Verdict.GO) for unit in units]
        events = [unit.delivery.event for unit in units]
        verdicts = await self._tools.patience.until(lambda: self._tools.gate.verdicts(events, self._stage.judge))
        return list(zip(units, verdicts, strict=True))

    async def drop(self, unit: Unit, verdict: Verdict) -> None:
        """Undo what may have been made of a unit that the gate refuses, and acknowledge it."""
        try:
            await self.undo([(unit, verdict)])
        except Permanent as error:
            await self.give_up(unit, error)
        else:
            await self.forget_tries([unit])
            unit.arrived.ack()
            self._tools.metrics.skipped(1)

    async def bury(self, record: Record, error: EarshotError, trace_id: str) -> None:
        """Dead-letter a record."""
        log.error("dead_lettered", code=error.code, error=str(error), topic=record.topic, offset=record.offset)
        await self._tools.patience.until(lambda: self._tools.dead_letters.put(record, error, trace_id))
        self._tools.metrics.dead_lettered()

    async def give_up(self, unit: Unit, error: EarshotError, *, known: bool = True) -> None:
        """Dead-letter a unit, say so in the ledger, and acknowledge it.

        The ledger keeps what gated stages do to recordings it knows; telling it more would only make more dead letters.
        """
        telemetry.fail(unit.span, error)
        await self.bury(unit.arrived.record, error, telemetry.trace_id_of(unit.span))
        if self._stage.gated and known and not isinstance(error, UnknownRecording):
            failed = progress(self._stage.name, unit.delivery, state="failed", code=error.code, detail=error.detail)
            await self._tools.patience.until(lambda: self.publish(_one(failed), [unit]))
        await self.forget_tries([unit])
        unit.arrived.ack()

    async def forgive_try(self, unit: Unit) -> None:
        """The unit's last try does not count; crashes before it do."""
        if self._stage.costly:
            await self._tools.patience.until(lambda: self._tools.attempts.forgive(self._stage.name, unit.id))

    async def forget_tries(self, units: Sequence[Unit]) -> None:
        """The units' outcome is known: their tries no longer count."""
        if self._stage.costly and units:
            names = [unit.id for unit in units]
            await self._tools.patience.until(lambda: self._tools.attempts.finish(self._stage.name, names))


def trace_of(record: Record) -> Mapping[str, str]:
    """The W3C headers a record came with."""
    names = ("traceparent", "tracestate")
    return {name: value for name in names if (value := record.header(name)) is not None}


def _place(record: Record) -> tuple[str, int | None, int]:
    return record.topic, record.partition, record.offset


async def _one(output: Output) -> AsyncIterator[Output]:
    yield output
