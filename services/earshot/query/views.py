"""What clients see of recordings and jobs."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from earshot.adapters.problems import Refused
from earshot.kernel.events import Quality
from earshot.kernel.ledger import SPEAKER_STAGE, JobState
from earshot.kernel.ports import Job, Recording, SpanRow

PREFIX = "/api/v1"
QUALITY = Quality(
    loudness_lufs=-24.63,
    peak_dbfs=-7.49,
    snr_db=18.8,
    speech_ratio=0.8778,
    bandwidth_hz=7500,
    sample_rate_hz=16_000,
    channels=1,
).model_dump()


class StageView(BaseModel):
    """How far a stage is."""

    done: int
    total: int | None = Field(description="Null until the whole recording is cut; 1 of the diarizer.")
    failed: int


class JobView(BaseModel):
    """One attempt to process a recording."""

    id: str
    recording_id: str
    revision: int
    state: JobState
    segments_total: int | None
    stages: dict[str, StageView]
    error: dict[str, Any] | None = Field(description="A problem document; `missing` lists the time ranges.")
    trace_id: str
    version: int = Field(description="Rises with every change; the id of its server-sent events.")
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]


class RecordingView(BaseModel):
    """One thing said, and its latest job."""

    id: str
    title: str
    collection: str
    language: str
    media_type: str
    size_bytes: int
    duration_ms: int | None
    recorded_at: datetime | None
    created_at: datetime
    metadata: dict[str, str]
    tags: list[str]
    quality: Quality | None = Field(
        description="How it sounds, measured while it was cut; null before, and for transcripts without audio.",
        examples=[QUALITY],
    )
    job: JobView | None
    links: dict[str, str]


class RecordingList(BaseModel):
    """A page of recordings, newest first."""

    items: list[RecordingView]
    next: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class SpanView(BaseModel):
    """One step of a recording's way."""

    span_id: str
    parent_id: str | None
    service: str
    name: str
    start_ms: float = Field(description="From the start of the trace.")
    duration_ms: float
    error: str
    attributes: dict[str, Any]


class TraceView(BaseModel):
    """The way of a recording from upload to search."""

    trace_id: str
    spans: list[SpanView]


def job_view(job: Job) -> JobView:
    """A job as clients see it."""
    path = f"{PREFIX}/jobs/{job.id}"
    return JobView(
        id=job.id,
        recording_id=job.recording_id,
        revision=job.revision,
        state=job.state,
        segments_total=job.segments_total,
        stages={
            count.stage: StageView(
                done=count.done, total=1 if count.stage == SPEAKER_STAGE else job.segments_total, failed=count.failed
            )
            for count in job.stages
        },
        error=_error(job.error, job.trace_id),
        trace_id=job.trace_id,
        version=job.version,
        created_at=job.created_at,
        updated_at=job.updated_at,
        links={
            "self": path,
            "events": f"{path}/events",
            "trace": f"{path}/trace",
            "recording": f"{PREFIX}/recordings/{job.recording_id}",
        },
    )


def _error(error: Mapping[str, Any] | None, trace_id: str) -> dict[str, Any] | None:
    if error is None:
        return None
    code = str(error.get("code", ""))
    return {
        "type": f"urn:earshot:problem:{code}",
        "status": 422,
        "trace_id": trace_id,
        "next_step": "POST …/retry tries again; what was understood stays searchable.",
        **error,
    }


def recording_view(recording: Recording, job: Job | None) -> RecordingView:
    """A recording as clients see it."""
    path = f"{PREFIX}/recordings/{recording.id}"
    links = {"self": path, "transcript": f"{path}/transcript", "revisions": f"{path}/revisions"}
    if recording.source_key:
        links["audio"] = f"{path}/audio"
    return RecordingView(
        id=recording.id,
        title=recording.title,
        collection=recording.collection,
        language=recording.language,
        media_type=recording.media_type,
        size_bytes=recording.size_bytes,
        duration_ms=recording.duration_ms,
        recorded_at=recording.recorded_at,
        created_at=recording.created_at,
        metadata=dict(recording.metadata),
        tags=list(recording.tags),
        quality=recording.quality,
        job=job_view(job) if job else None,
        links=links,
    )


def trace_view(trace_id: str, spans: list[SpanRow]) -> TraceView:
    """A trace as clients see it."""
    began = min((span.start_ns for span in spans), default=0)
    return TraceView(
        trace_id=trace_id,
        spans=[
            SpanView(
                span_id=span.span_id,
                parent_id=span.parent_id,
                service=span.service,
                name=span.name,
                start_ms=(span.start_ns - began) / 1e6,
                duration_ms=(span.end_ns - span.start_ns) / 1e6,
                error=span.error,
                attributes=dict(span.attributes),
            )
            for span in spans
        ],
    )


def cursor_of(recording: Recording) -> str:
    """An opaque cursor that points behind a recording."""
    return base64.urlsafe_b64encode(json.dumps([recording.created_at.isoformat(), recording.id]).encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Where a cursor points. Raises ``Refused`` (422) when it is none of ours."""
    try:
        created_at, recording_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not isinstance(recording_id, str) or not recording_id.isascii():
            raise ValueError(cursor)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise Refused(
            422, "invalid_cursor", "The cursor is none that this service gave.", next_step="Start without it."
        ) from error
    return moment, recording_id
