"""The decoder's side of the process boundary: what :class:`~earshot.adapters.decoder.IsolatedDecoder` runs."""

from __future__ import annotations

import hashlib
import io
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from earshot.adapters import sniff
from earshot.adapters.audio_quality import SpeechMeter
from earshot.adapters.cutter import RATE, Cut, Cutter, Samples
from earshot.adapters.pcm import EXACT, NO_CONTAINER, FfmpegSource, PyavSource, Refused, Source
from earshot.kernel.errors import LimitExceeded, NotAudio

SIGN_OF_LIFE_S = 5.0


class DecodeChild:
    """Decodes one file after another within limits of size and duration.

    Args:
        max_bytes: of a file.
        max_duration_s: of what it decodes to.
        ffmpeg: path of the binary tried for what PyAV refuses; empty: none.
    """

    def __init__(self, max_bytes: int, max_duration_s: float, ffmpeg: str) -> None:
        self._max_bytes = max_bytes
        self._max_samples = int(max_duration_s * RATE)
        self._ffmpeg = ffmpeg

    def probe(self, path: str) -> dict[str, Any]:
        """Container, codec and announced duration of a file whose first samples decode."""
        source, _ = self._open(Path(path))
        return {"container": source.container, "codec": source.codec, "duration_ms": source.duration_ms}

    def cut(self, path: str) -> Iterator[dict[str, Any]]:
        """Segments as they are cut, signs of life between them, then how it ended."""
        from earshot.adapters.vad import SileroVad

        source, blocks = self._open(Path(path))
        vad, cutter, meter = SileroVad(), Cutter(), SpeechMeter()
        count, index, told = 0, 0, time.monotonic()
        heard = itertools.chain((pair for block in blocks for pair in vad.push(block)), vad.end())
        for samples, probabilities in heard:
            count += len(samples)
            self._check(count)
            meter.push(samples, probabilities)
            for cut in cutter.push(samples, probabilities):
                yield _segment(index, cut, count)
                index += 1
            if time.monotonic() - told > SIGN_OF_LIFE_S:
                told = time.monotonic()
                yield {"decoded_ms": count * 1000 // RATE}
        for cut in cutter.end():
            yield _segment(index, cut, count)
            index += 1
        quality = source.meter.measures() | meter.measures()
        yield {"duration_ms": count * 1000 // RATE, "segments": index, "damage": source.damage, "quality": quality}

    def span(self, path: str, start_ms: int, end_ms: int) -> bytes:
        """The samples between two moments, as FLAC; those before are decoded too, so they are the same as in a cut."""
        source, blocks = self._open(Path(path))
        first, last = start_ms * RATE // 1000, end_ms * RATE // 1000
        taken, count = list[Samples](), 0
        for block in blocks:
            if count + len(block) > first:
                taken.append(block[max(0, first - count) :])
            count += len(block)
            self._check(count)
            if count > last + RATE // 1000:
                break
        if count <= first:
            raise LimitExceeded(
                f"{source.container} has no sound at {start_ms} ms: it is {count * 1000 // RATE} ms long."
            )
        found = np.concatenate(taken)
        # the end of a recording is said in whole milliseconds: what is left of the last one belongs to it
        return _flac(found if count < last + RATE // 1000 else found[: last - first])

    def _open(self, path: Path) -> tuple[Source, Iterator[Samples]]:
        """The file and its samples, of which the first are decoded already. Raises ``NotAudio``, ``LimitExceeded``."""
        size = path.stat().st_size
        if size > self._max_bytes:
            raise LimitExceeded(
                f"The file has {size:,} bytes; the limit is {self._max_bytes:,}.",
                next_step="Split it, or raise the limit.",
            )
        if size == 0:
            raise _not_audio("an empty file")
        try:
            source = PyavSource(path)
            if source.container in EXACT:
                self._check((source.duration_ms or 0) * RATE // 1000)
            return _primed(source)
        except Refused as why:
            if self._ffmpeg:
                try:
                    return _primed(FfmpegSource(path, self._ffmpeg))
                except Refused:
                    pass
            raise _not_audio(_found(path, str(why))) from None

    def _check(self, count: int) -> None:
        if count > self._max_samples:
            raise LimitExceeded(
                f"The recording is longer than the limit of {self._max_samples / RATE / 3600:g} h.",
                next_step="Split it, or raise the limit.",
            )


def _primed(source: Source) -> tuple[Source, Iterator[Samples]]:
    blocks = source.samples()
    first = next(blocks, None)
    if first is None:
        raise Refused(f"{source.container} whose audio track has no samples that decode")
    return source, itertools.chain([first], blocks)


def _found(path: Path, why: str) -> str:
    """What to call a file that was refused: by its first bytes when it is not even a container."""
    return sniff.describe(path) if why == NO_CONTAINER else f"a file of type {why}"


def _not_audio(found: str) -> NotAudio:
    return NotAudio(f"This is {found}, not audio that can be decoded.", next_step="Send a sound or video file.")


def _segment(index: int, cut: Cut, decoded: int) -> dict[str, Any]:
    return {
        "index": index,
        "start_ms": cut.start * 1000 // RATE,
        "end_ms": (cut.start + len(cut.samples)) * 1000 // RATE,
        "flac": _flac(cut.samples),
        "sha256": hashlib.sha256(cut.samples.astype("<i2").tobytes()).hexdigest(),
        "decoded_ms": decoded * 1000 // RATE,
    }


def _flac(samples: Samples) -> bytes:
    import soundfile

    flac = io.BytesIO()
    soundfile.write(flac, samples, RATE, format="FLAC", subtype="PCM_16")
    return flac.getvalue()
