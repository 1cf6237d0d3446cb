"""What a tenant may use, and what it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

NO_LIMIT = -1
"""A limit of a tenant's own that lets it use as much as it likes."""
Resource = Literal["audio_ms_a_day", "recordings_in_flight", "storage_bytes"]


@dataclass(frozen=True)
class Limits:
    """What a tenant may use; ``None``: as much as it likes.

    Attributes:
        audio_ms_a_day: audio sent between two midnights, UTC, whatever becomes of it.
        recordings_in_flight: recordings whose latest attempt has not ended.
        storage_bytes: of the recordings that are kept, as they were sent.
    """

    audio_ms_a_day: int | None = None
    recordings_in_flight: int | None = None
    storage_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """What a tenant uses now, of each of its ``Limits``."""

    audio_ms_a_day: int
    recordings_in_flight: int
    storage_bytes: int


class Quotas(Protocol):
    """The limits of tenants. Raises ``Unavailable("catalog", …)``."""

    async def limits(self, tenant: str) -> Limits:
        """Those in force: the tenant's own, the system's where it has none."""

    async def own_limits(self, tenant: str) -> dict[Resource, int]:
        """The tenant's own alone; ``NO_LIMIT``: as much as it likes."""

    async def limit(self, tenant: str, changed: Mapping[Resource, int | None]) -> None:
        """Change a tenant's own limits; ``None``: as the system says. What is not named stays."""

    async def usage(self, tenant: str) -> Usage:
        """What a tenant uses now."""
