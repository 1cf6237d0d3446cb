"""A new attempt at a recording: its job, and what is published to set it going."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import chunks
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.outbox import enqueue
from earshot.adapters.catalog.quotas import count_audio, refuse_one_more
from earshot.adapters.catalog.rows import quality_of, upload_of
from earshot.adapters.catalog.speakers import expect_speakers
from earshot.kernel import ids
from earshot.kernel.codec import Codec
from earshot.kernel.events import SegmentTranscribed, StageProgressed
from earshot.kernel.fairness import weight_ms
from earshot.kernel.ports.quotas import Limits
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, RECORDINGS_PROGRESS

_SEGMENTS = TypeAdapter(list[SegmentTranscribed])
_IDENTITY = {"tenant", "recording_id", "revision"}


def trace_id_of(trace: Mapping[str, str]) -> str:
    """The trace id of a W3C ``traceparent``; empty when there is none."""
    parts = trace.get("traceparent", "").split("-")
    return parts[1] if len(parts) >= 4 else ""


def insert_job(
    connection: sa.Connection,
    tenant: str,
    recording_id: str,
    revision: int,
    trace: Mapping[str, str],
    audio_ms: int | None = None,
) -> None:
    """The job of an attempt, pending; ``audio_ms``: what it counts for, where that is counted."""
    at = t.now()
    connection.execute(
        sa.insert(t.jobs).values(
            tenant=tenant,
            recording_id=recording_id,
            revision=revision,
            id=ids.job_id(recording_id, revision),
            state="pending",
            announced="",
            trace_id=trace_id_of(trace),
            version=1,
            audio_ms=audio_ms,
            created_at=at,
            updated_at=at,
        )
    )


def start(connection: sa.Connection, codec: Codec, limits: Limits, row: sa.Row[Any], trace: Mapping[str, str]) -> None:
    """Make the job of a recording's current revision and publish its audio in its turn, or its imported transcript.

    Raises:
        QuotaExceeded, LimitExceeded: the tenant may not begin it now; its row must be locked.
    """
    refuse_one_more(connection, limits, row.tenant)
    mine = sa.and_(t.imports.c.tenant == row.tenant, t.imports.c.recording_id == row.id)
    imported = connection.scalar(sa.select(t.imports.c.segments).where(mine))
    if imported is None:
        audio_ms = weight_ms(row.claimed_ms if row.duration_ms is None else row.duration_ms)
        count_audio(connection, limits, row.tenant, audio_ms)
        insert_job(connection, row.tenant, row.id, row.revision, trace, audio_ms)
        expect_speakers(connection, codec, row.tenant, row.id, row.revision, trace)
        enqueue(connection, codec, AUDIO_UPLOADED, [upload_of(row)], trace, turn=(row.priority, audio_ms))
        return
    publish(connection, codec, row, [(segment, None) for segment in _SEGMENTS.validate_json(imported)], trace)


def publish(
    connection: sa.Connection,
    codec: Codec,
    row: sa.Row[Any],
    said: Sequence[tuple[SegmentTranscribed, str | None]],
    trace: Mapping[str, str],
) -> None:
    """Make the job of a recording's current revision, and publish what is known to be said in it.

    Args:
        connection: of the transaction that decides it.
        codec: frames the bodies.
        row: the recording's.
        said: every segment, of any revision, with the key of its cached transcript.
        trace: the W3C trace headers.
    """
    insert_job(connection, row.tenant, row.id, row.revision, trace)
    about = {
        "tenant": row.tenant,
        "recording_id": row.id,
        "revision": row.revision,
        "collection": row.collection,
        "recorded_at": row.recorded_at,
    }
    known = [(segment.model_copy(update=about), cache_key) for segment, cache_key in said]
    segments = [segment for segment, _ in known]
    store_segments(connection, known)
    enqueue(connection, codec, AUDIO_TRANSCRIPTS, segments, trace)
    enqueue(connection, codec, RECORDINGS_PROGRESS, [_cut(row, segments)], trace)


def _cut(row: sa.Row[Any], segments: Sequence[SegmentTranscribed]) -> StageProgressed:
    """What the segmenter would have said of a recording that comes in segments already."""
    return StageProgressed(
        tenant=row.tenant,
        recording_id=row.id,
        revision=row.revision,
        stage="segmenter",
        index=None,
        state="done",
        segments_total=len(segments),
        start_ms=0,
        end_ms=max((segment.end_ms for segment in segments), default=0) if row.duration_ms is None else row.duration_ms,
        code="",
        detail="",
        quality=quality_of(row),
    )


def dump_segments(segments: Sequence[SegmentTranscribed]) -> str:
    """An imported transcript as it is kept, the source of every attempt at it."""
    return _SEGMENTS.dump_json(list(segments)).decode()


def content_of(segments: Sequence[SegmentTranscribed]) -> str:
    """What makes two imported transcripts the same one."""
    digest = hashlib.sha256()
    for segment in segments:
        digest.update(segment.model_dump_json(exclude=_IDENTITY).encode() + b"\n")
    return f"import:{digest.hexdigest()}"


def store_segments(connection: sa.Connection, segments: Sequence[tuple[SegmentTranscribed, str | None]]) -> None:
    """Upsert transcribed segments with the keys of their cached transcripts."""
    rows = {
        (event.tenant, event.recording_id, event.index, event.revision): {
            "tenant": event.tenant,
            "recording_id": event.recording_id,
            "segment": event.index,
            "revision": event.revision,
            "body": event.model_dump_json(),
            "cache_key": cache_key,
            "engine": event.engine.name,
            "degraded": event.engine.degraded,
        }
        for event, cache_key in segments
    }
    for some in chunks([rows[key] for key in sorted(rows)]):
        statement = insert(connection, t.transcript_segments).values(some)
        changed = {name: statement.excluded[name] for name in ("body", "cache_key", "engine", "degraded")}
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant", "recording_id", "segment", "revision"], set_=changed
            )
        )
