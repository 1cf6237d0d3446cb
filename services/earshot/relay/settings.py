"""Settings of the relay."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config

WINDOW_S, EMBEDDED_WINDOW_S = 14_400.0, 1_800.0
"""Work in flight by default: enough for a dozen GPUs, or for one machine, and little to wait behind there."""


class RelaySettings(BaseSettings):
    """``EARSHOT_RELAY__…``. Seconds where nothing else is said."""

    model_config = config("RELAY__")

    batch_rows: int = Field(100, ge=1, le=5000, description="Outbox rows published at once.")
    poll_s: float = Field(0.1, gt=0, le=10, description="Between two looks at an empty outbox.")
    retry_max_s: float = Field(5.0, gt=0, description="Longest wait while the catalog or the broker does not answer.")
    window_s: float = Field(
        0.0,
        ge=0,
        description="Audio of uploads that may be on its way through the stages; others wait for their turn. "
        "0: 14,400 on Kafka, 1,800 embedded.",
    )
    tenant_share: float = Field(0.5, gt=0, le=1, description="How much of that window one tenant may fill.")
    lease_s: float = Field(6.0, ge=1, description="Of several relays one works; so long after it died another does.")
    publish_s: float = Field(30.0, gt=0, description="A broker that takes longer to acknowledge does not answer.")
    heartbeat_s: float = Field(5.0, gt=0, description="Between two signs of life in the catalog.")
    tidy_s: float = Field(3600.0, gt=0, description="Between two rounds of tidying up.")
    orphan_age_h: float = Field(24.0, ge=1, description="Hours after which a blob of no recording is deleted.")
    traces_kept_d: float = Field(30.0, gt=0, description="Days that spans, heartbeats and stale attempts are kept.")
    audit_kept_d: float = Field(90.0, gt=0, description="Days that the audit log goes back.")
