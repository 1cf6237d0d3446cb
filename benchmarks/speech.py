"""Speech of any length from the shipped clips: seeded, so two runs hear the same, no two segments alike."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16_000
EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "audio"


def decode(path: Path) -> np.ndarray:
    """A file as 16 kHz mono 16-bit samples."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames])


def write_speech(path: Path, seconds: float, seed: int) -> None:
    """Write a WAV: the clips in random order, at random loudness, with pauses of random length between them."""
    chance = random.Random(seed)
    clips = [decode(file) for file in sorted(EXAMPLES.rglob("*")) if file.suffix in {".wav", ".flac"}]
    left = int(seconds * RATE)
    with soundfile.SoundFile(str(path), "w", RATE, 1, "PCM_16") as out:
        while left > 0:
            clip = (chance.choice(clips) * chance.uniform(0.6, 1.0)).astype(np.int16)
            pause = np.zeros(int(chance.uniform(0.3, 1.2) * RATE), dtype=np.int16)
            block = np.concatenate([clip, pause])[:left]
            out.write(block)
            left -= len(block)
