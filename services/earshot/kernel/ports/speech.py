"""Sound and speech: decoding, cutting, recognising."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from earshot.kernel.events import Engine, Quality, Task, Word


@dataclass(frozen=True)
class Probe:
    """What a file turned out to be.

    Attributes:
        container: as the decoder names it.
        codec: of the audio stream.
        duration_ms: as the container says; ``None`` where it does not.
    """

    container: str
    codec: str
    duration_ms: int | None


@dataclass(frozen=True)
class CutSegment:
    """One segment, decoded and cut.

    Attributes:
        index: from 0.
        start_ms: from the recording's start.
        end_ms: from the recording's start.
        flac: 16 kHz mono 16-bit FLAC.
        sha256: hex, of the 16-bit little-endian samples.
        decoded_ms: how much of the recording has been decoded so far.
    """

    index: int
    start_ms: int
    end_ms: int
    flac: bytes
    sha256: str
    decoded_ms: int


@dataclass(frozen=True)
class CutEnd:
    """The end of a recording: its duration, and how many segments had speech.

    ``damage`` says what of the file did not decode, as a clause for a person; empty when everything did. ``quality`` is
    what the decoder measured on the way.
    """

    duration_ms: int
    segments: int
    damage: str = ""
    quality: Quality | None = None


class Decoder(Protocol):
    """Decodes files in a process of its own, within limits of size, duration, memory and CPU time."""

    async def probe(self, path: Path) -> Probe:
        """Decode the beginning to find out what it is. Raises ``NotAudio``, ``LimitExceeded``."""

    def cut(self, path: Path) -> AsyncIterator[CutSegment | CutEnd]:
        """Decode as a stream and yield segments as they are cut, then one ``CutEnd``.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: longer than allowed, or the decoder ran out of its limits.
        """


class Cutting(Protocol):
    """The part of a decoder that cuts again what was cut before."""

    async def span(self, path: Path, start_ms: int, end_ms: int) -> bytes:
        """The samples between two moments, as 16 kHz mono 16-bit FLAC: those of a segment that was cut there.

        Raises:
            NotAudio: nothing decodes.
            LimitExceeded: the recording is shorter, or the decoder ran out of its limits.
            BlobMissing: the file is gone.
            UnitCrashed: the decoder died or hung.
        """


class MosPredictor(Protocol):
    """Predicts the mean opinion score that people would give a clip."""

    model: str
    """Name of the model."""

    device: str
    """cpu, cuda or mps."""

    async def score(self, flac: bytes) -> float | None:
        """The score of a segment's FLAC, 1 to 5; ``None`` when the model failed, which it logs."""


@dataclass(frozen=True)
class Clip:
    """One segment for the engine: FLAC bytes, where it starts in its recording, what is known and wanted of it.

    Attributes:
        flac: 16 kHz, mono, 16 bit.
        start_ms: from the recording's start.
        end_ms: from the recording's start.
        language: BCP 47 of what is spoken; empty: to be detected.
        task: ``translate``: into English, by an engine that can.
        hotwords: words and names that may be said; for an engine that listens to hints.
        prompt: a text as it might stand before this one, for its words and its style; likewise.
    """

    flac: bytes
    start_ms: int
    end_ms: int
    language: str = ""
    task: Task = "transcribe"
    hotwords: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Recognized:
    """What an engine heard in a clip. Word times count from the recording's start.

    Attributes:
        text: the words, joined.
        words: each with its times.
        language: BCP 47 of the text: as spoken, unless it was translated.
        engine: who heard it, as it stood then.
        options: those that the engine ran with; an engine of a chain may have other ones than the next.
        note: what the engine holds against this one result; part of ``engine.reason`` already.
        translated_from: the language that was spoken, where the text is a translation; else empty.
    """

    text: str
    words: list[Word]
    language: str
    engine: Engine
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    translated_from: str = ""


def doubted(engine: Engine, note: str) -> Engine:
    """An engine as it stands behind a result that it holds something against; without a ``note``, as it stands."""
    if not note:
        return engine
    return engine.model_copy(update={"degraded": True, "reason": f"{note} {engine.reason}".strip()})


class Recognizer(Protocol):
    """A speech-to-text engine, or a chain of them. Each result says which engine it is of."""

    @property
    def engine(self) -> Engine:
        """Who would do the work now: name, model, digest and device; degraded when it is a fallback."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option that changes the text: part of the cache key."""

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. Raises ``EngineRejected``, ``UnitCrashed``, ``Unavailable``."""
