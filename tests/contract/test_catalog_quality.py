"""How recordings sound, in the catalog, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from earshot.kernel.events import Quality
from earshot.kernel.ports import QualityBounds
from tests.fakes_catalog import TRACE, accepted, progressed, total

CLEAR = Quality(loudness_lufs=-20.5, peak_dbfs=-3, snr_db=30, speech_ratio=0.9, bandwidth_hz=16_000, mos=4.1)
POOR = Quality(loudness_lufs=-38, peak_dbfs=0, clipped_ratio=0.02, snr_db=6.5, speech_ratio=0.4, bandwidth_hz=4000)


async def recorded(catalog: Any, tenant: str, quality: Quality | None) -> str:
    first = await accepted(catalog, tenant)
    await catalog.record([total(first, 1).model_copy(update={"quality": quality})])
    return str(first.job.recording_id)


async def test_what_the_segmenter_measured_is_on_the_recording_and_another_attempt_measures_anew(catalog, tenant):
    first = await accepted(catalog, tenant)
    said = total(first, 1).model_copy(update={"quality": POOR})
    assert (await catalog.recording(tenant, first.job.recording_id)).quality is None
    await catalog.record([said, said])
    assert (await catalog.recording(tenant, first.job.recording_id)).quality == POOR
    await catalog.record([progressed(first, "transcriber", 0, "failed")])
    await catalog.retry(tenant, first.job.id, TRACE)
    again = said.model_copy(update={"quality": CLEAR, "revision": 2})
    await catalog.record([again, said])
    assert (await catalog.recording(tenant, first.job.recording_id)).quality == CLEAR


async def test_an_erased_recording_has_no_sound_left(catalog, tenant):
    recording = await recorded(catalog, tenant, CLEAR)
    await catalog.erase(tenant, recording, TRACE)
    assert await catalog.recordings(tenant, quality=QualityBounds(min_snr_db=0)) == []


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_snr_db": 30},
        {"max_clipped_ratio": 0.019},
        {"min_speech_ratio": 0.41},
        {"min_bandwidth_hz": 8000},
        {"min_loudness_lufs": -30},
        {"max_loudness_lufs": -10, "min_loudness_lufs": -20.5},
        {"min_mos": 1},
    ],
)
async def test_recordings_are_listed_by_how_they_sound_and_what_was_not_measured_is_outside(catalog, tenant, bounds):
    clear = await recorded(catalog, tenant, CLEAR)
    for quality in (POOR, Quality(clipped_ratio=0.5), None):
        await recorded(catalog, tenant, quality)
    assert [found.id for found in await catalog.recordings(tenant, quality=QualityBounds(**bounds))] == [clear]
    assert len(await catalog.recordings(tenant, quality=QualityBounds())) == 4
