"""Settings of the eraser."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class EraserSettings(BaseSettings):
    """``EARSHOT_ERASER__…``."""

    model_config = config("ERASER__")

    deadline_s: float = Field(600.0, gt=0, description="One recording's erasure that takes longer is stuck.")
    batch: int = Field(200, ge=1, le=2000, description="Recordings of a tenant whose erasures are under way at once.")
    look_s: float = Field(2.0, gt=0, description="Between two looks for tenants that are to be erased.")
    retention_s: float = Field(60.0, gt=0, description="Between two looks for what is past its time.")
    segment_audio_days: float = Field(
        7.0, ge=0, description="Days that the audio of segments is kept after their job ended; it can be cut again."
    )
    verify_s: float = Field(60.0, gt=0, description="Longest time that the log is read for one look for remains.")
