"""Tenants and their API keys."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.kernel.errors import Permanent
from earshot.kernel.ports.access import ApiKey, Tenant

USES_APART = timedelta(minutes=1)
"""The last use is written at most so often."""
_c = t.api_keys.c


class KeysPart(Part):
    """Keys by the hash of their text; the text itself is nowhere."""

    async def add_key(self, key: ApiKey, digest: str) -> None:
        """Keep a key under the hash of its text. Raises ``Permanent`` (``unknown_tenant``)."""
        await self._db.write(lambda connection: _add(connection, key, digest))

    async def key_of(self, digest: str) -> ApiKey | None:
        """The key of that hash, valid or not."""
        query = sa.select(t.api_keys).where(_c.hash == digest)
        row = await self._db.read(lambda connection: connection.execute(query).first())
        return None if row is None else _key(row)

    async def keys(self, tenant: str) -> list[ApiKey]:
        """The keys of a tenant, newest first, revoked and expired ones included; no tickets."""
        query = sa.select(t.api_keys).where(_c.tenant == tenant, _c.kind == "key")
        query = query.order_by(_c.created_at.desc(), _c.id)
        return await self._db.read(lambda connection: [_key(row) for row in connection.execute(query)])

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """It opens nothing any more, nor do its tickets. Raises ``Permanent`` (``unknown_key``)."""

        def work(connection: sa.Connection) -> ApiKey:
            _find(connection, tenant, key_id)
            its_own = sa.or_(_c.id == key_id, sa.and_(_c.kind == "ticket", _c.created_by == key_id))
            still_valid = sa.and_(_c.tenant == tenant, its_own, _c.revoked_at.is_(None))
            connection.execute(sa.update(t.api_keys).where(still_valid).values(revoked_at=t.now()))
            return _find(connection, tenant, key_id)

        return await self._db.write(work)

    async def replace_key(self, tenant: str, key_id: str, new: ApiKey, digest: str, until: datetime) -> None:
        """In one transaction: keep the new key, and let the old one expire then at the latest."""

        def work(connection: sa.Connection) -> None:
            old = _find(connection, tenant, key_id, lock=True)
            if not old.valid(t.now()):
                raise _unknown()
            _add(connection, new, digest)
            ends = min(until, old.expires_at) if old.expires_at else until
            connection.execute(
                sa.update(t.api_keys).where(_c.tenant == tenant, _c.id == key_id).values(expires_at=ends)
            )

        await self._db.write(work)

    async def key_used(self, tenant: str, key_id: str, at: datetime) -> None:
        """Remember when it was last used, unless something within the last minute is remembered already."""
        long_ago = sa.or_(_c.last_used_at.is_(None), _c.last_used_at <= at - USES_APART)
        update = sa.update(t.api_keys).where(_c.tenant == tenant, _c.id == key_id, long_ago).values(last_used_at=at)
        await self._db.write(lambda connection: connection.execute(update).close())

    async def create_tenant(self, tenant: str) -> Tenant:
        """Make a tenant, or find it."""

        def work(connection: sa.Connection) -> Tenant:
            row = insert(connection, t.tenants).values(id=tenant, created_at=t.now())
            connection.execute(row.on_conflict_do_nothing())
            query = sa.select(t.tenants.c.id, t.tenants.c.created_at).where(t.tenants.c.id == tenant)
            return Tenant(*connection.execute(query).one())

        return await self._db.write(work)

    async def list_tenants(self) -> list[Tenant]:
        """All there are, by id."""
        query = sa.select(t.tenants.c.id, t.tenants.c.created_at).order_by(t.tenants.c.id)
        return await self._db.read(lambda connection: [Tenant(*row) for row in connection.execute(query)])


def _add(connection: sa.Connection, key: ApiKey, digest: str) -> None:
    known = sa.select(t.tenants.c.id).where(t.tenants.c.id == key.tenant)
    if connection.execute(known).first() is None:
        error = Permanent(
            "There is no such tenant.", next_step="Make it with: earshot tenants create", code="unknown_tenant"
        )
        error.status = 404
        raise error
    scopes, collections = json.dumps(key.scopes), json.dumps(key.collections) if key.collections is not None else None
    values = asdict(key) | {"hash": digest, "scopes": scopes, "collections": collections}
    connection.execute(sa.insert(t.api_keys).values(values))


def _find(connection: sa.Connection, tenant: str, key_id: str, *, lock: bool = False) -> ApiKey:
    query = sa.select(t.api_keys).where(_c.tenant == tenant, _c.id == key_id, _c.kind == "key")
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _unknown()
    return _key(row)


def _unknown() -> Permanent:
    error = Permanent("There is no such key, or it opens nothing any more.", code="unknown_key")
    error.next_step, error.status = "List them with GET /api/v1/keys.", 404
    return error


def _key(row: sa.Row[Any]) -> ApiKey:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name
    del values["hash"]
    values["scopes"] = tuple(json.loads(values["scopes"]))
    values["collections"] = tuple(json.loads(values["collections"])) if values["collections"] is not None else None
    return ApiKey(**values)
