"""A job, again at every change, until it ends."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

from earshot.adapters.problems import Refused
from earshot.kernel.ports import Job, Recordings
from earshot.query.settings import QuerySettings

_VERSION = re.compile(r"^[0-9]{1,18}$")
FINAL = frozenset({"completed", "failed", "cancelled"})


class Streams:
    """How many event streams are open, how they behave, and whether the process that serves them is ending."""

    def __init__(self, settings: QuerySettings) -> None:
        self.settings = settings
        self.open = 0
        self.ending = False

    def check(self) -> None:
        """Raise ``Refused`` (429) when no more fit."""
        if self.open >= self.settings.max_event_streams:
            raise Refused(
                429, "too_many_streams", "Too many event streams are open.", next_step="Poll the job instead."
            )


async def follow(
    recordings: Recordings, tenant: str, job: Job, last_event_id: str | None, streams: Streams
) -> AsyncIterator[Job]:
    """Yield the job now, unless the client has seen this version, then at every change; end with its final state.

    It also ends with the process: browsers connect again by themselves.
    """
    seen = int(last_event_id) if last_event_id and _VERSION.match(last_event_id) else -1
    deadline = time.monotonic() + streams.settings.events_max_s
    current: Job | None = job
    streams.open += 1
    try:
        while current is not None and not streams.ending and time.monotonic() < deadline:
            if current.version > seen:
                seen = current.version
                yield current
            if current.state in FINAL:
                return
            await asyncio.sleep(streams.settings.events_interval_s)
            current = await recordings.job(tenant, job.id)
    finally:
        streams.open -= 1
