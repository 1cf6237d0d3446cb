"""What the gate reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.kernel.gate import RecordingKey, Standing


class StandingsPart(Part):
    """Where recordings stand."""

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        """The standing of each recording known; the others are left out."""
        c = t.recordings.c
        columns = sa.select(c.tenant, c.id, c.state, c.revision, c.visible_from)

        def work(connection: sa.Connection) -> dict[RecordingKey, Standing]:
            found: dict[RecordingKey, Standing] = {}
            for some in chunks(sorted(set(keys))):
                for row in connection.execute(columns.where(sa.tuple_(c.tenant, c.id).in_(some))):
                    found[(row.tenant, row.id)] = Standing(row.state, row.revision, row.visible_from)
            return found

        return await self._db.read(work) if keys else {}
