"""Sound and speech: decoding, cutting, recognising."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from earshot.kernel.events import Engine, Word


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

    ``damage`` says what of the file did not decode, as a clause for a person; empty when everything did.
    """

    duration_ms: int
    segments: int
    damage: str = ""


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


@dataclass(frozen=True)
class Clip:
    """One segment for the engine: FLAC bytes, where it starts in its recording, what is known of it."""

    flac: bytes
    start_ms: int
    end_ms: int
    language: str = ""


@dataclass(frozen=True)
class Recognized:
    """What an engine heard in a clip. Word times count from the recording's start."""

    text: str
    words: list[Word]
    language: str
    engine: Engine


class Recognizer(Protocol):
    """A speech-to-text engine in a process of its own."""

    engine: Engine
    """Name, model, digest and device; degraded when it is a fallback."""

    options: Mapping[str, Any]
    """Every option that changes the text: part of the cache key."""

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. Raises ``EngineRejected``, ``UnitCrashed``, ``Unavailable``."""
