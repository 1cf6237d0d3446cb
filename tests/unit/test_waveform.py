"""A whole recording for an engine: decoded to a file by our own decoder, and gone when it has been heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earshot.adapters import scratch
from earshot.adapters.decoder import DecoderLimits
from earshot.adapters.diarizers import DiarizerEngineSettings, DiarizerProcess
from earshot.adapters.waveform import WaveformDecoder
from earshot.kernel.errors import LimitExceeded, NotAudio
from earshot.kernel.ports.speakers import SpeakerCount
from tests.audio import wav


def tone(seconds: float, rate: int = 16_000) -> np.ndarray:
    return (np.sin(np.arange(int(seconds * rate)) / 20) * 9000).astype(np.int16)


async def test_every_sample_arrives_as_16_khz_mono(tmp_path):
    source, target = tmp_path / "a.wav", tmp_path / "a.s16"
    source.write_bytes(wav(tone(3.5)))
    assert await WaveformDecoder(ffmpeg="").waveform(source, target) == 3500
    assert np.array_equal(np.fromfile(target, "<i2"), tone(3.5))


async def test_what_is_too_long_is_refused_before_it_fills_the_disk(tmp_path):
    source, target = tmp_path / "a.wav", tmp_path / "a.s16"
    source.write_bytes(wav(tone(30)))
    with pytest.raises(LimitExceeded):
        await WaveformDecoder(DecoderLimits(max_duration_s=20), ffmpeg="").waveform(source, target)
    assert not target.exists() or target.stat().st_size <= 20 * 32_000


async def test_an_engine_hears_all_of_a_recording_and_nothing_of_it_is_left(tmp_path):
    """Also when it is refused. The engine here makes turns up; the way to it is the real one."""
    (tmp_path / "a.wav").write_bytes(wav(tone(9)))
    (tmp_path / "text.wav").write_bytes(b"not sound")
    asked = DiarizerEngineSettings(_env_file=None, engine="simulated", ffmpeg="")
    async with DiarizerProcess(asked) as diarizer:
        found = await diarizer.diarize(tmp_path / "a.wav", SpeakerCount())
        with pytest.raises(NotAudio):
            await diarizer.diarize(tmp_path / "text.wav", SpeakerCount())
    turns = [(turn.speaker, turn.start_ms, turn.end_ms) for turn in found.turns]
    assert turns == [("SPEAKER_00", 0, 4300), ("SPEAKER_01", 4000, 8300), ("SPEAKER_00", 8000, 9000)]
    assert (found.duration_ms, diarizer.engine.degraded) == (9000, True)
    assert left(scratch.folder()) == []


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("waveform-*")]
