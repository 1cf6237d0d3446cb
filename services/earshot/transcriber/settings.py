"""Settings of the transcriber; the engine's and the models' own are beside their adapters."""

from __future__ import annotations

from pydantic import Field

from earshot.adapters.engines import EngineSettings


class TranscriberSettings(EngineSettings):
    """``EARSHOT_TRANSCRIBER__…``: which engine, and how many segments it is given at once."""

    max_events: int = Field(
        0,
        ge=0,
        le=256,
        description="Segments a batch. 0: 1 on a CPU, twice the batch size on CUDA, 16 to a remote engine.",
    )
    max_audio_s: float = Field(960.0, gt=0, description="Seconds of audio a batch.")
    max_age_s: float = Field(0.2, ge=0, description="How long a segment waits for company, where a batch holds many.")
