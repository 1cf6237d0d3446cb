"""Limits at the door."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters.quotas import QuotaSettings
from earshot.kernel.settings import config

__all__ = ["IngestSettings", "QuotaSettings"]

MIB = 1024 * 1024


class IngestSettings(BaseSettings):
    """What the door lets in."""

    model_config = config("INGEST__")

    max_bytes: int = Field(2048 * MIB, ge=1, description="Largest request, audio and all.")
    max_transcript_bytes: int = Field(16 * MIB, ge=1, description="Largest transcript file.")
    max_idle_s: float = Field(30.0, gt=0, description="Longest pause of a client in the middle of its upload.")
    max_uploads: int = Field(8, ge=1, description="Uploads received at the same time; one more is asked to wait.")
