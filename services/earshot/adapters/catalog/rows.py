"""Rows as the kernel's values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.kernel.events import AudioUploaded, Quality
from earshot.kernel.ledger import WHOLE
from earshot.kernel.ports import Job, Recording, StageCount

FAILED, DONE = 1, 2
"""Ranks of a ledger line's state, as they are stored."""
FLOW = ("segmenter", "transcriber", "diarizer", "embedder", "indexer")
"""The order in which a job shows its stages; others follow by name."""


def recording_of(row: sa.Row[Any]) -> Recording:
    """A row of ``recordings``."""
    return Recording(
        id=row.id,
        tenant=row.tenant,
        collection=row.collection,
        title=row.title,
        state=row.state,
        revision=row.revision,
        visible_from=row.visible_from,
        source_key=row.source_key,
        sha256=row.sha256,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        language=row.language,
        duration_ms=row.duration_ms,
        recorded_at=row.recorded_at,
        created_at=row.created_at,
        metadata=json.loads(row.metadata),
        quality=quality_of(row),
        tags=tags_of(row),
    )


def quality_of(row: sa.Row[Any]) -> Quality | None:
    """How a recording sounds, from its row."""
    return Quality(**row.quality) if row.quality else None


def tags_of(row: sa.Row[Any]) -> tuple[str, ...]:
    """The tags of a recording, from its row."""
    return tuple(tag for tag in str(row.tags).split("\n") if tag)


def lines_of_tags(tags: Iterable[str]) -> str:
    """Tags as they are kept: in order, each once, between line ends, so that one is found as a whole line."""
    lines = sorted(set(tags))
    return "".join(f"\n{tag}" for tag in lines) + "\n" if lines else ""


def upload_of(row: sa.Row[Any]) -> AudioUploaded:
    """The event that asks to process a recording, from its row."""
    return AudioUploaded(
        tenant=row.tenant,
        recording_id=row.id,
        revision=row.revision,
        uri=row.uri,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        media_type=row.media_type,
        title=row.title,
        collection=row.collection,
        language=row.language,
        priority=row.priority,
        task=row.task,
        recorded_at=row.recorded_at,
        metadata=json.loads(row.metadata),
    )


def job_of(connection: sa.Connection, row: sa.Row[Any]) -> Job:
    """A row of ``jobs``, with the counts of its stages."""
    return Job(
        id=row.id,
        recording_id=row.recording_id,
        tenant=row.tenant,
        revision=row.revision,
        state=row.state,
        segments_total=row.segments_total,
        stages=stage_counts(connection, row.tenant, row.recording_id, row.revision),
        error=json.loads(row.error) if row.error else None,
        trace_id=row.trace_id,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def stage_counts(connection: sa.Connection, tenant: str, recording_id: str, revision: int) -> tuple[StageCount, ...]:
    """How far each stage is: segments done (or the whole, for a stage that works on nothing smaller) and failures."""
    whole, state = t.progress.c.segment == WHOLE, t.progress.c.state
    query = (
        sa.select(
            t.progress.c.stage,
            _count(sa.and_(state == DONE, sa.not_(whole))).label("done"),
            _count(sa.and_(state == DONE, whole)).label("whole_done"),
            _count(state == FAILED).label("failed"),
            _count(sa.not_(whole)).label("segments"),
        )
        .where(lines_of(tenant, recording_id, revision))
        .group_by(t.progress.c.stage)
    )
    counts = [
        StageCount(row.stage, row.done if row.segments else row.whole_done, row.failed)
        for row in connection.execute(query)
    ]
    return tuple(sorted(counts, key=_place))


def lines_of(tenant: str, recording_id: str, revision: int) -> sa.ColumnElement[bool]:
    """The ledger's lines of one job."""
    line = t.progress.c
    return sa.and_(line.tenant == tenant, line.recording_id == recording_id, line.revision == revision)


def find_job(connection: sa.Connection, tenant: str, either_id: str) -> sa.Row[Any] | None:
    """A job by its id, or the latest job of a recording by the recording's id; jobs of erased ones excluded."""
    job = t.jobs.c
    recording = t.recordings.c
    query = (
        sa.select(t.jobs)
        .join(t.recordings, sa.and_(recording.tenant == job.tenant, recording.id == job.recording_id))
        .where(job.tenant == tenant, sa.or_(job.id == either_id, job.recording_id == either_id))
        .where(recording.state != "erased")
        .order_by(job.revision.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def cancelled_revisions(connection: sa.Connection, tenant: str, recording_id: str) -> set[int]:
    """Which attempts of a recording were cancelled."""
    job = t.jobs.c
    mine = sa.and_(job.tenant == tenant, job.recording_id == recording_id, job.state == "cancelled")
    return set(connection.scalars(sa.select(job.revision).where(mine)))


def _count(condition: sa.ColumnElement[bool]) -> sa.Function[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _place(count: StageCount) -> tuple[int, str]:
    return (FLOW.index(count.stage) if count.stage in FLOW else len(FLOW), count.stage)
