"""Tries at costly units, and leases on long ones: what must survive the process that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.engine import insert


class AttemptsPart(Part):
    """Durable counts of tries."""

    async def begin_first(self, stage: str, units: Sequence[str]) -> set[str]:
        """Count a first try at each unit that has none, and return those; the others were tried before."""

        def work(connection: sa.Connection) -> set[str]:
            fresh: set[str] = set()
            for some in chunks(sorted(units)):
                rows = [{"stage": stage, "unit": unit, "count": 1, "updated_at": t.now()} for unit in some]
                first = insert(connection, t.attempts).values(rows).on_conflict_do_nothing()
                fresh.update(connection.scalars(first.returning(t.attempts.c.unit)))
            return fresh

        return await self._db.write(work)

    async def begin(self, stage: str, unit: str) -> int:
        """Count one more try at a unit and return how many there have been."""

        def work(connection: sa.Connection) -> int:
            first = insert(connection, t.attempts).values(stage=stage, unit=unit, count=1, updated_at=t.now())
            again = first.on_conflict_do_update(
                index_elements=["stage", "unit"],
                set_={"count": t.attempts.c["count"] + 1, "updated_at": first.excluded.updated_at},
            )
            return int(connection.scalars(again.returning(t.attempts.c["count"])).one())

        return await self._db.write(work)

    async def forgive(self, stage: str, unit: str) -> None:
        """The last try ended for a reason outside the unit: it does not count, those before it do."""
        c = t.attempts.c
        mine = sa.update(t.attempts).where(c.stage == stage, c.unit == unit, c["count"] > 0)
        await self._db.write(lambda connection: connection.execute(mine.values(count=c["count"] - 1)).close())

    async def finish(self, stage: str, units: Sequence[str]) -> None:
        """The units are done or dead-lettered: forget their counts."""
        c = t.attempts.c

        def work(connection: sa.Connection) -> None:
            for some in chunks(sorted(units)):
                connection.execute(sa.delete(t.attempts).where(c.stage == stage, c.unit.in_(some)))

        if units:
            await self._db.write(work)


class LeasesPart(Part):
    """Leases that end by themselves when their holder stops renewing them."""

    async def acquire(self, name: str, owner: str, ttl_s: float) -> bool:
        """Take a lease that is free, expired or one's own already; ``False`` while another owner holds it."""

        def work(connection: sa.Connection) -> bool:
            at = _clock(connection)
            mine = insert(connection, t.leases).values(name=name, owner=owner, expires_at=at + timedelta(seconds=ttl_s))
            taken = mine.on_conflict_do_update(
                index_elements=["name"],
                set_={"owner": mine.excluded.owner, "expires_at": mine.excluded.expires_at},
                where=sa.or_(t.leases.c.owner == owner, t.leases.c.expires_at <= at),
            )
            return connection.scalars(taken.returning(t.leases.c.name)).first() is not None

        return await self._db.write(work)

    async def renew(self, name: str, owner: str, ttl_s: float) -> bool:
        """Hold it longer; ``False`` when it was lost meanwhile."""

        def work(connection: sa.Connection) -> bool:
            c = t.leases.c
            longer = sa.update(t.leases).where(c.name == name, c.owner == owner)
            until = _clock(connection) + timedelta(seconds=ttl_s)
            return connection.execute(longer.values(expires_at=until)).rowcount == 1

        return await self._db.write(work)

    async def release(self, name: str, owner: str) -> None:
        """Let go; what another holds stays theirs."""
        mine = sa.delete(t.leases).where(t.leases.c.name == name, t.leases.c.owner == owner)
        await self._db.write(lambda connection: connection.execute(mine).close())


def _clock(connection: sa.Connection) -> datetime:
    """One clock for all holders: the server's; on SQLite all of them are on this machine."""
    if connection.dialect.name != "postgresql":
        return t.now()
    return connection.scalars(sa.select(sa.func.clock_timestamp(type_=sa.DateTime(timezone=True)))).one()
