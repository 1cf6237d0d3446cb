"""Transcripts, readable as soon as a segment is transcribed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.attempt_rows import store_segments
from earshot.adapters.catalog.base import lock_recordings
from earshot.adapters.catalog.excerpts import ExcerptsPart
from earshot.adapters.catalog.rows import cancelled_revisions
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.gate import Standing, visible
from earshot.kernel.ports import StoredSegment


class TranscriptsPart(ExcerptsPart):
    """Stored segments by recording, index and revision."""

    async def store(self, segments: Sequence[StoredSegment]) -> None:
        """Upsert by (recording, index, revision); what was erased or cancelled meanwhile is left out."""

        def work(connection: sa.Connection) -> None:
            known = lock_recordings(connection, {(s.event.tenant, s.event.recording_id) for s in segments})
            cancelled = {key: cancelled_revisions(connection, *key) for key in known}
            wanted = []
            for segment in segments:
                key = (segment.event.tenant, segment.event.recording_id)
                erased = key in known and known[key].state == "erased"
                if not erased and segment.event.revision not in cancelled.get(key, ()):
                    wanted.append((segment.event, segment.cache_key))
            store_segments(connection, wanted)

        await self._db.write(work)

    async def highest(self, tenant: str, recording_id: str, index: int) -> SegmentTranscribed | None:
        """The stored segment with the highest revision that is not cancelled or erased."""

        def work(connection: sa.Connection) -> SegmentTranscribed | None:
            c = t.transcript_segments.c
            query = (
                sa.select(c.body)
                .where(_of(tenant, recording_id), c.segment == index, c.body != "")
                .where(c.revision.not_in(cancelled_revisions(connection, tenant, recording_id)))
                .order_by(c.revision.desc())
                .limit(1)
            )
            body = connection.scalar(query)
            return None if body is None else SegmentTranscribed.model_validate_json(body)

        return await self._db.read(work)

    async def transcript(self, tenant: str, recording_id: str) -> list[SegmentTranscribed]:
        """For every index the visible segment with the highest revision, in order of index."""
        c = t.transcript_segments.c
        mine = _of(tenant, recording_id)

        def work(connection: sa.Connection) -> list[str]:
            shown = shown_revisions(connection, tenant, recording_id)
            best = (
                sa.select(c.segment, sa.func.max(c.revision).label("revision"))
                .where(mine, c.revision.in_(shown))
                .group_by(c.segment)
                .subquery()
            )
            query = (
                sa.select(c.body)
                .join(best, sa.and_(c.segment == best.c.segment, c.revision == best.c.revision))
                .where(mine, c.body != "")
                .order_by(c.segment)
            )
            return list(connection.scalars(query)) if shown else []

        bodies = await self._db.read(work)
        return await asyncio.to_thread(lambda: [SegmentTranscribed.model_validate_json(body) for body in bodies])

    async def forget(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        """Delete the stored segments: of one revision, of those up to one, or all."""
        statement = sa.delete(t.transcript_segments).where(_of(tenant, recording_id, revision, up_to))
        await self._db.write(lambda connection: connection.execute(statement).close())

    async def stored(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> list[tuple[int, int, str | None]]:
        """(revision, index, cache key) of the stored segments, for the eraser."""
        c = t.transcript_segments.c
        query = sa.select(c.revision, c.segment, c.cache_key).where(_of(tenant, recording_id, revision, up_to))
        query = query.order_by(c.revision, c.segment)
        return await self._db.read(
            lambda connection: [(row.revision, row.segment, row.cache_key) for row in connection.execute(query)]
        )


def standing_of(row: sa.Row[Any]) -> Standing:
    """Where a row of ``recordings`` stands."""
    return Standing(row.state, row.revision, row.visible_from)


def shown_revisions(connection: sa.Connection, tenant: str, recording_id: str) -> list[int]:
    """The revisions of a recording that may be shown."""
    mine = sa.and_(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)
    row = connection.execute(sa.select(t.recordings).where(mine)).first()
    if row is None:
        return []
    c = t.transcript_segments.c
    revisions = connection.scalars(sa.select(c.revision).where(_of(tenant, recording_id)).distinct())
    seen = {revision for revision in revisions if visible(standing_of(row), revision)}
    return sorted(seen - cancelled_revisions(connection, tenant, recording_id))


def _of(
    tenant: str, recording_id: str, revision: int | None = None, up_to: int | None = None
) -> sa.ColumnElement[bool]:
    c = t.transcript_segments.c
    conditions = [c.tenant == tenant, c.recording_id == recording_id]
    if revision is not None:
        conditions.append(c.revision == revision)
    if up_to is not None:
        conditions.append(c.revision <= up_to)
    return sa.and_(*conditions)
