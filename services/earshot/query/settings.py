"""How the query service answers."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters.rerankers import RerankerSettings
from earshot.kernel.settings import config

__all__ = ["QuerySettings", "RerankerSettings"]


class QuerySettings(BaseSettings):
    """Limits and intervals."""

    model_config = config("QUERY__")

    stages: tuple[str, ...] = Field(
        ("segmenter", "transcriber", "embedder", "indexer", "tracker", "eraser"),
        description="Stages that must show signs of life for /health/ready.",
    )
    check_timeout_s: float = Field(1.5, gt=0, description="Longest wait for one dependency in /health/ready.")
    events_interval_s: float = Field(0.5, gt=0, description="How often a job is looked at for its event stream.")
    events_max_s: float = Field(3600.0, gt=0, description="Longest event stream; clients connect again by themselves.")
    max_event_streams: int = Field(200, ge=1, description="Event streams open at the same time.")
