"""Turns that are known already, kept beside their recording: erased with it, never another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple

import structlog
from pydantic import BaseModel, ValidationError

from earshot.kernel.errors import BlobMissing
from earshot.kernel.events import AudioUploaded, Event, Turn
from earshot.kernel.gate import Verdict
from earshot.kernel.ports import BlobStore
from earshot.kernel.ports.speakers import Diarized, Diarizer, SpeakerCount
from earshot.kernel.stage import Output, Stale

FORMAT = 1  # of what is stored; part of the key, so that another format never reads this one's


class _Known(BaseModel):
    turns: list[Turn]
    exclusive: list[Turn]
    duration_ms: int


def folder(event: Event) -> str:
    """Where the turns of a recording lie, whatever the attempt."""
    return f"{event.tenant}/recordings/{event.recording_id}/speakers/"


def result_key(upload: AudioUploaded, diarizer: Diarizer, count: SpeakerCount) -> str | None:
    """Where the turns of this audio by this model lie; ``None`` for audio that nobody gave a hash."""
    if not upload.sha256:
        return None
    engine = diarizer.engine
    about = [FORMAT, upload.sha256.lower(), engine.name, engine.digest, dict(diarizer.options), astuple(count)]
    return f"{folder(upload)}{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]}.json"


async def load(blobs: BlobStore, key: str) -> Diarized | None:
    """The turns that lie there; ``None`` when there are none that can be read."""
    try:
        known = _Known.model_validate_json(await blobs.get(key))
    except BlobMissing:
        return None
    except ValidationError:
        structlog.get_logger().warning("known turns cannot be read and are found again", key=key)
        await blobs.delete([key])
        return None
    return Diarized(known.turns, known.exclusive, known.duration_ms)


async def save(blobs: BlobStore, key: str, found: Diarized) -> None:
    """Keep turns for the next attempt."""
    known = _Known(turns=found.turns, exclusive=found.exclusive, duration_ms=found.duration_ms)
    await blobs.put(key, known.model_dump_json().encode())


async def forget(stale: Sequence[Stale], blobs: BlobStore) -> AsyncIterator[Output]:
    """Delete what was kept of recordings that were erased meanwhile; another attempt may still want the rest."""
    for item in stale:
        if item.verdict is Verdict.ERASED:
            await blobs.delete([key async for key, _ in blobs.list(folder(item.delivery.event))])
    for _ in ():
        yield _
