"""A recording in, its segments out, each published as soon as it is cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from earshot.kernel.claims import check, segment_key, segments_folder
from earshot.kernel.events import AudioUploaded, Event, Quality, SegmentCut
from earshot.kernel.leases import held
from earshot.kernel.ports import (
    BlobStore,
    Collections,
    CollectionSettings,
    CutEnd,
    CutSegment,
    Decoder,
    Leases,
    MosPredictor,
)
from earshot.kernel.stage import Delivery, Output, emit, progress
from earshot.kernel.topics import lane_of
from earshot.segmenter.opinion import Opinion


@dataclass(frozen=True)
class Terms:
    """On what terms a recording is cut.

    Attributes:
        max_bytes: of its file.
        owner: of the lease on it.
        lease_s: seconds after which the lease of a worker that died is free.
    """

    max_bytes: int
    owner: str
    lease_s: float


async def segment(
    batch: Sequence[Delivery[AudioUploaded]],
    blobs: BlobStore,
    decoder: Decoder,
    leases: Leases,
    terms: Terms,
    collections: Collections,
    mos: MosPredictor | None = None,
) -> AsyncIterator[Output]:
    """Cut each recording at pauses and publish its segments on the lane of its priority, then how many there are.

    Segments beyond its first minutes take the next lower lane, so that a long recording keeps nobody waiting.

    A recording without speech has none. Doing it again makes the same segments with the same names; a lease keeps
    two workers from doing it at the same time, as when a partition moves while its recording is being cut.

    Raises:
        ForeignUri, BlobMissing, BlobMismatch: the claim check is not what it says.
        NotAudio, LimitExceeded: the decoder's verdict.
        Unavailable, UnitCrashed: of the store, or of the decoder.
        Transient: another worker is cutting the recording, or took it over.
    """
    for delivery in batch:
        upload = delivery.event
        key = blobs.key(upload.tenant, upload.uri)
        await check(upload, key, blobs, terms.max_bytes)
        wishes = await collections.collection_settings(upload.tenant, upload.collection)
        async with (
            held(leases, lease_name(upload), terms.owner, ttl_s=terms.lease_s) as lease,
            blobs.local(key) as path,
            aclosing(cast("AsyncGenerator[CutSegment | CutEnd, None]", decoder.cut(path))) as pieces,
        ):
            opinion = Opinion(mos)
            async for piece in pieces:
                lease.check()
                if isinstance(piece, CutEnd):
                    yield _total(piece, opinion.add(piece), delivery)
                else:
                    await opinion.hear(piece)
                    lane = lane_of(upload.priority, piece.start_ms)
                    yield emit(lane, await _store(piece, upload, wishes, blobs), delivery)


def lease_name(event: Event) -> str:
    """The lease on one attempt at a recording."""
    return f"segmenter:{event.tenant}:{event.recording_id}:{event.revision}"


def segments_prefix(event: Event) -> str:
    """Where the segments of one attempt at a recording lie."""
    return segments_folder(event.tenant, event.recording_id, event.revision)


async def _store(piece: CutSegment, upload: AudioUploaded, wishes: CollectionSettings, blobs: BlobStore) -> SegmentCut:
    """Write a segment's audio and make the event that points at it, with what its collection wishes."""
    key = segment_key(upload.tenant, upload.recording_id, upload.revision, piece.index)
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
        task=upload.task or wishes.task or "transcribe",
        hotwords=wishes.hotwords or "",
        prompt=wishes.prompt or "",
    )


def _total(end: CutEnd, quality: Quality | None, delivery: Delivery[AudioUploaded]) -> Output:
    """The segmenter's last word: how many segments, how long, how it sounds, what of the file did not decode."""
    detail = f"The file is damaged: {end.damage}. What decodes is kept." if end.damage else ""
    return progress(
        "segmenter",
        delivery,
        segments_total=end.segments,
        index=None,
        start_ms=0,
        end_ms=end.duration_ms,
        detail=detail,
        quality=quality,
    )
