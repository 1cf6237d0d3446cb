"""Looking for what an erasure has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from earshot.adapters.wiring import Kit
from earshot.eraser.places import Find, of_recording, of_tenant
from earshot.eraser.topics import never_later_than, on_topics


@dataclass(frozen=True)
class Report:
    """What was found of a recording or a tenant that was erased.

    Attributes:
        found: everything.
        complete: every place was looked into; with ``False`` the log was not read to its end in time.
        gone_at: when the eraser was done; ``None``: not yet.
        last_bytes: when the last bytes have left the broker at the latest; ``None``: nothing has to be waited for, or
            the erasure has not ended, so nobody can say.
    """

    found: tuple[Find, ...]
    complete: bool
    gone_at: datetime | None
    last_bytes: datetime | None

    @property
    def clean(self) -> bool:
        """Whether all is gone that should be."""
        return not any(find.wrong for find in self.found)


async def look_for_recording(kit: Kit, tenant: str, recording_id: str, within_s: float) -> Report:
    """Look everywhere for a recording. Raises ``Unavailable`` when a store does not answer."""
    gone = await kit.catalog.gone(tenant, recording_id)
    found = [find async for find in of_recording(kit, tenant, recording_id)]
    log = on_topics(kit.log, kit.codec, kit.settings, tenant, [recording_id], whole=False)
    return await _report(kit, found, log, gone.gone_at if gone else None, within_s)


async def look_for_tenant(kit: Kit, tenant: str, within_s: float) -> Report:
    """Look everywhere for a tenant. Raises ``Unavailable`` when a store does not answer."""
    erasure = await kit.catalog.tenant_erasure(tenant)
    found = [find async for find in of_tenant(kit, tenant)]
    recordings = await kit.catalog.recording_ids(tenant)
    log = on_topics(kit.log, kit.codec, kit.settings, tenant, recordings, whole=True)
    return await _report(kit, found, log, erasure.done_at if erasure.since is None else None, within_s)


async def _report(
    kit: Kit, found: list[Find], log: AsyncIterator[Find], gone_at: datetime | None, within_s: float
) -> Report:
    try:
        async with asyncio.timeout(within_s):
            found += [find async for find in log]
    except TimeoutError:
        found.append(Find("log", f"it could not be read to its end within {within_s:g} s", wrong=False))
        until = None if gone_at is None or kit.settings.embedded else never_later_than(gone_at)
        return Report(tuple(found), False, gone_at, until)
    until = max((find.until for find in found if find.until), default=None)
    return Report(tuple(found), True, gone_at, until)


async def remains(kit: Kit, tenant: str, recording_id: str) -> list[str]:
    """What is still found of a recording and should be gone, one line each; the last line is about the broker."""
    report = await look_for_recording(kit, tenant, recording_id, within_s=600.0)
    return [*(str(find) for find in report.found if find.wrong), broker_line(report)]


def broker_line(report: Report) -> str:
    """What is to be said of the bytes that a broker still has."""
    waiting = [str(find) for find in report.found if not find.wrong]
    if report.last_bytes is not None and report.last_bytes > datetime.now(UTC):
        return f"broker: the last bytes leave it by {report.last_bytes:%Y-%m-%d} ({'; '.join(waiting)})"
    return f"broker: {'; '.join(waiting) or 'nothing is left of it'}"
