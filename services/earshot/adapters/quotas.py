"""What every tenant may use that has no limits of its own."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.ports.quotas import Limits
from earshot.kernel.settings import config

MINUTE_MS = 60_000


class QuotaSettings(BaseSettings):
    """``EARSHOT_QUOTA__…``: of a tenant without limits of its own (`earshot tenants limits`); unset: no limit."""

    model_config = config("QUOTA__")

    minutes_a_day: float | None = Field(
        None, gt=0, description="Minutes of audio a tenant may send a day (UTC), unless it has a limit of its own."
    )
    recordings_in_flight: int | None = Field(
        None, ge=1, description="Recordings of a tenant that may wait or be worked on at the same time; likewise."
    )
    storage_bytes: int | None = Field(None, ge=1, description="Bytes of a tenant's recordings that are kept; likewise.")

    @property
    def limits(self) -> Limits:
        """As the catalog counts."""
        day_ms = None if self.minutes_a_day is None else round(self.minutes_a_day * MINUTE_MS)
        return Limits(day_ms, self.recordings_in_flight, self.storage_bytes)
