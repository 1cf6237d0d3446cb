"""What may be worked on: refuses what does not decode, carries out deletions, asks the gate."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace

from earshot.kernel import telemetry
from earshot.kernel.errors import Permanent, UnknownRecording
from earshot.kernel.gate import Verdict
from earshot.kernel.stage import Delivery, Stage
from earshot.streams.arrival import Arrived
from earshot.streams.unit import Desk, Tools, Unit


class Admission:
    """Lets through what the stage is to work on; everything else is dealt with here and acknowledged."""

    def __init__(self, stage: Stage, tools: Tools, desk: Desk) -> None:
        self._stage = stage
        self._tools = tools
        self._desk = desk

    async def open(self, arrived: Arrived) -> Unit | None:
        """The unit of a decoded event; ``None`` when there was none and the arrival has been dealt with."""
        if arrived.event is not None:
            span = telemetry.start_processing(self._stage.name, arrived.record, arrived.event)
            return Unit(arrived, Delivery(arrived.event, arrived.record), span)
        try:
            if arrived.error is not None:
                raise arrived.error
            await self._tools.patience.until(lambda: self._delete(arrived))
            self._tools.metrics.skipped(1)
        except Permanent as error:
            context = telemetry.record_context(arrived.record)
            await self._desk.bury(arrived.record, error, telemetry.trace_id_of(trace.get_current_span(context)))
        arrived.ack()
        return None

    async def admit(self, units: Sequence[Unit]) -> list[Unit]:
        """The units the gate lets through.

        What it refuses may have been worked on before a crash, so its outputs are undone all the same.
        """
        judged = await self._desk.judge(units)
        if self._stage.adopt is not None and any(verdict is Verdict.UNKNOWN for _, verdict in judged):
            judged = await self._desk.judge([unit for unit, verdict in judged if await self._adopted(unit, verdict)])
        for unit, verdict in judged:
            if verdict not in (Verdict.GO, Verdict.UNKNOWN):
                await self._desk.drop(unit, verdict)
            elif verdict is Verdict.UNKNOWN:
                event = unit.delivery.event
                about = f"revision {event.revision} of recording {event.recording_id}"
                await self._desk.give_up(unit, UnknownRecording(f"The catalog has never heard of {about}."))
        return [unit for unit, verdict in judged if verdict is Verdict.GO]

    async def _adopted(self, unit: Unit, verdict: Verdict) -> bool:
        """Make an unknown recording known; ``False`` when that is refused for good."""
        adopt = self._stage.adopt
        if verdict is not Verdict.UNKNOWN or adopt is None:
            return True
        try:
            await self._tools.patience.until(lambda: adopt(unit.delivery))
        except Permanent as error:
            await self._desk.give_up(unit, error, known=False)
            return False
        return True

    async def _delete(self, arrived: Arrived) -> None:
        if self._stage.tombstone is not None:
            await self._desk.publish(self._stage.tombstone(arrived.record), [])
