"""The catalog: recordings, jobs, transcripts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from earshot.kernel.events import AudioUploaded, Quality, SegmentTranscribed
from earshot.kernel.ledger import JobState

RecordingState = Literal["live", "cancelled", "erased"]


@dataclass(frozen=True)
class Recording:
    """A row of the catalog. ``source_key`` is the blob's key, ``None`` for a transcript without audio."""

    id: str
    tenant: str
    collection: str
    title: str
    state: RecordingState
    revision: int
    visible_from: int
    source_key: str | None
    sha256: str
    media_type: str
    size_bytes: int
    language: str
    duration_ms: int | None
    recorded_at: datetime | None
    created_at: datetime
    metadata: Mapping[str, str]
    quality: Quality | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityBounds:
    """Within what the quality of a recording must lie; ``None`` does not restrict. What was not measured is outside."""

    min_loudness_lufs: float | None = None
    max_loudness_lufs: float | None = None
    max_clipped_ratio: float | None = None
    min_snr_db: float | None = None
    min_speech_ratio: float | None = None
    min_bandwidth_hz: float | None = None
    min_mos: float | None = None


@dataclass(frozen=True)
class StageCount:
    """How far a stage is in one job."""

    stage: str
    done: int
    failed: int


@dataclass(frozen=True)
class Job:
    """One attempt, as the ledger projects it.

    Attributes:
        version: rises with every change; the id of its server-sent events.
        error: ``{"code", "title", "detail", "missing": [{"start_ms", "end_ms"}]}`` when failed.
    """

    id: str
    recording_id: str
    tenant: str
    revision: int
    state: JobState
    segments_total: int | None
    stages: tuple[StageCount, ...]
    error: Mapping[str, Any] | None
    trace_id: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class NewRecording:
    """What the door knows of a recording it accepts.

    ``segments`` come with an imported transcript; ``claimed_ms`` is how long its container says it is.
    """

    upload: AudioUploaded
    source_key: str | None
    trace: Mapping[str, str]
    segments: tuple[SegmentTranscribed, ...] | None = None
    idempotency_key: str | None = None
    request_hash: str = ""
    claimed_ms: int | None = None


@dataclass(frozen=True)
class Accepted:
    """What became of it: a new job, or the one that was there (``created`` is ``False``)."""

    job: Job
    created: bool


class Recordings(Protocol):
    """The part of the catalog that ingest and query work on. Raises ``Unavailable("catalog", …)``.

    Every method is scoped to one tenant and never shows another's rows.
    """

    async def accept(self, new: NewRecording) -> Accepted:
        """In one transaction: recording, job, idempotency key, imported transcript, outbox rows.

        The same audio sent again by the tenant to the collection while the first lives and has not failed is the
        first's job; after failure or cancellation a new attempt of the same recording; after erasure a new recording.

        Raises:
            QuotaExceeded, LimitExceeded: the tenant may not send it now, or at all.
            Permanent: code ``idempotency_key_reused`` when the key was used with another ``request_hash``;
                ``tenant_being_erased`` while the tenant is.
        """

    async def adopt(
        self, upload: AudioUploaded, source_key: str, trace: Mapping[str, str], said_at: datetime | None = None
    ) -> None:
        """A foreign producer's upload becomes a recording with a job. Doing it again changes nothing.

        What was said before its tenant was erased, or while it is, becomes an erased one.
        """

    async def recording(self, tenant: str, recording_id: str) -> Recording | None:
        """One recording, erased ones excluded."""

    async def recordings(
        self,
        tenant: str,
        *,
        collection: str | None = None,
        among: Collection[str] | None = None,
        tags: Collection[str] = (),
        quality: QualityBounds | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[Recording]:
        """Newest first, those with all of the tags; ``before`` is the (created_at, id) of the last one seen."""

    async def job(self, tenant: str, either_id: str) -> Job | None:
        """A job by its id, or the latest job of a recording by the recording's id."""

    async def retry(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """A new attempt (revision + 1) of a failed or cancelled job; its outbox row in the same transaction.

        Raises ``UnknownRecording``; ``Permanent`` (``not_retryable``, status 409) in any other state;
        ``QuotaExceeded``.
        """

    async def cancel(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """Cancel a pending or running job, with its ``recordings.erased`` row (reason cancelled).

        Raises ``UnknownRecording``; ``Permanent`` (``not_cancellable``, status 409) when it has ended.
        """

    async def erase(self, tenant: str, recording_id: str, trace: Mapping[str, str]) -> None:
        """Mark erased, forget everything personal in the row, with its ``recordings.erased`` row.

        Raises ``UnknownRecording`` when there is none (or it is erased already).
        """


@dataclass(frozen=True)
class StoredSegment:
    """A transcribed segment in the catalog, with the key of its cached transcript."""

    event: SegmentTranscribed
    cache_key: str | None


class Transcripts(Protocol):
    """The transcripts of recordings, readable as soon as a segment is transcribed."""

    async def store(self, segments: Sequence[StoredSegment]) -> None:
        """Upsert by (recording, index, revision)."""

    async def highest(self, tenant: str, recording_id: str, index: int) -> SegmentTranscribed | None:
        """The stored segment with the highest revision that is not cancelled or erased."""

    async def transcript(self, tenant: str, recording_id: str) -> list[SegmentTranscribed]:
        """For every index the visible segment with the highest revision, in order of index."""

    async def forget(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> None:
        """Delete the stored segments: of one revision, of those up to one, or all."""

    async def stored(
        self, tenant: str, recording_id: str, *, revision: int | None = None, up_to: int | None = None
    ) -> list[tuple[int, int, str | None]]:
        """(revision, index, cache key) of the stored segments, for the eraser."""
