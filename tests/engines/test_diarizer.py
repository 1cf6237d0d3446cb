"""The diarizer on pyannote.audio itself, with a pipeline that knows two tones apart.

How well real voices are told apart rests on the public weights, which are gated and not here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.adapters.diarizers import DiarizerEngineSettings, DiarizerProcess
from earshot.kernel.errors import LimitExceeded, Misconfigured, NotAudio
from earshot.kernel.events import Turn
from earshot.kernel.ports.speakers import SpeakerCount

ROOT = Path(__file__).resolve().parents[2]
FRAME_MS = 20
pytestmark = pytest.mark.timeout(900)  # PyTorch is imported anew in every process
MAKE = """
import sys
from pathlib import Path
from tests.tiny_pyannote import make_pipeline

make_pipeline(Path(sys.argv[1]))
"""
QUIET = """
import os, sys
calls = []
def watch(event, arguments):
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
        if host not in ("127.0.0.1", "::1", "localhost", None):
            calls.append(host)
            raise OSError("no")
sys.addaudithook(watch)
from earshot.adapters.pyannote import Pyannote
engine = Pyannote(sys.argv[1], "tiny", "cpu", 1)
engine.diarize(sys.argv[2], 0, 0, 0)
from pyannote.audio.telemetry import metrics
metrics.provider.force_flush(10_000)
print("enabled", metrics.is_metrics_enabled(), "calls", calls)
metrics.set_telemetry_metrics(True)
engine.diarize(sys.argv[2], 0, 0, 0)
metrics.provider.force_flush(20_000)
print("turned on", sorted(set(map(str, calls))))
os._exit(0)
"""


def python(program: str, *arguments: str, **environment: str) -> str:
    """Run a program in a fresh process, warnings and all; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments], cwd=ROOT, text=True, timeout=500,
        capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    python(MAKE, str(folder), PYANNOTE_METRICS_ENABLED="false")
    return folder


def voice(hz: float, seconds: float) -> np.ndarray:
    at = np.arange(int(seconds * 16_000)) / 16_000
    return (sum(np.sin(2 * np.pi * hz * number * at) / number for number in (1, 2, 3)) * 0.2).astype(np.float32)


def two_voices() -> np.ndarray:
    """Low to 6 s, high to 12 s, silence to 15 s, low to 19 s, and high over it from 17 s to 22 s."""
    samples = np.zeros(22 * 16_000, np.float32)
    for hz, start, end in ((150, 0, 6), (2200, 6, 12), (150, 15, 19), (2200, 17, 22)):
        samples[start * 16_000 : end * 16_000] += voice(hz, end - start)
    return samples


def settings(pipeline: Path, **fields: object) -> DiarizerEngineSettings:
    return DiarizerEngineSettings(_env_file=None, engine="pyannote", model=str(pipeline), threads=1, **fields)


def near(turns: list[Turn], wanted: list[tuple[str, int, int]]) -> bool:
    """Whether turns are as wanted, within two frames at each edge."""
    return len(turns) == len(wanted) and all(
        turn.speaker == speaker
        and abs(turn.start_ms - start) <= 2 * FRAME_MS
        and abs(turn.end_ms - end) <= 2 * FRAME_MS
        for turn, (speaker, start, end) in zip(turns, wanted, strict=True)
    )


async def test_two_voices_are_told_apart_with_their_overlap_and_without(pipeline, tmp_path):
    """From a compressed stereo file; again with the number of speakers given; then what it refuses, and goes on."""
    path = tmp_path / "talk.flac"
    samples = two_voices()
    soundfile.write(path, np.stack([samples, samples], axis=1), 16_000)
    async with DiarizerProcess(settings(pipeline, max_hours=0.01)) as diarizer:
        assert (diarizer.off, diarizer.engine.name, diarizer.engine.device) == ("", "pyannote.audio", "cpu")
        assert len(diarizer.engine.digest) == 64
        found = await diarizer.diarize(path, SpeakerCount())
        low, high = found.turns[0].speaker, found.turns[1].speaker
        assert {low, high} == {"SPEAKER_00", "SPEAKER_01"}
        assert near(found.turns, [(low, 0, 6000), (high, 6000, 12_000), (low, 15_000, 19_000), (high, 17_000, 22_000)])
        ends = [turn.end_ms for turn in found.exclusive]
        assert all(turn.start_ms >= end for turn, end in zip(found.exclusive[1:], ends, strict=False))
        assert found.duration_ms == 22_000
        one = await diarizer.diarize(path, SpeakerCount(exactly=1))
        assert {turn.speaker for turn in one.turns} == {"SPEAKER_00"}
        (tmp_path / "text.flac").write_bytes(b"words, not sound")
        with pytest.raises(NotAudio):
            await diarizer.diarize(tmp_path / "text.flac", SpeakerCount())
        soundfile.write(tmp_path / "long.wav", np.zeros(16_000 * 40, np.float32), 16_000)
        with pytest.raises(LimitExceeded, match="EARSHOT_DIARIZER__MAX_HOURS"):
            await diarizer.diarize(tmp_path / "long.wav", SpeakerCount())
        for silence in (np.zeros(16_000, np.float32), np.zeros(200, np.float32)):
            soundfile.write(tmp_path / "quiet.wav", silence, 16_000)
            assert (await diarizer.diarize(tmp_path / "quiet.wav", SpeakerCount())).turns == []


def test_nothing_is_reported_to_its_makers(pipeline, tmp_path):
    """Even where the environment asks for it; and turned on, the same run would call: the watch works."""
    (two_voices() * 32_767).astype("<i2").tofile(tmp_path / "talk.s16")
    said = python(QUIET, str(pipeline), str(tmp_path / "talk.s16"), PYANNOTE_METRICS_ENABLED="true").splitlines()
    assert said[0] == "enabled False calls []"
    assert "otel.pyannote.ai" in said[1]


async def test_a_folder_without_a_pipeline_is_refused_by_name_or_turns_it_off(tmp_path):
    (tmp_path / "config.yaml").write_text("pipeline: {name: nothing.Such}")
    with pytest.raises(Misconfigured, match="cannot load"):
        async with DiarizerProcess(settings(tmp_path)):
            raise AssertionError("it should not have started")
