"""What is kept for how long: recordings, and the audio of segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.forget import erase_recording
from earshot.adapters.catalog.leaving import under_way
from earshot.kernel.ports.retention import Attempt

ENDED = ("completed", "failed")
"""Jobs that need the audio of their segments no more, unless somebody sends one of these through again."""
DAY_US = 24 * 3600 * 1_000_000


class RetentionPart(Part):
    """Recordings and segments that are past their time."""

    async def tenant_retention(self, tenant: str) -> int | None:
        """Days that recordings of collections are kept which say nothing themselves; ``None``: for ever."""
        query = sa.select(t.tenants.c.retain_days).where(t.tenants.c.id == tenant)
        return await self._db.read(lambda connection: connection.scalar(query))

    async def keep_tenant(self, tenant: str, retain_days: int | None) -> None:
        """Set them. What is older already goes with the next round."""

        def work(connection: sa.Connection) -> None:
            row = insert(connection, t.tenants).values(id=tenant, created_at=t.now(), retain_days=retain_days)
            said = {"retain_days": retain_days}
            connection.execute(row.on_conflict_do_update(index_elements=["id"], set_=said))

        await self._db.write(work)

    async def erase_expired(self, now: datetime, limit: int) -> int:
        """Erase so many recordings that came in longer ago than they are kept, the oldest first; how many it were."""

        def work(connection: sa.Connection) -> int:
            rows: list[sa.Row[Any]] = []
            for tenant, kept_by, days in _rules(connection):
                room = min(limit - under_way(connection, tenant), limit) - len(rows)
                if room > 0:
                    rows += connection.execute(_older(kept_by, now - timedelta(days=days), room)).all()
            for row in rows:
                erase_recording(connection, self._codec, row, {})
            return len(rows)

        return await self._db.write(work)

    async def old_segments(self, now: datetime, keep: timedelta, limit: int) -> list[Attempt]:
        """So many attempts that ended longer ago than the audio of their segments is kept, and still have it."""
        job, recording, collection = t.jobs.c, t.recordings.c, t.collections.c
        days = sa.func.coalesce(
            collection.segment_audio_days * sa.literal(DAY_US, sa.BigInteger), keep // timedelta(microseconds=1)
        )
        query = (
            sa.select(job.tenant, job.recording_id, job.revision)
            .join(t.recordings, sa.and_(recording.tenant == job.tenant, recording.id == job.recording_id))
            .outerjoin(
                t.collections,
                sa.and_(collection.tenant == recording.tenant, collection.name == recording.collection),
            )
            .where(job.segments_dropped_at.is_(None), job.state.in_(ENDED), recording.source_key.is_not(None))
            .where(sa.type_coerce(job.updated_at, sa.BigInteger) + days < sa.literal(now, t.Moment))
            .order_by(job.updated_at)
            .limit(limit)
        )
        return await self._db.read(lambda connection: [Attempt(*row) for row in connection.execute(query)])

    async def segments_dropped(self, attempts: Sequence[Attempt]) -> None:
        """The audio of their segments is deleted."""
        at = t.now()

        def work(connection: sa.Connection) -> None:
            for some in chunks(sorted(attempts)):
                for attempt in some:
                    connection.execute(sa.update(t.jobs).where(_of(attempt)).values(segments_dropped_at=at))

        await self._db.write(work)


def _rules(connection: sa.Connection) -> Iterator[tuple[str, sa.ColumnElement[bool], int]]:
    """By tenant, which are kept how many days: those of a collection that says so, the others of a tenant that does."""
    r, c, tenant = t.recordings.c, t.collections.c, t.tenants.c
    own = sa.select(c.tenant, c.name, c.retain_days).where(c.retain_days.is_not(None))
    for owner, name, days in connection.execute(own.order_by(c.tenant, c.name)).all():
        yield owner, sa.and_(r.tenant == owner, r.collection == name), days
    tenants = sa.select(tenant.id, tenant.retain_days).where(tenant.retain_days.is_not(None)).order_by(tenant.id)
    for owner, days in connection.execute(tenants).all():
        theirs = sa.select(c.name).where(c.tenant == owner, c.retain_days.is_not(None))
        yield owner, sa.and_(r.tenant == owner, r.collection.not_in(theirs)), days


def _older(which: sa.ColumnElement[bool], moment: datetime, limit: int) -> sa.Select[Any]:
    c = t.recordings.c
    # what another transaction holds comes in the next round: two that wait for each other would both fail
    old = sa.select(t.recordings).where(which, c.state != "erased", c.created_at < moment)
    return old.order_by(c.created_at, c.id).limit(limit).with_for_update(skip_locked=True)


def _of(attempt: Attempt) -> sa.ColumnElement[bool]:
    c = t.jobs.c
    return sa.and_(c.tenant == attempt.tenant, c.recording_id == attempt.recording_id, c.revision == attempt.revision)
