"""What happens to a batch between its delivery and its acknowledgement.

Admit, count costly tries, work, publish, ask the gate again, undo, acknowledge. Nothing here knows Faust. An exception
that leaves :meth:`Processor.process` stops the worker; what was not acknowledged until then is delivered again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import count
from typing import Any

import structlog
from opentelemetry import trace

from earshot.kernel import telemetry
from earshot.kernel.errors import EarshotError, Misconfigured, Permanent, Transient, UnitCrashed
from earshot.kernel.gate import Verdict
from earshot.kernel.stage import Stage
from earshot.streams.admission import Admission
from earshot.streams.arrival import Arrived
from earshot.streams.company import Company
from earshot.streams.unit import Desk, Tools, Unit

MAX_TRIES = 3
"""A costly unit that crashed so often is dead-lettered."""
log = structlog.get_logger()


class Processor:
    """Takes the batches of one stage from delivery to acknowledgement."""

    def __init__(self, stage: Stage, tools: Tools) -> None:
        self._stage = stage
        self._tools = tools
        self._desk = Desk(stage, tools)
        self._admission = Admission(stage, tools, self._desk)
        self._company = Company(stage.batches_in_work)

    async def process(self, batch: Sequence[Arrived]) -> None:
        """Return when every arrival is acknowledged.

        Raises:
            Misconfigured: a person must act.
            Exception: a bug; the event is left unacknowledged.
        """
        began = time.monotonic()
        units: list[Unit] = []
        with self._tools.vitals.work(), ExitStack() as spans:
            self._tools.point("after_fetch")
            for arrived in batch:
                if (unit := await self._admission.open(arrived)) is not None:
                    spans.callback(unit.span.end)
                    units.append(unit)
            try:
                await self._run(await self._admission.admit(units))
            except asyncio.CancelledError:  # asked to end is no crash
                await self._desk.forget_tries(units)
                raise
        self._tools.metrics.batch(time.monotonic() - began)

    async def _run(self, units: Sequence[Unit]) -> None:
        """Work on units until each is done or given up.

        What was tried before may be what ended a worker. It is worked on while nothing else is, in any batch, so that
        nothing else is counted when it does so again.
        """
        if not units:
            return
        async with self._company.among_others():
            fresh, suspects = await self._counted(units)
            if len(fresh) == 1:
                await self._alone(fresh[0], 1)
            elif fresh and not await self._together(fresh):
                suspects += fresh
        for unit in suspects:
            async with self._company.alone():
                await self._alone(unit, await self._count(unit, 0))

    async def _counted(self, units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
        """The units whose first try this is, durably counted when the stage is costly, and those tried before."""
        if not self._stage.costly:
            return list(units), []
        names = [unit.id for unit in units]
        attempts = self._tools.attempts
        first = await self._tools.patience.until(lambda: attempts.begin_first(self._stage.name, names))
        return [unit for unit in units if unit.id in first], [unit for unit in units if unit.id not in first]

    async def _together(self, units: Sequence[Unit]) -> bool:
        """Work on a batch; ``False`` after an error: each is to be tried alone, so that one cannot spoil the others."""
        try:
            await self._once(units)
        except Misconfigured:
            raise
        except Exception as error:  # whose fault it is shows when each is tried alone, where a bug is raised again
            log.warning("batch_failed", error=repr(error), events=len(units))
            self._tools.metrics.retried()
            if isinstance(error, Transient) and not isinstance(error, UnitCrashed):
                await self._desk.forget_tries(units)
            return False
        return True

    async def _alone(self, unit: Unit, tries: int) -> None:
        """Work on one unit until it is done or given up."""
        for waits in count():
            if tries > MAX_TRIES:
                return await self._fail(unit, UnitCrashed(f"The worker died {MAX_TRIES} times at this event."))
            try:
                return await self._once([unit])
            except Permanent as error:
                return await self._fail(unit, error)
            except Transient as error:
                if isinstance(error, UnitCrashed) and tries >= MAX_TRIES:
                    return await self._fail(unit, error)
                tries = await self._after(unit, error, tries)
                await self._tools.patience.wait(waits, error)
            except Exception as error:
                if isinstance(error, Misconfigured) or not self._stage.costly or tries < MAX_TRIES:
                    telemetry.fail(unit.span, error)
                    raise
                log.exception("unit_crashed", unit=unit.id)
                why = f"{type(error).__name__}, {tries} times; the worker's log has the cause."
                return await self._fail(unit, UnitCrashed(f"The worker failed at this event with {why}"))
            tries = await self._count(unit, tries)
        return None

    async def _fail(self, unit: Unit, error: EarshotError) -> None:
        """Give a unit up; where it failed because it was erased or cancelled meanwhile, drop it without a word."""
        [(_, verdict)] = await self._desk.judge([unit])
        if verdict in (Verdict.GO, Verdict.UNKNOWN):
            await self._desk.give_up(unit, error)
        else:
            await self._desk.drop(unit, verdict)

    async def _after(self, unit: Unit, error: Transient, tries: int) -> int:
        """How many tries still count after an error that may pass: crashes do, an outage does not."""
        self._tools.metrics.retried()
        if isinstance(error, UnitCrashed):
            return tries
        await self._desk.forgive_try(unit)
        return tries - 1

    async def _once(self, units: Sequence[Unit]) -> None:
        """One try: work, confirmed outputs, the gate again, acknowledgement."""
        with self._current(units):
            await self._desk.publish(self._stage.work([unit.delivery for unit in units]), units)
        self._tools.point("after_send")
        judged = await self._desk.judge(units)
        await self._desk.undo([pair for pair in judged if pair[1] is not Verdict.GO])
        await self._desk.forget_tries(units)
        for unit in units:
            unit.arrived.ack()
        self._tools.point("after_ack")
        self._tools.vitals.trouble = ""
        self._tools.dead_letters.succeeded()
        self._tools.metrics.done(len(units))

    async def _count(self, unit: Unit, tries: int) -> int:
        """Count one more try: durably when the stage is costly."""
        if not self._stage.costly:
            return tries + 1
        return await self._tools.patience.until(lambda: self._tools.attempts.begin(self._stage.name, unit.id))

    def _current(self, units: Sequence[Unit]) -> AbstractContextManager[Any]:
        """The unit's span is the current one while it is worked on alone; in a batch none is."""
        if len(units) > 1:
            return nullcontext()
        return trace.use_span(units[0].span, record_exception=False, set_status_on_exception=False)
