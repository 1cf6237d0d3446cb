"""What the gate reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.kernel.gate import RecordingKey, Standing


class StandingsPart(Part):
    """Where recordings stand."""

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        """The standing of each recording known; the others are left out."""
        return await self._db.read(lambda connection: standings_of(connection, keys)) if keys else {}


def standings_of(connection: sa.Connection, keys: Collection[RecordingKey]) -> dict[RecordingKey, Standing]:
    """The standing of each recording known; the others are left out."""
    c = t.recordings.c
    columns = sa.select(c.tenant, c.id, c.state, c.revision, c.visible_from)
    found: dict[RecordingKey, Standing] = {}
    for some in chunks(sorted(set(keys))):
        rows = list(connection.execute(columns.where(sa.tuple_(c.tenant, c.id).in_(some))))
        several = [(row.tenant, row.id) for row in rows if row.visible_from < row.revision]
        cancelled = _cancelled(connection, several)
        for row in rows:
            lower = cancelled.get((row.tenant, row.id), frozenset())
            found[(row.tenant, row.id)] = Standing(row.state, row.revision, row.visible_from, lower)
    return found


def _cancelled(connection: sa.Connection, keys: Sequence[RecordingKey]) -> Mapping[RecordingKey, frozenset[int]]:
    """The cancelled attempts before the current one, of recordings of which more than one may be shown."""
    if not keys:
        return {}
    job, recording = t.jobs.c, t.recordings.c
    query = (
        sa.select(job.tenant, job.recording_id, job.revision)
        .join(t.recordings, sa.and_(recording.tenant == job.tenant, recording.id == job.recording_id))
        .where(sa.tuple_(job.tenant, job.recording_id).in_(keys), job.state == "cancelled")
        .where(job.revision >= recording.visible_from, job.revision < recording.revision)
    )
    found: dict[RecordingKey, frozenset[int]] = {}
    for row in connection.execute(query):
        key = (row.tenant, row.recording_id)
        found[key] = found.get(key, frozenset()) | {row.revision}
    return found
