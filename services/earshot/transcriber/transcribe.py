"""What was said in a segment, written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
from opentelemetry import trace

from earshot.kernel import telemetry
from earshot.kernel.errors import BlobMismatch, BlobMissing, LimitExceeded
from earshot.kernel.events import SegmentCut, SegmentTranscribed
from earshot.kernel.ports import BlobStore, Clip, Recognized, Recognizer, StoredSegment, Transcripts
from earshot.kernel.stage import Delivery, Output, emit, progress
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.transcriber import cache

T = TypeVar("T")
AT_ONCE = 8  # requests to the blob store, of one batch
MAX_BYTES = 8 * 1024 * 1024  # four times a minute of uncompressed samples: no segment is that large
Recut = Callable[[SegmentCut], Awaitable[bytes | None]]
"""The audio of a segment whose blob was dropped; ``None`` where it cannot be cut again."""
Digest = Callable[[bytes], str]
"""Hex SHA-256 of the samples in a FLAC file. Raises ``NotAudio``, ``BlobMismatch``, ``LimitExceeded``."""


async def transcribe(
    batch: Sequence[Delivery[SegmentCut]],
    blobs: BlobStore,
    transcripts: Transcripts,
    recognizer: Recognizer,
    digest: Digest,
    recut: Recut | None = None,
) -> AsyncIterator[Output]:
    """Publish what was said in each segment. What the cache does not know goes to the engine as one batch.

    Every transcript is in the catalog before its event leaves. A text without a word is a result like any other.

    Raises:
        BlobMissing, BlobMismatch, ForeignUri, LimitExceeded, NotAudio, EngineRejected: of one of the segments.
        Unavailable, UnitCrashed: of a store, or of the engine.
    """
    now = cache.Standing(recognizer.engine, recognizer.options)
    keys = [cache.cache_key(delivery.event, now) for delivery in batch]
    clips = await _at_once(partial(_clip, delivery.event, blobs, digest, recut) for delivery in batch)
    found = await _at_once(
        partial(cache.load, blobs, key, clip.start_ms, now) for key, clip in zip(keys, clips, strict=True)
    )
    _count(found)
    missing = {
        key: (delivery.event, clip)
        for key, delivery, clip, hit in zip(keys, batch, clips, found, strict=True)
        if hit is None
    }
    made = await _recognize(missing, blobs, recognizer)
    heard = [hit or _placed(*made[key], clip) for key, clip, hit in zip(keys, clips, found, strict=True)]
    events = [_event(delivery.event, result) for delivery, result in zip(batch, heard, strict=True)]
    # Under the keys of those who heard it: the recognizer may have gone on to another engine in the meantime.
    used = [cache.cache_key(delivery.event, result) for delivery, result in zip(batch, heard, strict=True)]
    await transcripts.store([StoredSegment(event, key) for event, key in zip(events, used, strict=True)])
    for delivery, event in zip(batch, events, strict=True):
        yield emit(AUDIO_TRANSCRIPTS, event, delivery)
        yield progress("transcriber", delivery)


async def _clip(segment: SegmentCut, blobs: BlobStore, digest: Digest, recut: Recut | None) -> Clip:
    """A segment's audio, once it is sure to be what was announced."""
    try:
        flac = await _stored(segment, blobs)
    except BlobMissing:
        again = None if recut is None else await recut(segment)
        if again is None:
            raise
        return _as_clip(segment, again)
    if (found := await asyncio.to_thread(digest, flac)) != segment.sha256.lower():
        raise BlobMismatch(f"The samples at {segment.uri} have the hash {found}, announced was {segment.sha256}.")
    return _as_clip(segment, flac)


def _as_clip(segment: SegmentCut, flac: bytes) -> Clip:
    return Clip(
        flac, segment.start_ms, segment.end_ms, segment.language, segment.task, segment.hotwords, segment.prompt
    )


async def _stored(segment: SegmentCut, blobs: BlobStore) -> bytes:
    key = blobs.key(segment.tenant, segment.uri)
    if (size := await blobs.size(key)) > MAX_BYTES:
        raise LimitExceeded(f"The segment at {segment.uri} has {size} bytes; no segment has more than {MAX_BYTES}.")
    return await blobs.get(key)


async def _recognize(
    missing: dict[str, tuple[SegmentCut, Clip]], blobs: BlobStore, recognizer: Recognizer
) -> dict[str, tuple[Recognized, Clip]]:
    """What was heard in each clip, with the clip, by the key it was missed under; cached under its maker's own key."""
    if not missing:
        return {}
    with telemetry.span("recognize", clips=len(missing), engine=recognizer.engine.name):
        heard = await recognizer.recognize([clip for _, clip in missing.values()])
    saved = await _at_once(
        partial(cache.save, blobs, cache.cache_key(segment, result), result, clip.start_ms)
        for (segment, clip), result in zip(missing.values(), heard, strict=True)
    )
    return {key: (result, clip) for (key, (_, clip)), result in zip(missing.items(), saved, strict=True)}


async def _at_once(jobs: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of jobs that wait for a store, in order; ``AT_ONCE`` at a time. The first error ends the others."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def run(job: Callable[[], Awaitable[T]]) -> T:
        async with turn:
            return await job()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(job)) for job in jobs]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _placed(heard: Recognized, where: Clip, clip: Clip) -> Recognized:
    """What was heard in one clip as heard in another with the same samples."""
    by_ms = clip.start_ms - where.start_ms
    return replace(heard, words=cache.shifted(heard.words, by_ms)) if by_ms else heard


def _event(segment: SegmentCut, heard: Recognized) -> SegmentTranscribed:
    return SegmentTranscribed(
        tenant=segment.tenant,
        recording_id=segment.recording_id,
        revision=segment.revision,
        index=segment.index,
        start_ms=segment.start_ms,
        end_ms=segment.end_ms,
        text=heard.text,
        words=heard.words,
        language=heard.language,
        speaker=None,
        engine=heard.engine,
        collection=segment.collection,
        recorded_at=segment.recorded_at,
        translated_from=heard.translated_from,
    )


def _count(found: Sequence[Recognized | None]) -> None:
    """Say how many transcripts were there already: on the current span, and in the log."""
    hits = sum(hit is not None for hit in found)
    trace.get_current_span().set_attribute("earshot.cache_hit", hits)
    structlog.get_logger().debug("looked into the transcript cache", hits=hits, misses=len(found) - hits)
