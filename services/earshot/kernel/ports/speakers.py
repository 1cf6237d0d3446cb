"""Who speaks: finding them in the sound, keeping their turns and names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from earshot.kernel.events import Engine, SpeakersFound, Turn
from earshot.kernel.speakers import Voices


@dataclass(frozen=True)
class SpeakerCount:
    """How many people speak, as far as somebody said; 0: nobody did."""

    exactly: int = 0
    at_least: int = 0
    at_most: int = 0


@dataclass(frozen=True)
class Diarized:
    """Who speaks when. ``exclusive`` has no overlap; empty when the engine cannot say."""

    turns: list[Turn]
    exclusive: list[Turn]
    duration_ms: int


class Diarizer(Protocol):
    """An engine that tells voices apart, in a process of its own."""

    engine: Engine
    """Name, model, digest and device."""

    options: Mapping[str, Any]
    """Every option that changes the turns, apart from the number of speakers."""

    async def diarize(self, path: Path, count: SpeakerCount) -> Diarized:
        """The turns of a whole file.

        Raises:
            NotAudio, LimitExceeded: the decoder's verdict; longer than the engine's memory allows.
            EngineRejected: the engine cannot handle it.
            UnitCrashed, Unavailable: of the decoder, or of the engine.
        """


class Speakers(Protocol):
    """The turns of recordings by revision, and the names of their speakers. Raises ``Unavailable("catalog", …)``."""

    async def store_turns(self, found: SpeakersFound) -> None:
        """Upsert by (recording, revision); what was erased or cancelled meanwhile is left out."""

    async def voices(self, tenant: str, recording_ids: Collection[str]) -> Mapping[str, Voices]:
        """The turns and names of each of these recordings that has any."""

    async def forget_turns(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        """Delete the turns of one revision, or of those up to one that a higher one replaces, or all."""

    async def name_speakers(self, tenant: str, recording_id: str, names: Mapping[str, str | None]) -> None:
        """Call labels by names from now on; ``None`` takes a name away. Raises ``UnknownRecording``."""

    async def speakers_named(self, tenant: str, name: str, limit: int) -> list[tuple[str, str]]:
        """(recording, label) of everyone called so, at most ``limit``."""
