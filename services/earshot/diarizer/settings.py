"""Settings of the diarizer."""

from __future__ import annotations

from pydantic import Field, model_validator

from earshot.adapters.diarizers import DiarizerEngineSettings


class DiarizerSettings(DiarizerEngineSettings):
    """``EARSHOT_DIARIZER__…``, all of it."""

    num_speakers: int = Field(0, ge=0, le=100, description="People in every recording, where all have as many.")
    min_speakers: int = Field(0, ge=0, le=100, description="At least so many in every recording; 0: not known.")
    max_speakers: int = Field(0, ge=0, le=100, description="At most so many in every recording; 0: not known.")
    lease_s: float = Field(30.0, ge=1, description="The lease of a worker that died is free after so long.")

    @model_validator(mode="after")
    def _possible(self) -> DiarizerSettings:
        if self.max_speakers and self.min_speakers > self.max_speakers:
            raise ValueError("min_speakers is more than max_speakers")
        return self
