"""The catalog: what is kept for how long, and tenants that leave with everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from earshot.kernel.errors import Permanent


class TenantLeaves(Permanent):
    """Nothing new is taken in for a tenant while it is being erased."""

    code = "tenant_being_erased"
    title = "The tenant is being erased"
    status = 409


@dataclass(frozen=True)
class TenantErasure:
    """How far the erasure of a tenant is.

    Attributes:
        tenant: which.
        since: when it was asked for; ``None`` when none is under way.
        recordings: how many recordings the tenant had when the last one was asked for.
        left: how many of its erased recordings still have something somewhere.
        done_at: when the last one ended.
    """

    tenant: str
    since: datetime | None
    recordings: int
    left: int
    done_at: datetime | None


@dataclass(frozen=True)
class Gone:
    """An erased recording: when that was decided, and when the last of it was deleted; ``None``: not yet."""

    erased_at: datetime | None
    gone_at: datetime | None


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt at a recording."""

    tenant: str
    recording_id: str
    revision: int


class TenantErasures(Protocol):
    """Erasing all that a tenant has. Raises ``Unavailable("catalog", …)``."""

    async def erase_tenant(self, tenant: str) -> TenantErasure:
        """Hide every recording of a tenant at once and refuse new ones; the rest is done in parts by the eraser."""

    async def tenant_erasure(self, tenant: str) -> TenantErasure:
        """How far it is; of a tenant never heard of, nothing is under way."""

    async def leaving(self) -> list[str]:
        """The tenants that are being erased."""

    async def erase_hidden(self, tenant: str, limit: int) -> int:
        """Erase hidden recordings until so many are under way, each with its ``recordings.erased`` row; how many."""

    async def forget_tenant(self, tenant: str) -> bool:
        """Delete what else the catalog knows of it, and end its erasure; ``False`` while a recording is not gone."""


class Retention(Protocol):
    """What is kept for how long. Raises ``Unavailable("catalog", …)``."""

    async def tenant_retention(self, tenant: str) -> int | None:
        """Days that recordings of collections are kept which say nothing themselves; ``None``: for ever."""

    async def keep_tenant(self, tenant: str, retain_days: int | None) -> None:
        """Set them. What is older already goes with the next round."""

    async def erase_expired(self, now: datetime, limit: int) -> int:
        """Erase so many recordings that came in longer ago than they are kept, the oldest first; how many it were.

        Each with its ``recordings.erased`` row in the same transaction. Of one tenant no more are ever under way.
        """

    async def old_segments(self, now: datetime, keep: timedelta, limit: int) -> list[Attempt]:
        """So many attempts that ended longer ago than the audio of their segments is kept, and still have it.

        Args:
            now: the present.
            keep: for collections that say nothing themselves.
            limit: at most so many.
        """

    async def segments_dropped(self, attempts: Sequence[Attempt]) -> None:
        """The audio of their segments is deleted."""


class Remembered(Protocol):
    """What the catalog remembers of erased recordings. Raises ``Unavailable("catalog", …)``."""

    async def gone(self, tenant: str, recording_id: str) -> Gone | None:
        """When a recording was erased; ``None`` when it was not, or was never heard of."""

    async def rows_of(self, tenant: str) -> dict[str, int]:
        """How many rows there are of a tenant, by table, but for what a tenant leaves."""

    async def recording_ids(self, tenant: str) -> list[str]:
        """Every recording the tenant ever had, erased ones included."""
