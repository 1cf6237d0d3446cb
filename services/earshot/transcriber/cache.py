"""The transcript cache: work is done once for a tenant, samples, engine and every option that changes the text."""

from __future__ import annotations

import hashlib
import json
import re

import structlog
from pydantic import BaseModel, ValidationError

from earshot.kernel.errors import BlobMismatch, BlobMissing
from earshot.kernel.events import Engine, SegmentCut, Word
from earshot.kernel.ports import BlobStore, Recognized, Recognizer

FORMAT = 1  # of what is stored; part of the key, so that another format never reads this one's
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Cached(BaseModel):
    """A transcript with times from the segment's start: the same samples may lie anywhere in a recording."""

    text: str
    words: list[Word]
    language: str
    engine: Engine


def cache_key(segment: SegmentCut, recognizer: Recognizer) -> str:
    """Where the transcript of a segment's samples lies: in the tenant's folder, apart by everything that matters.

    Raises:
        BlobMismatch: the event's hash is none, and must not become part of a key.
    """
    engine = recognizer.engine
    about = [FORMAT, engine.name, engine.model, engine.digest, engine.device, recognizer.options, segment.language]
    how = hashlib.sha256(json.dumps(about, sort_keys=True, default=dict).encode()).hexdigest()
    sha256 = segment.sha256.lower()
    if not _SHA256.fullmatch(sha256):
        raise BlobMismatch(f"{segment.sha256[:80]!r} is no SHA-256 in hex.")
    return f"{segment.tenant}/transcripts/{sha256[:2]}/{sha256}/{engine.name}-{how[:32]}.json"


async def load(blobs: BlobStore, key: str, start_ms: int) -> Recognized | None:
    """The cached transcript, placed where the segment starts; ``None`` when there is none that can be read."""
    try:
        cached = _Cached.model_validate_json(await blobs.get(key))
    except BlobMissing:
        return None
    except ValidationError:
        structlog.get_logger().warning("a cached transcript cannot be read and is made again", key=key)
        await blobs.delete([key])
        return None
    return Recognized(cached.text, shifted(cached.words, start_ms), cached.language, cached.engine)


async def save(blobs: BlobStore, key: str, heard: Recognized, start_ms: int) -> Recognized:
    """Store a transcript unless one is there; return the one that is stored now: whoever comes first is right."""
    cached = _Cached(
        text=heard.text, words=shifted(heard.words, -start_ms), language=heard.language, engine=heard.engine
    )
    if await blobs.put(key, cached.model_dump_json().encode(), create_only=True):
        return heard
    return await load(blobs, key, start_ms) or heard


def shifted(words: list[Word], by_ms: int) -> list[Word]:
    """The words so much later (or earlier, not before 0)."""
    return [
        word.model_copy(update={"start_ms": max(word.start_ms + by_ms, 0), "end_ms": max(word.end_ms + by_ms, 0)})
        for word in words
    ]
