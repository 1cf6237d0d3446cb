"""A recording in, who speaks when out. Where nobody can tell voices apart, it says so to those who wait for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from opentelemetry import trace

from earshot.diarizer.known import load, result_key, save
from earshot.kernel import ids, telemetry
from earshot.kernel.claims import check
from earshot.kernel.events import AudioUploaded, SpeakersFound
from earshot.kernel.leases import held
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports import BlobStore, Leases, Recordings
from earshot.kernel.ports.speakers import Diarized, Diarizer, SpeakerCount
from earshot.kernel.stage import Delivery, Output, emit, progress
from earshot.kernel.topics import AUDIO_SPEAKERS

MOST = 100
"""People in one recording that somebody may claim."""


@dataclass(frozen=True)
class Terms:
    """On what terms a recording is listened to.

    Attributes:
        max_bytes: of its file.
        owner: of the lease on it.
        lease_s: seconds after which the lease of a worker that died is free.
        count: how many speak, where the upload does not say.
    """

    max_bytes: int
    owner: str
    lease_s: float
    count: SpeakerCount


async def diarize(
    batch: Sequence[Delivery[AudioUploaded]], blobs: BlobStore, diarizer: Diarizer, leases: Leases, terms: Terms
) -> AsyncIterator[Output]:
    """Publish who speaks when in each recording; that it is found is said by the indexer, where it can be searched.

    The result is kept beside the recording, so that an attempt tried again, or delivered again, costs nothing. A lease
    on the audio and the model keeps two workers from listening at the same time.

    Raises:
        ForeignUri, BlobMissing, BlobMismatch: the claim check is not what it says.
        NotAudio, LimitExceeded, EngineRejected: the decoder's verdict, or the engine's.
        Unavailable, UnitCrashed: of the store, the decoder, or the engine.
        Transient: another worker is listening to the same.
    """
    for delivery in batch:
        upload = delivery.event
        key = blobs.key(upload.tenant, upload.uri)
        await check(upload, key, blobs, terms.max_bytes)
        count = speaker_count(upload, terms.count)
        place = result_key(upload, diarizer, count)
        async with held(leases, lease_name(upload, diarizer), terms.owner, ttl_s=terms.lease_s) as lease:
            found = await load(blobs, place) if place else None
            trace.get_current_span().set_attribute("earshot.cache_hit", int(found is not None))
            if found is None:
                found = await _listen(blobs, key, diarizer, count)
                lease.check()
                if place:
                    await save(blobs, place, found)
        yield emit(AUDIO_SPEAKERS, _event(upload, found, diarizer), delivery)


async def pass_over(
    batch: Sequence[Delivery[AudioUploaded]], recordings: Recordings, why: str
) -> AsyncIterator[Output]:
    """Let a job go on that waits for a diarizer which has been switched off since; the others never waited."""
    for delivery in batch:
        upload = delivery.event
        job = await recordings.job(upload.tenant, ids.job_id(upload.recording_id, upload.revision))
        if job is not None and any(count.stage == SPEAKER_STAGE for count in job.stages):
            yield progress(SPEAKER_STAGE, delivery, code="diarization_off", detail=f"Diarization is off. {why}")


def speaker_count(upload: AudioUploaded, otherwise: SpeakerCount) -> SpeakerCount:
    """How many speak: as the upload's metadata says, where that makes sense, else as the settings do."""
    said = [upload.metadata.get(name, "") for name in ("num_speakers", "min_speakers", "max_speakers")]
    if not any(said):
        return otherwise
    exactly, least, most = (int(text) if text.isdecimal() and len(text) <= 3 else 0 for text in said)
    possible = max(exactly, least, most) <= MOST and (not most or least <= most)
    return SpeakerCount(exactly, least, most) if possible else otherwise


def lease_name(upload: AudioUploaded, diarizer: Diarizer) -> str:
    """The lease on a tenant's audio and a model; what has no hash of its own goes by its recording."""
    audio = upload.sha256.lower() or f"{upload.recording_id}:{upload.revision}"
    about = json.dumps([audio[:80], diarizer.engine.digest, dict(diarizer.options)], sort_keys=True)
    return f"{SPEAKER_STAGE}:{upload.tenant}:{hashlib.sha256(about.encode()).hexdigest()}"


async def _listen(blobs: BlobStore, key: str, diarizer: Diarizer, count: SpeakerCount) -> Diarized:
    async with blobs.local(key) as path:
        with telemetry.span("diarize", engine=diarizer.engine.name):
            return await diarizer.diarize(path, count)


def _event(upload: AudioUploaded, found: Diarized, diarizer: Diarizer) -> SpeakersFound:
    return SpeakersFound(
        tenant=upload.tenant,
        recording_id=upload.recording_id,
        revision=upload.revision,
        turns=found.turns,
        engine=diarizer.engine,
        exclusive=found.exclusive,
    )
