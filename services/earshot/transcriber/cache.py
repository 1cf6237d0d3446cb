"""The transcript cache: work is done once for a tenant, samples, engine and every option that changes the text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, ValidationError

from earshot.kernel.errors import BlobMismatch, BlobMissing
from earshot.kernel.events import Engine, SegmentCut, Word
from earshot.kernel.ports import BlobStore, Recognized, doubted

FORMAT = 2  # of what is stored; part of the key, so that another format never reads this one's
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Maker(Protocol):
    """What makes a transcript, or made one: a ``Recognizer``, or what it ``Recognized``."""

    @property
    def engine(self) -> Engine:
        """Name, model, digest and device."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Every option that changes the text."""


@dataclass(frozen=True)
class Standing:
    """A :class:`Maker` as it is at one moment; a recognizer may go on to another engine at any."""

    engine: Engine
    options: Mapping[str, Any]


class _Cached(BaseModel):
    """A transcript with times from the segment's start: the same samples may lie anywhere in a recording.

    ``engine`` is as it stood then; how it stands in the chain now is said when the transcript is used again.
    """

    text: str
    words: list[Word]
    language: str
    engine: Engine
    note: str = ""
    translated_from: str = ""


def cache_key(segment: SegmentCut, maker: Maker) -> str:
    """Where the transcript of a segment's samples lies: in the tenant's folder, apart by everything that matters.

    Raises:
        BlobMismatch: the event's hash is none, and must not become part of a key.
    """
    engine = maker.engine
    wished = [segment.language, segment.task, segment.hotwords, segment.prompt]
    about = [FORMAT, engine.name, engine.model, engine.digest, engine.device, maker.options, *wished]
    how = hashlib.sha256(json.dumps(about, sort_keys=True, default=dict).encode()).hexdigest()
    sha256 = segment.sha256.lower()
    if not _SHA256.fullmatch(sha256):
        raise BlobMismatch(f"{segment.sha256[:80]!r} is no SHA-256 in hex.")
    return f"{segment.tenant}/transcripts/{sha256[:2]}/{sha256}/{_UNSAFE.sub('_', engine.name)}-{how[:32]}.json"


def folder(key: str) -> str:
    """Where all transcripts of the same samples lie, whatever made them."""
    return key.rpartition("/")[0] + "/"


async def load(blobs: BlobStore, key: str, start_ms: int, maker: Maker) -> Recognized | None:
    """The cached transcript of a maker, placed where the segment starts; ``None`` when there is none to be read."""
    try:
        cached = _Cached.model_validate_json(await blobs.get(key))
    except BlobMissing:
        return None
    except ValidationError:
        structlog.get_logger().warning("a cached transcript cannot be read and is made again", key=key)
        await blobs.delete([key])
        return None
    words, engine = shifted(cached.words, start_ms), doubted(maker.engine, cached.note)
    return Recognized(cached.text, words, cached.language, engine, maker.options, cached.note, cached.translated_from)


async def save(blobs: BlobStore, key: str, heard: Recognized, start_ms: int) -> Recognized:
    """Store a transcript unless one is there; return the one that is stored now: whoever comes first is right."""
    cached = _Cached(
        text=heard.text,
        words=shifted(heard.words, -start_ms),
        language=heard.language,
        engine=heard.engine,
        note=heard.note,
        translated_from=heard.translated_from,
    )
    if await blobs.put(key, cached.model_dump_json().encode(), create_only=True):
        return heard
    found = await load(blobs, key, start_ms, heard)
    return heard if found is None else replace(found, engine=heard.engine)  # the same engine makes the same note


def shifted(words: list[Word], by_ms: int) -> list[Word]:
    """The words so much later (or earlier, not before 0)."""
    return [
        word.model_copy(update={"start_ms": max(word.start_ms + by_ms, 0), "end_ms": max(word.end_ms + by_ms, 0)})
        for word in words
    ]
