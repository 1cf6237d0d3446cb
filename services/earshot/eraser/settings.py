"""Settings of the eraser."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class EraserSettings(BaseSettings):
    """``EARSHOT_ERASER__…``."""

    model_config = config("ERASER__")

    deadline_s: float = Field(600.0, gt=0, description="One recording's erasure that takes longer is stuck.")
