"""Settings of the segmenter."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class SegmenterSettings(BaseSettings):
    """``EARSHOT_SEGMENTER__…``: what one recording may cost."""

    model_config = config("SEGMENTER__")

    max_bytes: int = Field(8 * 2**30, ge=1, description="Largest file.")
    max_hours: float = Field(24.0, gt=0, le=1000, description="Longest recording.")
    memory_mb: int = Field(768, ge=256, description="Memory of the process that decodes, in MiB (Linux).")
    deadline_s: float = Field(6 * 3600.0, gt=0, description="A recording that takes longer is stuck.")
    lease_s: float = Field(30.0, ge=1, description="The lease of a worker that died is free after so long.")
    mos_model: Path | None = Field(
        None, description="File sig_bak_ovr.onnx of DNSMOS P.835: a mean opinion score is predicted; unset: none."
    )
    ffmpeg: str | None = Field(None, description="Binary for what PyAV refuses; unset: the one on PATH; empty: none.")
