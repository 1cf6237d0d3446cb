"""A recording in, its segments out, each published as soon as it is cut."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence

from earshot.kernel.errors import BlobMismatch, LimitExceeded
from earshot.kernel.events import AudioUploaded, Event, SegmentCut
from earshot.kernel.ports import BlobStore, CutEnd, CutSegment, Decoder
from earshot.kernel.stage import Delivery, Output, emit, progress
from earshot.kernel.topics import LANES


async def segment(
    batch: Sequence[Delivery[AudioUploaded]], blobs: BlobStore, decoder: Decoder, *, max_bytes: int
) -> AsyncIterator[Output]:
    """Cut each recording at pauses and publish its segments on the lane of its priority, then how many there are.

    A recording without speech has none. Doing it again makes the same segments with the same names.

    Raises:
        ForeignUri, BlobMissing, BlobMismatch: the claim check is not what it says.
        NotAudio, LimitExceeded: the decoder's verdict.
        Unavailable, UnitCrashed: of the store, or of the decoder.
    """
    for delivery in batch:
        upload = delivery.event
        key = blobs.key(upload.tenant, upload.uri)
        await _check(upload, key, blobs, max_bytes)
        async with blobs.local(key) as path:
            async for piece in decoder.cut(path):
                if isinstance(piece, CutEnd):
                    yield _total(piece, delivery)
                else:
                    yield emit(LANES[upload.priority], await _store(piece, upload, blobs), delivery)


def segments_prefix(event: Event) -> str:
    """Where the segments of one attempt at a recording lie."""
    return f"{event.tenant}/recordings/{event.recording_id}/{event.revision}/segments/"


async def _check(upload: AudioUploaded, key: str, blobs: BlobStore, max_bytes: int) -> None:
    """Refuse what is too large to touch, and what is not what was announced."""
    if (size := await blobs.size(key)) > max_bytes:
        raise LimitExceeded(f"The recording has {size:,} bytes; the limit is {max_bytes:,}.")
    if not upload.sha256:
        return
    digest = hashlib.sha256()
    async for chunk in blobs.read(key):
        digest.update(chunk)
    if digest.hexdigest() != upload.sha256.lower():
        raise BlobMismatch(
            f"The audio at {upload.uri} has the SHA-256 {digest.hexdigest()}, announced was {upload.sha256[:64]}.",
            next_step="Upload it again and announce the hash of what was stored.",
        )


async def _store(piece: CutSegment, upload: AudioUploaded, blobs: BlobStore) -> SegmentCut:
    """Write a segment's audio and make the event that points at it."""
    key = f"{segments_prefix(upload)}{piece.index:06d}.flac"
    await blobs.put(key, piece.flac)
    return SegmentCut(
        tenant=upload.tenant,
        recording_id=upload.recording_id,
        revision=upload.revision,
        index=piece.index,
        start_ms=piece.start_ms,
        end_ms=piece.end_ms,
        uri=blobs.uri(key),
        sha256=piece.sha256,
        collection=upload.collection,
        language=upload.language,
        recorded_at=upload.recorded_at,
    )


def _total(end: CutEnd, delivery: Delivery[AudioUploaded]) -> Output:
    """The segmenter's last word: how many segments, how long, and what of the file did not decode."""
    detail = f"The file is damaged: {end.damage}. What decodes is kept." if end.damage else ""
    return progress(
        "segmenter",
        delivery,
        segments_total=end.segments,
        index=None,
        start_ms=0,
        end_ms=end.duration_ms,
        detail=detail,
    )
