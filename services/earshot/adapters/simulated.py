"""An engine for load tests: takes a fixed share of real time and makes up words. Its transcripts are worth nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from earshot.adapters import flac
from earshot.kernel.events import Engine, Word
from earshot.kernel.ports import Clip, Recognized

NAME = "simulated"
WORD_MS = 400  # about the pace of read speech
_VOCABULARY = (
    "amber",
    "bridge",
    "candle",
    "desert",
    "forest",
    "garden",
    "harbor",
    "island",
    "jacket",
    "kettle",
    "ladder",
)


class Simulated:
    """Lives in the engine's process. The same samples always get the same words, other samples get others.

    Args:
        real_time_factor: seconds of work for one second of audio.
        seconds: of work for one clip, whatever its length, added to that.
    """

    def __init__(self, real_time_factor: float, seconds: float = 0.0) -> None:
        self._factor = real_time_factor
        self._seconds = seconds
        reason = "Nothing was recognised: EARSHOT_TRANSCRIBER__ENGINE is simulated, for load tests. Set it to auto."
        self.engine = Engine(name=NAME, model="none", digest="", device="cpu", degraded=True, reason=reason)
        self.options: dict[str, Any] = {}

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, after the time that each takes."""
        return [self._recognize(clip) for clip in clips]

    def _recognize(self, clip: Clip) -> Recognized:
        began = time.monotonic()
        samples = flac.samples(clip.flac)
        ends = began + self._seconds + self._factor * len(samples) / flac.SAMPLE_RATE
        seed = hashlib.sha256(samples.tobytes()).digest()
        words = [
            _word(_VOCABULARY[byte % len(_VOCABULARY)], start, min(start + WORD_MS, clip.end_ms))
            for start, byte in zip(range(clip.start_ms, clip.end_ms, WORD_MS), _stretch(seed), strict=False)
        ]
        time.sleep(max(0.0, ends - time.monotonic()))
        return Recognized(" ".join(word.text for word in words), words, clip.language or "en", self.engine)


def _word(text: str, start_ms: int, end_ms: int) -> Word:
    return Word(text=text, start_ms=start_ms, end_ms=end_ms, confidence=None, speaker=None)


def _stretch(seed: bytes) -> bytes:
    """Enough bytes from a seed for the words of ``flac.MAX_SECONDS``."""
    return hashlib.shake_256(seed).digest(flac.MAX_SECONDS * 1000 // WORD_MS)
