"""Tenants that leave with everything, and what is remembered of recordings that are gone."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.forget import erase_recording
from earshot.kernel.ports.retention import Gone, TenantErasure, TenantLeaves

AT_ONCE = 2000
"""Rows deleted in one transaction, so that no other writer waits for long."""
_STAY = frozenset({"tenants", "recordings", "audit"})
"""What a tenant leaves: that it was erased, ids that must never live again, and for its own time who erased what."""


class LeavingPart(Part):
    """Erasing all that a tenant has."""

    async def erase_tenant(self, tenant: str) -> TenantErasure:
        """Hide every recording of a tenant at once and refuse new ones; the rest is done in parts by the eraser."""

        def work(connection: sa.Connection) -> TenantErasure:
            at, c = t.now(), t.recordings.c
            connection.execute(insert(connection, t.tenants).values(id=tenant, created_at=at).on_conflict_do_nothing())
            row = lock_tenant(connection, tenant)
            mine = sa.and_(c.tenant == tenant, c.state != "erased")
            ids = connection.scalars(sa.select(c.id).where(mine).order_by(c.id).with_for_update()).all()
            connection.execute(sa.update(t.recordings).where(mine).values(state="erased", same_as=None))
            if row.erasing_since is None:
                begun = {"erasing_since": at, "erasing_recordings": len(ids)}
                connection.execute(sa.update(t.tenants).where(t.tenants.c.id == tenant).values(begun))
            return _erasure(connection, tenant)

        return await self._db.write(work)

    async def tenant_erasure(self, tenant: str) -> TenantErasure:
        """How far it is; of a tenant never heard of, nothing is under way."""
        return await self._db.read(lambda connection: _erasure(connection, tenant))

    async def leaving(self) -> list[str]:
        """The tenants that are being erased."""
        query = sa.select(t.tenants.c.id).where(t.tenants.c.erasing_since.is_not(None)).order_by(t.tenants.c.id)
        return await self._db.read(lambda connection: list(connection.scalars(query)))

    async def erase_hidden(self, tenant: str, limit: int) -> int:
        """Erase hidden recordings until so many are under way, each with its ``recordings.erased`` row; how many."""
        c = t.recordings.c
        hidden = sa.select(t.recordings).where(c.tenant == tenant, c.state == "erased", c.gone_at.is_(None))
        hidden = hidden.where(c.erased_at.is_(None)).order_by(c.id).with_for_update(skip_locked=True)

        def work(connection: sa.Connection) -> int:
            room = max(0, limit - under_way(connection, tenant))
            rows = connection.execute(hidden.limit(room)).all()
            for row in rows:
                erase_recording(connection, self._codec, row, {})
            return len(rows)

        return await self._db.write(work)

    async def forget_tenant(self, tenant: str) -> bool:
        """Delete what else the catalog knows of it, and end its erasure; ``False`` while a recording is not gone."""
        if (await self.tenant_erasure(tenant)).left:
            return False
        for table in reversed(t.metadata.sorted_tables):
            if "tenant" in table.c and table.name not in _STAY:
                await self._delete(table, table.c.tenant == tenant)
        await self._delete(t.leases, t.leases.c.name.contains(f":{tenant}:", autoescape=True))

        def end(connection: sa.Connection) -> bool:
            lock_tenant(connection, tenant)
            if _left(connection, tenant):
                return False
            ended = {"erasing_since": None, "erased_at": t.now(), "retain_days": None}
            connection.execute(sa.update(t.tenants).where(t.tenants.c.id == tenant).values(ended))
            return True

        return await self._db.write(end)

    async def gone(self, tenant: str, recording_id: str) -> Gone | None:
        """When a recording was erased; ``None`` when it was not, or was never heard of."""
        c = t.recordings.c
        query = sa.select(c.erased_at, c.gone_at).where(c.tenant == tenant, c.id == recording_id, c.state == "erased")
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return None if row is None else Gone(row.erased_at, row.gone_at)

    async def recording_ids(self, tenant: str) -> list[str]:
        """Every recording the tenant ever had, erased ones included."""
        query = sa.select(t.recordings.c.id).where(t.recordings.c.tenant == tenant)
        return await self._db.read(lambda connection: list(connection.scalars(query)))

    async def rows_of(self, tenant: str) -> dict[str, int]:
        """How many rows there are of a tenant, by table, but for what a tenant leaves."""

        def work(connection: sa.Connection) -> dict[str, int]:
            counts = {
                table.name: connection.scalar(sa.select(sa.func.count()).where(table.c.tenant == tenant)) or 0
                for table in t.metadata.sorted_tables
                if "tenant" in table.c and table.name not in _STAY
            }
            return {name: number for name, number in counts.items() if number}

        return await self._db.read(work)

    async def _delete(self, table: sa.Table, which: sa.ColumnElement[bool]) -> None:
        key = list(table.primary_key.columns)
        some = sa.select(*key).where(which).limit(AT_ONCE)
        statement = sa.delete(table).where(sa.tuple_(*key).in_(some))
        while await self._db.write(lambda connection: connection.execute(statement).rowcount):
            pass


def lock_tenant(connection: sa.Connection, tenant: str) -> sa.Row[tuple[object, ...]]:
    """The tenant's row, which must be there, locked until the transaction ends.

    Others may go on to refer to it: who holds one of its recordings and writes a row of the tenant must not wait.
    """
    query = sa.select(t.tenants).where(t.tenants.c.id == tenant).with_for_update(key_share=True)
    return connection.execute(query).one()


def refuse_if_leaving(tenant: sa.Row[tuple[object, ...]]) -> None:
    """Raise ``TenantLeaves`` while a tenant, given by its locked row, is being erased."""
    if tenant.erasing_since is not None:
        raise TenantLeaves(
            "Everything of this tenant is being erased; until that is done, nothing new is taken in.",
            next_step=f"Send it again when GET /api/v1/tenants/{tenant.id}/erasure says `done_at`.",
        )


def under_way(connection: sa.Connection, tenant: str) -> int:
    """How many erased recordings of a tenant the eraser has yet to deal with."""
    c = t.recordings.c
    waiting = sa.and_(c.tenant == tenant, c.state == "erased", c.gone_at.is_(None), c.erased_at.is_not(None))
    return int(connection.scalar(sa.select(sa.func.count()).select_from(t.recordings).where(waiting)) or 0)


def left_with(tenant: sa.Row[tuple[object, ...]], said_at: datetime | None) -> bool:
    """Whether what was said then is erased with its tenant, given by its row; ``None``: now."""
    return tenant.erasing_since is not None or (
        said_at is not None and tenant.erased_at is not None and said_at < tenant.erased_at
    )


def _erasure(connection: sa.Connection, tenant: str) -> TenantErasure:
    row = connection.execute(sa.select(t.tenants).where(t.tenants.c.id == tenant)).first()
    if row is None:
        return TenantErasure(tenant, None, 0, 0, None)
    left = _left(connection, tenant)
    return TenantErasure(tenant, row.erasing_since, row.erasing_recordings or 0, left, row.erased_at)


def _left(connection: sa.Connection, tenant: str) -> int:
    c = t.recordings.c
    leaving = sa.and_(c.tenant == tenant, c.state == "erased", c.gone_at.is_(None))
    return int(connection.scalar(sa.select(sa.func.count()).select_from(t.recordings).where(leaving)) or 0)
