"""A segment's audio again, from its recording's original, after it was dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from earshot.kernel.claims import segment_key
from earshot.kernel.events import SegmentCut
from earshot.kernel.ports import BlobStore, Recordings
from earshot.kernel.ports.speech import Cutting

LONGEST_MS = 60_000
"""A segment has at most 30 s."""
log = structlog.get_logger()


async def cut_again(
    segment: SegmentCut, recordings: Recordings, blobs: BlobStore, decoder: Cutting, digest: Callable[[bytes], str]
) -> bytes | None:
    """The samples between the segment's start and end, as FLAC; they are used once and not stored.

    They are the very ones that were announced, unless the decoder is another one now: then the same stretch of the same
    recording, which is as good.
    ``None``: the segment is not one that was cut here, or its recording has no audio any more.

    Raises:
        BlobMissing, NotAudio, LimitExceeded: of the original.
        Unavailable, UnitCrashed: of a store, or of the decoder.
    """
    place = segment_key(segment.tenant, segment.recording_id, segment.revision, segment.index)
    if blobs.key(segment.tenant, segment.uri) != place or segment.end_ms - segment.start_ms > LONGEST_MS:
        return None
    recording = await recordings.recording(segment.tenant, segment.recording_id)
    if recording is None or recording.source_key is None:
        return None
    async with blobs.local(recording.source_key) as path:
        flac = await decoder.span(path, segment.start_ms, segment.end_ms)
    same = await asyncio.to_thread(digest, flac) == segment.sha256.lower()
    log.info("segment_cut_again", recording_id=segment.recording_id, index=segment.index, same_samples=same)
    return flac
