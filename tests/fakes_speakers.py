"""Fakes of the ports of speakers: turns and names in memory, a diarizer that plays a script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from earshot.kernel.errors import EarshotError
from earshot.kernel.events import Engine, SpeakersFound, Turn
from earshot.kernel.ports.speakers import Diarized, SpeakerCount
from earshot.kernel.speakers import Voices


async def _at_once() -> None:
    return None


class FakeSpeakers:
    """Turns and names. ``pause`` is awaited before each answer, so that a test decides who goes on."""

    def __init__(self, pause: Callable[[], Awaitable[None]] = _at_once) -> None:
        self.turns: dict[tuple[str, str, int], SpeakersFound] = {}
        self.names: dict[tuple[str, str], dict[str, str]] = {}
        self.pause = pause

    async def store_turns(self, found: SpeakersFound) -> None:
        await self.pause()
        self.turns[found.tenant, found.recording_id, found.revision] = found

    async def voices(self, tenant: str, recording_ids: Collection[str]) -> Mapping[str, Voices]:
        await self.pause()
        known = {}
        for recording_id in recording_ids:
            found = [turns for key, turns in self.turns.items() if key[:2] == (tenant, recording_id)]
            names = self.names.get((tenant, recording_id), {})
            if found or names:
                known[recording_id] = Voices(found, names)
        return known

    async def forget_turns(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        mine = sorted(key[2] for key in self.turns if key[:2] == (tenant, recording_id))
        for each in mine:
            replaced = up_to is not None and each <= up_to and each < mine[-1]
            if revision == each or replaced or (revision is None and up_to is None):
                del self.turns[tenant, recording_id, each]

    async def name_speakers(self, tenant: str, recording_id: str, names: Mapping[str, str | None]) -> None:
        now = self.names.setdefault((tenant, recording_id), {}) | dict(names)
        self.names[tenant, recording_id] = {label: name for label, name in now.items() if name is not None}

    async def speakers_named(self, tenant: str, name: str, limit: int) -> list[tuple[str, str]]:
        pairs = [
            (recording_id, label)
            for (owner, recording_id), names in sorted(self.names.items())
            for label, called in sorted(names.items())
            if owner == tenant and called == name
        ]
        return pairs[:limit]


class FakeDiarizer:
    """Answers from a script; what is an error in it is raised.

    Attributes:
        asked: the number of speakers of every call.
    """

    engine = Engine(name="pyannote.audio", model="fake", digest="d" * 64)
    options: Mapping[str, Any] = {"version": "1"}

    def __init__(self, *script: Diarized | EarshotError) -> None:
        self.script = list(script) or [diarized()]
        self.asked: list[SpeakerCount] = []
        self.paths: list[Path] = []

    async def diarize(self, path: Path, count: SpeakerCount) -> Diarized:
        self.asked.append(count)
        self.paths.append(path)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, EarshotError):
            raise step
        return step


def turn(speaker: str, start_ms: int, end_ms: int) -> Turn:
    return Turn(speaker=speaker, start_ms=start_ms, end_ms=end_ms)


def diarized(*turns: Turn) -> Diarized:
    """Two people, one after the other, unless said otherwise."""
    return Diarized(list(turns or (turn("SPEAKER_00", 0, 4000), turn("SPEAKER_01", 4000, 9000))), [], 10_000)


def found(recording_id: str, *turns: Turn, revision: int = 1, tenant: str = "default", **fields: Any) -> SpeakersFound:
    """A diarizer's event."""
    about: dict[str, Any] = {"tenant": tenant, "recording_id": recording_id, "revision": revision}
    return SpeakersFound(**about, turns=list(turns), engine=FakeDiarizer.engine, **fields)
