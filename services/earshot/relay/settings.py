"""Settings of the relay."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class RelaySettings(BaseSettings):
    """``EARSHOT_RELAY__…``. Seconds where nothing else is said."""

    model_config = config("RELAY__")

    batch_rows: int = Field(100, ge=1, le=5000, description="Outbox rows published at once.")
    poll_s: float = Field(0.1, gt=0, le=10, description="Between two looks at an empty outbox.")
    retry_max_s: float = Field(5.0, gt=0, description="Longest wait while the catalog or the broker does not answer.")
    publish_s: float = Field(30.0, gt=0, description="A broker that takes longer to acknowledge does not answer.")
    heartbeat_s: float = Field(5.0, gt=0, description="Between two signs of life in the catalog.")
    tidy_s: float = Field(3600.0, gt=0, description="Between two rounds of tidying up.")
    orphan_age_h: float = Field(24.0, ge=1, description="Hours after which a blob of no recording is deleted.")
    traces_kept_d: float = Field(30.0, gt=0, description="Days that spans, heartbeats and stale attempts are kept.")
