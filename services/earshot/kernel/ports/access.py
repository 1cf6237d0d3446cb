"""The catalog: tenants, their API keys, and the log of what was read and erased."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

KeyKind = Literal["key", "ticket"]
"""``ticket``: made of a key for a link to media; short-lived, and good for nothing else."""


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; never the key itself.

    Attributes:
        id: its name, no secret.
        kind: see :data:`KeyKind`.
        name: what its owner calls it.
        hint: the beginning of the key.
        scopes: what it allows.
        collections: the only collections it shows; ``None``: all.
        created_by: the ``key_id`` of who made it. Revoking a key revokes the tickets it made.
        last_used_at: true to a minute.
    """

    tenant: str
    id: str
    kind: KeyKind
    name: str
    hint: str
    scopes: tuple[str, ...]
    collections: tuple[str, ...] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def valid(self, at: datetime) -> bool:
        """Whether it opens anything at a moment."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


class ApiKeys(Protocol):
    """Where keys are kept, by their hash. Raises ``Unavailable("catalog", …)``."""

    async def add_key(self, key: ApiKey, digest: str) -> None:
        """Keep a key under the hash of its text. Raises ``Permanent`` (``unknown_tenant``)."""

    async def key_of(self, digest: str) -> ApiKey | None:
        """The key of that hash, valid or not."""

    async def keys(self, tenant: str) -> list[ApiKey]:
        """The keys of a tenant, newest first, revoked and expired ones included; no tickets."""

    async def revoke_key(self, tenant: str, key_id: str) -> ApiKey:
        """It opens nothing any more, nor do its tickets. Raises ``Permanent`` (``unknown_key``)."""

    async def replace_key(self, tenant: str, key_id: str, new: ApiKey, digest: str, until: datetime) -> None:
        """In one transaction: keep the new key, and let the old one expire then at the latest.

        Raises ``Permanent`` (``unknown_key``), also for a key that is revoked or has expired.
        """

    async def key_used(self, tenant: str, key_id: str, at: datetime) -> None:
        """Remember when it was last used, unless something within the last minute is remembered already."""


@dataclass(frozen=True)
class AuditEntry:
    """One thing that was done, without its content.

    Attributes:
        key_id: who, as in :class:`earshot.kernel.access.Principal`.
        action: method and route: ``GET /api/v1/recordings/{id}/transcript``.
        recordings: which.
        address: from where, truncated to the network.
        status: the HTTP status; 0: written before it was done.
        id: its place in the log; 0 before it is in it.
    """

    tenant: str
    at: datetime
    key_id: str
    action: str
    recordings: tuple[str, ...]
    address: str
    status: int
    trace_id: str
    id: int = 0


@dataclass(frozen=True)
class AuditQuery:
    """Which entries; empty or ``None`` fields do not restrict."""

    key_id: str = ""
    recording_id: str = ""
    action: str = ""
    since: datetime | None = None
    to: datetime | None = None
    before_id: int | None = None


class AuditLog(Protocol):
    """What was read and erased, by whom. Raises ``Unavailable("catalog", …)``."""

    async def write_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append."""

    async def audit(self, tenant: str, query: AuditQuery, limit: int) -> list[AuditEntry]:
        """Entries of a tenant, newest first."""

    async def prune_audit(self, before: datetime) -> int:
        """Forget older entries, and tickets that were over a day ago; return how many rows went."""


@dataclass(frozen=True)
class Tenant:
    """Who owns recordings."""

    id: str
    created_at: datetime


class Tenants(Protocol):
    """Raises ``Unavailable("catalog", …)``."""

    async def create_tenant(self, tenant: str) -> Tenant:
        """Make a tenant, or find it."""

    async def list_tenants(self) -> list[Tenant]:
        """All there are, by id."""
