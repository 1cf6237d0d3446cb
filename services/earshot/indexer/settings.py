"""Settings of the indexer."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters.nearest import NearestSettings
from earshot.kernel.settings import config

__all__ = ["IndexerSettings", "NearestSettings"]


class IndexerSettings(BaseSettings):
    """``EARSHOT_INDEXER__…``."""

    model_config = config("INDEXER__")

    batch_events: int = Field(64, ge=1, le=1024, description="Segments written to the vector store in one call.")
    batch_age_s: float = Field(0.0, ge=0, le=10, description="How long the first segment of a batch waits for more.")
