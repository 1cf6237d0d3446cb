"""Who speaks in a recording, and what they are called."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, StringConstraints
from pydantic.config import JsonDict

from earshot.adapters.problems import Refused, documented
from earshot.adapters.web import KitOf, Tenant
from earshot.adapters.wiring import Kit
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports import Recording
from earshot.kernel.speakers import Voices
from earshot.query.found import FoundRecording
from earshot.query.views import PREFIX

NOBODY = Voices()
MOST_SHOWN = 20
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what is not seen, or turns what is around it."""
JOINERS = "\u200c\u200d"
"""Invisible, and part of how names are written in some scripts."""
EXAMPLE: JsonDict = {"SPEAKER_00": "Ada Lovelace", "SPEAKER_01": None}

router = APIRouter(tags=["recordings"])


def _visible(name: str) -> str:
    """A name of characters that can be seen. Raises ``ValueError``."""
    if any(unicodedata.category(letter) in UNSEEN for letter in name if letter not in JOINERS):
        raise ValueError("a name has no control characters")
    return name


Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
SpeakerName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_visible)
]


class SpeakerNames(RootModel[dict[Label, SpeakerName | None]]):
    """What labels are called from now on; null takes a name away. Labels left out stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    root: dict[Label, SpeakerName | None] = Field(min_length=1, max_length=100)


class SpeakerView(BaseModel):
    """Somebody who speaks."""

    label: str = Field(description="What the recording's turns and words say.", examples=["SPEAKER_00"])
    name: str | None = Field(description="What somebody called them; null: nobody did.", examples=["Ada Lovelace"])
    spoken_ms: int = Field(description="How long they speak, all turns together.", examples=[83_120])


class SpeakerList(BaseModel):
    """Everybody who speaks in a recording, by label."""

    items: list[SpeakerView]
    next: None = None


@router.get("/recordings/{id}/speakers", responses=documented(404))
async def get_speakers(recording: FoundRecording, tenant: Tenant, kit: KitOf) -> SpeakerList:
    """Who speaks in a recording. Empty while nobody has looked, and when diarization is off."""
    return await _listed(recording, tenant, kit)


@router.patch("/recordings/{id}/speakers", responses=documented(404, 422))
async def name_speakers(recording: FoundRecording, names: SpeakerNames, tenant: Tenant, kit: KitOf) -> SpeakerList:
    """Give speakers names; they are shown everywhere at once, and searched by, and no passage is written again."""
    known = {speaker.label for speaker in (await _listed(recording, tenant, kit)).items}
    if unknown := sorted(set(names.root) - known):
        where = f"See GET {PREFIX}/recordings/{recording.id}/speakers."
        raise Refused(422, "unknown_speaker", _nobody_called(unknown, known), next_step=where)
    await kit.catalog.name_speakers(tenant, recording.id, names.root)
    return await _listed(recording, tenant, kit)


def _nobody_called(unknown: Sequence[str], known: Collection[str]) -> str:
    said = ", ".join(repr(label[:60]) for label in unknown[:MOST_SHOWN])
    there = ", ".join(sorted(known)[:MOST_SHOWN]) or "nobody, as far as is known"
    return f"Nobody in this recording has the label {said}. Who speaks: {there}."


async def _listed(recording: Recording, tenant: str, kit: Kit) -> SpeakerList:
    voices = await voices_of(recording, tenant, kit)
    spoken = _spoken(voices, await kit.catalog.transcript(tenant, recording.id))
    items = [
        SpeakerView(label=label, name=voices.name(label), spoken_ms=spoken_ms)
        for label, spoken_ms in sorted(spoken.items())
    ]
    return SpeakerList(items=items)


async def voices_of(recording: Recording, tenant: str, kit: Kit) -> Voices:
    """The turns and names of one recording."""
    return (await kit.catalog.voices(tenant, [recording.id])).get(recording.id, NOBODY)


def _spoken(voices: Voices, segments: Sequence[SegmentTranscribed]) -> dict[str, int]:
    """How long each label speaks: by the turns that serve the recording, else by its words."""
    spoken: dict[str, int] = {}
    latest = voices.of(max((segment.revision for segment in segments), default=2**62))
    stretches = [(turn.speaker, turn.end_ms - turn.start_ms) for turn in latest.turns] if latest else []
    for segment in () if latest else segments:
        words = [(word.speaker or segment.speaker or "", word.end_ms - word.start_ms) for word in segment.words]
        stretches += words or [(segment.speaker or "", segment.end_ms - segment.start_ms)]
    for label, length in stretches:
        if label:
            spoken[label] = spoken.get(label, 0) + length
    return spoken
