"""Sound for tests: real speech from ``examples/audio``, and files made of it in any container."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parent.parent / "examples" / "audio"
JFK = EXAMPLES / "jfk.flac"
RATE = 16_000


@cache
def speech() -> np.ndarray:
    """Five read sentences, 24.7 s of 16 kHz mono 16-bit samples."""
    import soundfile

    clips = [soundfile.read(path, dtype="int16")[0] for path in sorted(EXAMPLES.glob("sense_and_sensibility/*.wav"))]
    return np.concatenate(clips)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.int16)


def encode(samples: np.ndarray, container: str, codec: str, *, rate: int = RATE, video: str | None = None) -> bytes:
    """A file of mono 16-bit samples, with a black picture track where ``video`` names a codec for it."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        picture = _picture(out, video) if video else None
        stream = out.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        for start in range(0, len(samples), 16_000):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 16_000], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            for converted in resampler.resample(frame):
                out.mux(stream.encode(converted))
            if picture is not None:
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        for converted in resampler.resample(None):
            out.mux(stream.encode(converted))
        out.mux(stream.encode(None))
        if picture is not None:
            out.mux(picture.encode(None))
    return buffer.getvalue()


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A 16-bit WAV file; two-dimensional samples have a column for each channel."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _picture(out, codec):
    stream = out.add_stream(codec, rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    return stream
