"""Settings of collections, and what the relay tidies up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.adapters.catalog.engine import insert
from earshot.kernel.ports import CollectionSettings

_SETTINGS = tuple(field.name for field in fields(CollectionSettings))
LETTERS_LIVE = timedelta(days=31)
"""A dead letter leaves the broker after 30 days; what was done with it is remembered a little longer."""
LOOSE_ANSWERS_LIVE = timedelta(days=90)
"""An answer outside of a conversation is kept without its text for so long, so that feedback can still name it."""
SPENDING_LIVES = timedelta(days=400)
"""What models cost on a day, for whoever looks back a year."""
PRUNE_AT_ONCE = 2000
"""Rows deleted in one transaction, so that no other writer waits for long."""


class CollectionsPart(Part):
    """Settings of a tenant's collections."""

    async def collection_settings(self, tenant: str, collection: str) -> CollectionSettings:
        """The settings of a collection; those of one never heard of are all ``None``."""
        c = t.collections.c
        query = sa.select(t.collections).where(c.tenant == tenant, c.name == collection)
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return CollectionSettings() if row is None else _settings(row)

    async def configure_collection(self, tenant: str, collection: str, settings: CollectionSettings) -> None:
        """Set them; what was made before stays as it is."""
        values = asdict(settings)

        def work(connection: sa.Connection) -> None:
            at = t.now()
            tenants = insert(connection, t.tenants).values(id=tenant, created_at=at)
            connection.execute(tenants.on_conflict_do_nothing())
            row = insert(connection, t.collections).values(tenant=tenant, name=collection, created_at=at, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["tenant", "name"], set_=values))

        await self._db.write(work)


class UpkeepPart(Part):
    """Tidying up."""

    async def tenants(self) -> list[str]:
        """Every tenant that ever had a recording accepted."""
        query = sa.select(t.tenants.c.id).order_by(t.tenants.c.id)
        return await self._db.read(lambda connection: list(connection.scalars(query)))

    async def prune(self, before: datetime) -> int:
        """Forget heartbeats, spans, attempts and expired leases older than that; return how many rows went.

        Dead letters that were answered, answers outside of conversations and what models cost stay longer.
        """
        nanoseconds = int(before.timestamp() * 1e9)
        loose = sa.and_(t.answers.c.conversation_id.is_(None), t.answers.c.created_at < before - LOOSE_ANSWERS_LIVE)
        gone = 0
        for table, old in (
            (t.heartbeats, t.heartbeats.c.at < before),
            (t.spans, t.spans.c.end_ns < nanoseconds),
            (t.attempts, t.attempts.c.updated_at < before),
            (t.leases, t.leases.c.expires_at < before),
            (t.dead_letters, t.dead_letters.c.at < before - LETTERS_LIVE),
            (t.usage, t.usage.c.day < before.date().isoformat()),
            (t.answers, loose),
            (t.spending, t.spending.c.day < (before - SPENDING_LIVES).date().isoformat()),
        ):
            gone += await self._prune(table, old)
        return gone

    async def in_use(self, tenant: str, keys: Sequence[str]) -> set[str]:
        """Which of these blobs belong to a recording that is not erased: below its folder, or as its source."""
        c = t.recordings.c
        mine = sa.and_(c.tenant == tenant, c.state != "erased")

        def work(connection: sa.Connection) -> set[str]:
            found: set[str] = set()
            for some in chunks(list(keys)):
                by_id = sa.select(c.id).where(mine, c.id.in_({_folder(key) for key in some}))
                living = set(connection.scalars(by_id))
                found |= {key for key in some if _folder(key) in living}
                found |= set(connection.scalars(sa.select(c.source_key).where(mine, c.source_key.in_(some))))
            return found

        return await self._db.read(work)

    async def _prune(self, table: sa.Table, old: sa.ColumnElement[bool]) -> int:
        key = list(table.primary_key.columns)
        some = sa.select(*key).where(old).limit(PRUNE_AT_ONCE)
        statement = sa.delete(table).where(sa.tuple_(*key).in_(some))
        gone = 0
        while count := await self._db.write(lambda connection: connection.execute(statement).rowcount):
            gone += count
        return gone


def _folder(key: str) -> str:
    """The recording's id in ``tenant/recordings/<id>/…``; empty elsewhere."""
    parts = key.split("/")
    return parts[2] if len(parts) > 3 and parts[1] == "recordings" else ""


def _settings(row: sa.Row[tuple[object, ...]]) -> CollectionSettings:
    return CollectionSettings(**{name: getattr(row, name) for name in _SETTINGS})
