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
        rows = list(connection.execute(columns.where(among(some, c.tenant, c.id))))
        several = [(row.tenant, row.id) for row in rows if row.visible_from < row.revision]
        cancelled = _cancelled(connection, several)
        for row in rows:
            lower = cancelled.get((row.tenant, row.id), frozenset())
            found[(row.tenant, row.id)] = Standing(row.state, row.revision, row.visible_from, lower)
    return found


def among(
    keys: Sequence[RecordingKey], tenant: sa.ColumnElement[str], recording_id: sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """Whether a row is of one of these recordings; tenant by tenant, as SQLite scans the table for a list of pairs."""
    by_tenant: dict[str, list[str]] = {}
    for of, key in keys:
        by_tenant.setdefault(of, []).append(key)
    return sa.or_(*(sa.and_(tenant == of, recording_id.in_(some)) for of, some in by_tenant.items()))


def _cancelled(connection: sa.Connection, keys: Sequence[RecordingKey]) -> Mapping[RecordingKey, frozenset[int]]:
    """The cancelled attempts before the current one, of recordings of which more than one may be shown."""
    if not keys:
        return {}
    job, recording = t.jobs.c, t.recordings.c
    query = (
        sa.select(job.tenant, job.recording_id, job.revision)
        .join(t.recordings, sa.and_(recording.tenant == job.tenant, recording.id == job.recording_id))
        .where(among(keys, job.tenant, job.recording_id), job.state == "cancelled")
        .where(job.revision >= recording.visible_from, job.revision < recording.revision)
    )
    found: dict[RecordingKey, frozenset[int]] = {}
    for row in connection.execute(query):
        key = (row.tenant, row.recording_id)
        found[key] = found.get(key, frozenset()) | {row.revision}
    return found
