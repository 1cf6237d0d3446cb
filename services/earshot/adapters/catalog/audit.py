"""Who read and erased what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks
from earshot.kernel.ports.access import AuditEntry, AuditQuery

PRUNE_AT_ONCE = 2000
"""Rows deleted in one transaction, so that no other writer waits for long."""
TICKETS_STAY = timedelta(days=1)
_FIELDS = ("tenant", "at", "key_id", "action", "address", "status", "trace_id")
_c = t.audit.c


class AuditPart(Part):
    """The log of reads and erasures: appended to, and forgotten from its old end."""

    async def write_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append."""
        if not entries:
            return
        rows = [
            {name: getattr(entry, name) for name in _FIELDS} | {"recordings": " ".join(entry.recordings)}
            for entry in entries
        ]

        def work(connection: sa.Connection) -> None:
            for some in chunks(rows):
                connection.execute(sa.insert(t.audit), some)

        await self._db.write(work)

    async def audit(self, tenant: str, query: AuditQuery, limit: int) -> list[AuditEntry]:
        """Entries of a tenant, newest first."""
        found = sa.select(t.audit).where(_c.tenant == tenant, *_terms(query)).order_by(_c.id.desc()).limit(limit)
        return await self._db.read(lambda connection: [_entry(row) for row in connection.execute(found)])

    async def prune_audit(self, before: datetime) -> int:
        """Forget older entries, and tickets that were over a day ago; return how many rows went."""
        keys = t.api_keys.c
        tickets = sa.and_(keys.kind == "ticket", keys.expires_at < t.now() - TICKETS_STAY)
        return await self._forget(t.audit, _c.at < before) + await self._forget(t.api_keys, tickets)

    async def _forget(self, table: sa.Table, old: sa.ColumnElement[bool]) -> int:
        key = sa.tuple_(*table.primary_key.columns)
        some = sa.select(*table.primary_key.columns).where(old).limit(PRUNE_AT_ONCE)
        statement = sa.delete(table).where(key.in_(some))
        gone = 0
        while count := await self._db.write(lambda connection: connection.execute(statement).rowcount):
            gone += count
        return gone


def _terms(query: AuditQuery) -> list[sa.ColumnElement[bool]]:
    terms: list[sa.ColumnElement[bool]] = []
    if query.key_id:
        terms.append(_c.key_id == query.key_id)
    if query.action:
        terms.append(_c.action == query.action)
    if query.recording_id:
        terms.append(_c.recordings.contains(query.recording_id, autoescape=True))
    if query.since is not None:
        terms.append(_c.at >= query.since)
    if query.to is not None:
        terms.append(_c.at < query.to)
    if query.before_id is not None:
        terms.append(_c.id < query.before_id)
    return terms


def _entry(row: sa.Row[Any]) -> AuditEntry:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    return AuditEntry(**values | {"recordings": tuple(values["recordings"].split())})
