"""Limits of tenants: what they are, and the refusal of what would exceed them, in the transaction that takes it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.kernel.errors import LimitExceeded, QuotaExceeded
from earshot.kernel.fairness import CLASSES, weight_ms
from earshot.kernel.ports.quotas import NO_LIMIT, Limits, Resource, Usage

MINUTE_MS = 60_000
MIB = 2**20
SOON_S = 60
"""After so long a client may look whether one of its recordings has ended."""
UNDER_WAY = ("pending", "running")
_RESOURCES: tuple[Resource, ...] = ("audio_ms_a_day", "recordings_in_flight", "storage_bytes")


class QuotasPart(Part):
    """The limits of tenants."""

    async def limits(self, tenant: str) -> Limits:
        """Those in force: the tenant's own, the system's where it has none."""
        return await self._db.read(lambda connection: _in_force(connection, self._limits, tenant))

    async def own_limits(self, tenant: str) -> dict[Resource, int]:
        """The tenant's own alone."""
        return await self._db.read(lambda connection: _own(connection, tenant))

    async def limit(self, tenant: str, changed: Mapping[Resource, int | None]) -> None:
        """Change a tenant's own limits."""

        def work(connection: sa.Connection) -> None:
            known = insert(connection, t.tenants).values(id=tenant, created_at=t.now())
            connection.execute(known.on_conflict_do_nothing())
            row = insert(connection, t.limits).values({"tenant": tenant, **changed})
            connection.execute(row.on_conflict_do_update(index_elements=["tenant"], set_=dict(changed)))

        if changed:
            await self._db.write(work)

    async def usage(self, tenant: str) -> Usage:
        """What a tenant uses now."""

        def work(connection: sa.Connection) -> Usage:
            return Usage(_sent(connection, tenant, t.now()), _under_way(connection, tenant), _kept(connection, tenant))

        return await self._db.read(work)


def count_audio(connection: sa.Connection, defaults: Limits, tenant: str, audio_ms: int) -> None:
    """Count audio as sent today.

    Raises:
        QuotaExceeded: it would be more than the tenant may send a day.
        LimitExceeded: it alone is more.
    """
    now, limit = t.now(), _in_force(connection, defaults, tenant).audio_ms_a_day
    if limit is not None and audio_ms > limit:
        raise LimitExceeded(
            f"The recording has {_minutes(audio_ms)} of audio; this tenant may send {_minutes(limit)} a day.",
            next_step=_ask_for_more("--minutes-a-day", tenant, "Split it"),
        )
    sent = _sent(connection, tenant, now)
    if limit is not None and sent + audio_ms > limit:
        left_s = _seconds_to_midnight(now)
        raise QuotaExceeded(
            f"This tenant has sent {_minutes(sent)} of the {_minutes(limit)} of audio it may send a day (UTC); "
            f"this recording has {_minutes(audio_ms)}.",
            code="daily_minutes_used_up",
            next_step=_ask_for_more("--minutes-a-day", tenant, f"Send it again after midnight UTC, in {left_s} s"),
            after_s=left_s,
        )
    _add(connection, tenant, now, audio_ms)


def refuse_one_more(connection: sa.Connection, defaults: Limits, tenant: str) -> None:
    """Raise ``QuotaExceeded`` when no further recording may be in flight."""
    limit = _in_force(connection, defaults, tenant).recordings_in_flight
    if limit is not None and (now := _under_way(connection, tenant)) >= limit:
        raise QuotaExceeded(
            f"Recordings that wait or are worked on: {now} of the {limit} this tenant may have.",
            code="too_many_in_flight",
            next_step=_ask_for_more("--in-flight", tenant, "Send it again when one has ended"),
            after_s=SOON_S,
        )


def refuse_to_keep(connection: sa.Connection, defaults: Limits, tenant: str, size_bytes: int) -> None:
    """Raise ``QuotaExceeded`` when so many more bytes would be more than the tenant may keep."""
    limit = _in_force(connection, defaults, tenant).storage_bytes
    if limit is not None and (now := _kept(connection, tenant)) + size_bytes > limit:
        error = QuotaExceeded(
            f"This tenant keeps {_mib(now)} of the {_mib(limit)} it may keep; this recording has {_mib(size_bytes)}.",
            code="storage_used_up",
            next_step=_ask_for_more("--storage", tenant, "Erase recordings"),
        )
        error.status = 507  # RFC 4331, section 6: a request that would exceed a quota of storage
        raise error


def correct(connection: sa.Connection, job: sa.Row[Any], duration_ms: int) -> None:
    """A job turned out to be so long: what it counts for is put right, today's and in the tenant's turn."""
    if job.audio_ms is None or (more_ms := weight_ms(duration_ms) - job.audio_ms) == 0:
        return
    c = t.jobs.c
    mine = (c.tenant == job.tenant, c.recording_id == job.recording_id, c.revision == job.revision)
    counts = {"audio_ms": c.audio_ms + more_ms, "in_flight_ms": c.in_flight_ms + more_ms}  # null stays null
    connection.execute(sa.update(t.jobs).where(*mine).values(counts))
    _add(connection, job.tenant, job.created_at, more_ms)
    recording = t.recordings.c
    priority = sa.select(recording.priority).where(recording.tenant == job.tenant, recording.id == job.recording_id)
    lane = CLASSES.index(connection.execute(priority).scalar_one())
    turn = sa.update(t.turns).where(t.turns.c.tenant == job.tenant, t.turns.c.lane == lane)
    connection.execute(turn.values(deficit_ms=t.turns.c.deficit_ms - more_ms))


def _in_force(connection: sa.Connection, defaults: Limits, tenant: str) -> Limits:
    own = _own(connection, tenant)
    return Limits(**asdict(defaults) | {name: None if value == NO_LIMIT else value for name, value in own.items()})


def _own(connection: sa.Connection, tenant: str) -> dict[Resource, int]:
    row = connection.execute(sa.select(t.limits).where(t.limits.c.tenant == tenant)).first()
    found = {name: getattr(row, name, None) for name in _RESOURCES}
    return {name: value for name, value in found.items() if value is not None}


def _sent(connection: sa.Connection, tenant: str, now: datetime) -> int:
    c = t.usage.c
    today = sa.select(c.audio_ms).where(c.tenant == tenant, c.day == _day(now))
    return connection.scalar(today) or 0


def _add(connection: sa.Connection, tenant: str, at: datetime, audio_ms: int) -> None:
    row = insert(connection, t.usage).values(tenant=tenant, day=_day(at), audio_ms=audio_ms)
    more = t.usage.c.audio_ms + row.excluded.audio_ms
    connection.execute(row.on_conflict_do_update(index_elements=["tenant", "day"], set_={"audio_ms": more}))


def _under_way(connection: sa.Connection, tenant: str) -> int:
    c = t.jobs.c
    query = sa.select(sa.func.count()).where(c.tenant == tenant, c.state.in_(UNDER_WAY))
    return connection.scalar(query) or 0


def _kept(connection: sa.Connection, tenant: str) -> int:
    c = t.recordings.c
    return int(connection.scalar(sa.select(sa.func.sum(c.size_bytes)).where(c.tenant == tenant)) or 0)


def _day(at: datetime) -> str:
    return at.astimezone(UTC).date().isoformat()


def _seconds_to_midnight(now: datetime) -> int:
    midnight = datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)
    return int((midnight - now).total_seconds()) + 1


def _minutes(milliseconds: int) -> str:
    return f"{milliseconds / MINUTE_MS:.1f} min"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB"


def _ask_for_more(option: str, tenant: str, first: str) -> str:
    return f"{first}, or have the limit raised: earshot tenants limits {tenant} {option} N."
