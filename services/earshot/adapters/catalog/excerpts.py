"""What a search shows around its hits, in one look."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from pydantic import BaseModel

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.rows import recording_of
from earshot.adapters.catalog.standings import standings_of
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.gate import visible
from earshot.kernel.ports import Recording
from earshot.kernel.ports.excerpts import Excerpt

Bodies = dict[str, dict[int, str]]
"""The stored events, by recording and index."""


class _Text(BaseModel):
    """All that is read of a segment beside a hit; its words are many and not shown."""

    text: str


class ExcerptsPart(Part):
    """Pieces of several transcripts at once."""

    async def excerpts(self, tenant: str, wanted: Mapping[str, Collection[int]]) -> Mapping[str, Excerpt]:
        """Of each recording, the segments of these indexes, and the texts of those and of the ones beside."""

        def work(connection: sa.Connection) -> tuple[list[Recording], Bodies]:
            c = t.recordings.c
            mine = sa.select(t.recordings).where(c.tenant == tenant, c.state != "erased")
            rows = [row for some in chunks(sorted(wanted)) for row in connection.execute(mine.where(c.id.in_(some)))]
            return [recording_of(row) for row in rows], _bodies(connection, tenant, wanted)

        if not wanted:
            return {}
        recordings, bodies = await self._db.read(work)
        return await asyncio.to_thread(_excerpts, recordings, bodies, wanted)


def _bodies(connection: sa.Connection, tenant: str, wanted: Mapping[str, Collection[int]]) -> Bodies:
    """Of each segment wanted or beside one, the visible revision that is the highest."""
    c = t.transcript_segments.c
    standings = standings_of(connection, {(tenant, key) for key in wanted})
    found: Bodies = defaultdict(dict)
    for some in chunks(sorted(wanted)):
        # each recording by itself: SQLite looks a list of pairs up by reading every segment of the tenant
        near = [
            sa.and_(c.tenant == tenant, c.recording_id == key, c.segment.in_(_with_those_beside(wanted[key])))
            for key in some
        ]
        query = sa.select(c.recording_id, c.segment, c.revision, c.body).where(sa.or_(*near), c.body != "")
        for row in connection.execute(query.order_by(c.revision)):
            if visible(standings.get((tenant, row.recording_id)), row.revision):
                found[row.recording_id][row.segment] = row.body
    return found


def _with_those_beside(indexes: Collection[int]) -> list[int]:
    return sorted({at + step for at in indexes for step in (-1, 0, 1)})


def _excerpts(recordings: list[Recording], bodies: Bodies, wanted: Mapping[str, Collection[int]]) -> dict[str, Excerpt]:
    found = {}
    for recording in recordings:
        mine = bodies.get(recording.id, {})
        segments = {at: SegmentTranscribed.model_validate_json(mine[at]) for at in wanted[recording.id] if at in mine}
        beside = {at: _Text.model_validate_json(body).text for at, body in mine.items() if at not in segments}
        texts = beside | {at: segment.text for at, segment in segments.items()}
        found[recording.id] = Excerpt(recording, segments, texts)
    return found
