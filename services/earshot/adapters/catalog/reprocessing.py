"""Recordings whose transcripts are to be made again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.attempt_rows import start
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.leaving import lock_tenant
from earshot.adapters.catalog.rows import find_job, job_of
from earshot.kernel.errors import LimitExceeded, QuotaExceeded
from earshot.kernel.ports import Job
from earshot.kernel.ports.reprocessing import Selection

ENDED = ("completed", "failed")


class ReprocessingPart(Part):
    """Making transcripts again."""

    async def matching(self, tenant: str, selection: Selection) -> int:
        """How many recordings of a tenant a selection finds."""
        query = sa.select(sa.func.count()).select_from(_found(tenant, selection).subquery())
        return await self._db.read(lambda connection: int(connection.scalar(query) or 0))

    async def reprocess(self, tenant: str, selection: Selection, limit: int, trace: dict[str, str]) -> list[Job]:
        """A new attempt (revision + 1) of so many of them, the oldest first; each with its outbox row at once.

        Raises:
            QuotaExceeded, LimitExceeded: the tenant may not begin the first of them now; later ones are left out.
        """
        c = t.recordings.c
        query = _found(tenant, selection).order_by(c.created_at, c.id).limit(limit)
        rows = await self._db.read(lambda connection: list(connection.execute(query)))
        jobs: list[Job] = []
        for row in rows:
            try:
                job = await self._again(tenant, row.id, selection, trace)
            except (QuotaExceeded, LimitExceeded):
                if jobs:
                    break
                raise
            if job is not None:
                jobs.append(job)
        return jobs

    async def _again(self, tenant: str, recording_id: str, selection: Selection, trace: dict[str, str]) -> Job | None:
        """A new attempt of a recording that is still meant once it is locked."""
        mine = sa.and_(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)

        def work(connection: sa.Connection) -> Job | None:
            lock_tenant(connection, tenant)  # before the recording, as whoever accepts one does
            connection.execute(sa.select(t.recordings.c.id).where(mine).with_for_update())
            if connection.execute(_found(tenant, selection).where(mine)).first() is None:
                return None
            connection.execute(sa.update(t.recordings).where(mine).values(revision=t.recordings.c.revision + 1))
            recording = connection.execute(sa.select(t.recordings).where(mine)).one()
            start(connection, self._codec, self._limits, recording, trace)
            job = find_job(connection, tenant, recording_id)
            assert job is not None
            return job_of(connection, job)

        return await self._db.write(work)


def _found(tenant: str, selection: Selection) -> sa.Select[Any]:
    """The ids that a selection finds."""
    recording, job = t.recordings.c, t.jobs.c
    latest = sa.and_(
        job.tenant == recording.tenant, job.recording_id == recording.id, job.revision == recording.revision
    )
    query = (
        sa.select(recording.id)
        .join(t.jobs, latest)
        .where(recording.tenant == tenant, recording.state == "live")
        .where(job.state.in_(ENDED), job.created_at < selection.before)
    )
    if not selection.edited:
        edit = t.revisions.c
        latest_edit = (edit.recording_id == recording.id, edit.revision == recording.revision)
        query = query.where(~sa.exists().where(edit.tenant == recording.tenant, *latest_edit, edit.corrected))
    if selection.collection is not None:
        query = query.where(recording.collection == selection.collection)
    if selection.engine is None and selection.degraded is None:
        return query
    segment = t.transcript_segments.c
    written = [
        segment.tenant == recording.tenant,
        segment.recording_id == recording.id,
        segment.revision == recording.revision,
    ]
    if selection.engine is not None:
        written.append(segment.engine == selection.engine)
    if selection.degraded is not None:
        written.append(segment.degraded == selection.degraded)
    return query.where(sa.exists().where(*written))
