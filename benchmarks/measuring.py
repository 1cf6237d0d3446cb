"""What measuring the sound adds to the pass that decodes and cuts: ``python benchmarks/measuring.py [--minutes 10]``.

Prints, as Markdown, the CPU seconds of the pass with and without, the least of several rounds taken in turn.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from speech import EXAMPLES, RATE, decode, write_speech

from earshot.adapters import decode_child, pcm

FORMATS = (("wav", "pcm_s16le", RATE, "mono"), ("flac", "flac", RATE, "mono"), ("mp3", "libmp3lame", 44_100, "mono"),
           ("ogg", "libopus", 48_000, "mono"), ("flac", "flac", 44_100, "stereo"))  # fmt: skip
METERS = (pcm.AudioMeter, decode_child.SpeechMeter)


class Mute:
    """In place of a meter: hears nothing."""

    def frame(self, _frame: Any) -> None:
        """Nothing."""

    def push(self, *_heard: Any) -> None:
        """Nothing."""

    def measures(self) -> dict[str, Any]:
        """Nothing."""
        return {}


def main() -> None:
    """Measure every format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    print("| format | without, CPU s | with, CPU s | ratio | ms for a second of audio |\n|---|---|---|---|---|")
    child = decode_child.DecodeChild(2**40, 1e6, "")
    list(child.cut(str(EXAMPLES / "jfk.flac")))  # everything is imported before the clock runs
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_speech(speech, options.minutes * 60, seed=1)
        for container, codec, rate, layout in FORMATS:
            path = Path(folder) / "encoded"
            encode(speech, path, container, codec, rate, layout)
            without, with_meters = (min(times) for times in rounds(child, path, options.rounds))
            added = 1000 * (with_meters - without) / (options.minutes * 60)
            name = f"{codec} {rate} Hz {layout}"
            print(
                f"| {name} | {without:.2f} | {with_meters:.2f} | {with_meters / without:.2f} | {added:.2f} |",
                flush=True,
            )


def rounds(child: decode_child.DecodeChild, path: Path, count: int) -> tuple[list[float], list[float]]:
    """CPU seconds of the pass without and with meters, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for taken, meters in zip(times, ((Mute, Mute), METERS), strict=True):
            pcm.AudioMeter, decode_child.SpeechMeter = meters  # type: ignore[misc,assignment]
            began = time.process_time()
            list(child.cut(str(path)))
            taken.append(time.process_time() - began)
    return times


def encode(speech: Path, path: Path, container: str, codec: str, rate: int, layout: str) -> None:
    """Write the speech in another format."""
    samples = decode(speech)
    if container == "wav":
        soundfile.write(path, samples, rate, format="WAV")
        return
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate)
        for start in range(0, len(samples), RATE):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, start : start + RATE]), "s16", "mono")
            frame.sample_rate, frame.pts = RATE, start
            for resampled in resampler.resample(frame):
                out.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            out.mux(stream.encode(resampled))
        out.mux(stream.encode(None))


if __name__ == "__main__":
    main()
