"""Fakes of the speech ports, and segments of real speech."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import soundfile

from earshot.adapters import flac
from earshot.kernel.errors import EarshotError
from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.kernel.ports import Clip, Recognized, StoredSegment
from earshot.kernel.words import spread
from tests.audio import EXAMPLES, RATE

ENGINE = Engine(name="fake", model="one", digest="d", device="cpu", degraded=False, reason="")


class FakeRecognizer:
    """A :class:`~earshot.kernel.ports.Recognizer`: the text of a clip is ``text``, or the beginning of its hash.

    ``calls`` has the clips of every call; ``failure``, when set, is raised.
    """

    def __init__(self, text: str | None = None, **options: Any) -> None:
        self.engine = ENGINE
        self.options: Mapping[str, Any] = options
        self.text = text
        self.calls: list[list[Clip]] = []
        self.failure: EarshotError | None = None

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        self.calls.append(list(clips))
        if self.failure is not None:
            raise self.failure
        return [self._recognize(clip) for clip in clips]

    def _recognize(self, clip: Clip) -> Recognized:
        digest = flac.digest(clip.flac)
        text = f"heard {digest[:8]} {digest[8:16]}" if self.text is None else self.text
        words = spread(text, clip.start_ms, clip.end_ms)
        return Recognized(text, words, clip.language or "en", self.engine, self.options)


class FakeTranscripts:
    """The part of :class:`~earshot.kernel.ports.Transcripts` that the transcriber uses, in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int, int], StoredSegment] = {}
        self.hidden: set[tuple[str, int]] = set()

    async def store(self, segments: Sequence[StoredSegment]) -> None:
        for segment in segments:
            event = segment.event
            self.rows[event.tenant, event.recording_id, event.index, event.revision] = segment

    async def highest(self, tenant: str, recording_id: str, index: int) -> SegmentTranscribed | None:
        found = [
            row.event
            for (whose, recording, place, revision), row in sorted(self.rows.items())
            if (whose, recording, place) == (tenant, recording_id, index) and (recording, revision) not in self.hidden
        ]
        return found[-1] if found else None

    async def forget(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        assert up_to is None
        for key in [key for key in self.rows if key[:2] == (tenant, recording_id) and revision in (None, key[3])]:
            del self.rows[key]


def encoded(samples: np.ndarray) -> bytes:
    """A segment's FLAC."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def clip(samples: np.ndarray, start_ms: int = 0, language: str = "") -> Clip:
    return Clip(encoded(samples), start_ms, start_ms + len(samples) * 1000 // RATE, language)


def tone(seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    """Samples that differ with their pitch."""
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.int16)


@cache
def sentence(name: str) -> np.ndarray:
    """One read sentence of ``examples/audio``."""
    return soundfile.read(EXAMPLES / "sense_and_sensibility" / f"{name}.wav", dtype="int16")[0]


def sha256(samples: np.ndarray) -> str:
    """As events carry it, computed without the code under test."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def in_order(words: Sequence[Word], start_ms: int, end_ms: int) -> bool:
    """Whether words lie inside a segment, each after the one before, none ending before it starts."""
    starts = [word.start_ms for word in words]
    inside = all(start_ms <= word.start_ms <= word.end_ms <= end_ms for word in words)
    return inside and starts == sorted(starts)
