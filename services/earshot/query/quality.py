"""Which recordings sound well enough, as a client asks for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from earshot.kernel.ports import QualityBounds


def quality_bounds(
    min_snr_db: Annotated[float | None, Query(allow_inf_nan=False, description="Speech over noise, in dB.")] = None,
    max_clipped_ratio: Annotated[float | None, Query(ge=0, le=1, description="Share of clipped moments.")] = None,
    min_speech_ratio: Annotated[float | None, Query(ge=0, le=1, description="Share of time with speech.")] = None,
    min_bandwidth_hz: Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="8000: wideband.")] = None,
    min_loudness_lufs: Annotated[float | None, Query(allow_inf_nan=False, description="Integrated loudness.")] = None,
    max_loudness_lufs: Annotated[float | None, Query(allow_inf_nan=False, description="Integrated loudness.")] = None,
    min_mos: Annotated[float | None, Query(ge=1, le=5, description="Predicted mean opinion score.")] = None,
) -> QualityBounds:
    """The bounds in a query string."""
    return QualityBounds(
        min_loudness_lufs=min_loudness_lufs,
        max_loudness_lufs=max_loudness_lufs,
        max_clipped_ratio=max_clipped_ratio,
        min_snr_db=min_snr_db,
        min_speech_ratio=min_speech_ratio,
        min_bandwidth_hz=min_bandwidth_hz,
        min_mos=min_mos,
    )
