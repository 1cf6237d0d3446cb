"""Accept a recording: store its bytes, find out what they are, write it down, and only then say yes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from earshot.ingest.details import Details
from earshot.ingest.imports import Transcript, read_transcript, segments_of
from earshot.kernel import ids, telemetry
from earshot.kernel.errors import EarshotError, NotAudio, Permanent
from earshot.kernel.events import AudioUploaded
from earshot.kernel.ports import Accepted, BlobStore, Decoder, NewRecording, Probe, Recordings

_MEDIA_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "mp4": "audio/mp4",
    "webm": "audio/webm",
}
"""Media type by what the decoder calls the container; never by what the client says."""


@dataclass(frozen=True)
class Offer:
    """What a client sends. ``audio`` streams the bytes; with a transcript they are kept for playback only."""

    tenant: str
    details: Details
    audio: AsyncIterator[bytes] | None = None
    transcript: bytes | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class Stored:
    """The bytes of a recording in the blob store."""

    key: str
    sha256: str
    size_bytes: int


async def accept(offer: Offer, blobs: BlobStore, decoder: Decoder, recordings: Recordings) -> Accepted:
    """Take an offer in. When this returns, nothing of it can be lost.

    Raises:
        Permanent: it cannot be processed as it is; nothing of it is kept.
        Transient: a dependency does not answer; the same request may be sent again.
    """
    transcript = read_transcript(offer.transcript) if offer.transcript is not None else None
    if transcript is None and offer.audio is None:
        raise Permanent("Neither `file` nor `transcript` was sent.", code="nothing_sent", next_step="Send one of them.")
    recording_id = ids.new_recording_id()
    stored = await _store(offer, recording_id, blobs)
    try:
        probe = await _probe(stored, blobs, decoder)
        new = _new_recording(offer, recording_id, stored, probe, transcript, blobs)
    except EarshotError:  # the catalog has not heard of it yet
        await _drop(stored, blobs)
        raise
    try:
        accepted = await recordings.accept(new)
    except Permanent:  # anything else may have been written down after all: the orphan collector decides
        await _drop(stored, blobs)
        raise
    if stored is not None and not await _is_used(accepted, recording_id, stored, recordings, offer.tenant):
        await _drop(stored, blobs)
    return accepted


async def _store(offer: Offer, recording_id: str, blobs: BlobStore) -> Stored | None:
    """Stream the audio into the blob store, counting and hashing on the way."""
    if offer.audio is None:
        return None
    audio, digest, size = offer.audio, hashlib.sha256(), 0

    async def hashed() -> AsyncIterator[bytes]:
        nonlocal size
        async for chunk in audio:
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    key = f"{offer.tenant}/recordings/{recording_id}/source"
    await blobs.put(key, hashed())
    return Stored(key, digest.hexdigest(), size)


async def _probe(stored: Stored | None, blobs: BlobStore, decoder: Decoder) -> Probe | None:
    if stored is None:
        return None
    if not stored.size_bytes:
        raise NotAudio("The file is empty.", next_step="Send a recording.")
    async with blobs.local(stored.key) as path:
        return await decoder.probe(path)


def _new_recording(
    offer: Offer,
    recording_id: str,
    stored: Stored | None,
    probe: Probe | None,
    transcript: Transcript | None,
    blobs: BlobStore,
) -> NewRecording:
    details = offer.details
    language = details.language or (transcript.language if transcript else "")
    upload = AudioUploaded(
        tenant=offer.tenant,
        recording_id=recording_id,
        revision=1,
        uri=blobs.uri(stored.key) if stored else "",
        sha256=stored.sha256 if stored else hashlib.sha256(offer.transcript or b"").hexdigest(),
        size_bytes=stored.size_bytes if stored else 0,
        media_type=_media_type(probe),
        title=details.title,
        collection=details.collection,
        language=language,
        priority=details.priority,
        task=details.task,
        recorded_at=details.recorded_at,
        metadata=details.metadata,
    )
    common: dict[str, object] = {
        "tenant": offer.tenant,
        "recording_id": recording_id,
        "language": language,
        "collection": details.collection,
        "recorded_at": details.recorded_at,
    }
    return NewRecording(
        upload=upload,
        source_key=stored.key if stored else None,
        trace=telemetry.trace_headers(),
        segments=segments_of(transcript, common) if transcript else None,
        idempotency_key=offer.idempotency_key,
        request_hash=_request_hash(offer, stored),
        claimed_ms=probe.duration_ms if probe else None,
    )


def _media_type(probe: Probe | None) -> str:
    names = probe.container.lower().split(",") if probe else []
    return next((_MEDIA_TYPES[name] for name in names if name in _MEDIA_TYPES), "")


def _request_hash(offer: Offer, stored: Stored | None) -> str:
    """What makes two requests the same: the fields and the bytes."""
    transcript = hashlib.sha256(offer.transcript).hexdigest() if offer.transcript is not None else ""
    parts = (offer.details.model_dump_json(), stored.sha256 if stored else "", transcript)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


async def _is_used(accepted: Accepted, recording_id: str, stored: Stored, recordings: Recordings, tenant: str) -> bool:
    """Whether the catalog refers to the bytes just written: not when the same audio was there already."""
    if accepted.job.recording_id == recording_id:
        return True
    recording = await recordings.recording(tenant, accepted.job.recording_id)
    return recording is not None and recording.source_key == stored.key


async def _drop(stored: Stored | None, blobs: BlobStore) -> None:
    if stored is not None:
        await blobs.delete([stored.key])
