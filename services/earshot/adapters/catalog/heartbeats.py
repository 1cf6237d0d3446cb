"""Signs of life of workers."""

from __future__ import annotations

import json
from datetime import timedelta

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.kernel.ports import Heartbeat

ALIVE = timedelta(minutes=1)
"""A worker not heard of for longer is left out."""


class HeartbeatsPart(Part):
    """What each worker last said of itself."""

    async def beat(self, beat: Heartbeat) -> None:
        """Upsert by stage and worker."""
        said = {"state": beat.state, "reason": beat.reason, "at": beat.at, "info": json.dumps(dict(beat.info))}

        def work(connection: sa.Connection) -> None:
            first = insert(connection, t.heartbeats).values(stage=beat.stage, worker=beat.worker, **said)
            connection.execute(first.on_conflict_do_update(index_elements=["stage", "worker"], set_=said))

        await self._db.write(work)

    async def heartbeats(self) -> list[Heartbeat]:
        """The latest of each worker seen in the last minute."""
        c = t.heartbeats.c
        query = sa.select(t.heartbeats).where(c.at >= t.now() - ALIVE).order_by(c.stage, c.worker)
        return await self._db.read(
            lambda connection: [
                Heartbeat(row.stage, row.worker, row.state, row.reason, row.at, json.loads(row.info))
                for row in connection.execute(query)
            ]
        )
