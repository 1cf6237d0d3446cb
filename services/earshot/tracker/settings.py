"""Settings of the tracker."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class TrackerSettings(BaseSettings):
    """``EARSHOT_TRACKER__…``."""

    model_config = config("TRACKER__")

    batch_events: int = Field(200, ge=1, le=5000, description="Progress events written in one transaction.")
    batch_age_s: float = Field(0.2, ge=0, le=10, description="How long the first event of a batch waits for more.")
