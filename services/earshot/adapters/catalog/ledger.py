"""The ledger's lines, and the state of a job as their sum."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.base import Part, chunks, lock_recordings
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.outbox import enqueue
from earshot.adapters.catalog.quotas import correct
from earshot.adapters.catalog.rows import DONE, FAILED, lines_of
from earshot.kernel.codec import Codec
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.events import ProgressState, RecordingCompleted, RecordingErased, StageProgressed
from earshot.kernel.ledger import FINAL_STAGE, SPEAKER_STAGE, WHOLE, JobState, Tally, settle
from earshot.kernel.telemetry import trace_headers
from earshot.kernel.topics import RECORDINGS_COMPLETED, RECORDINGS_ERASED

RANK: Mapping[ProgressState, int] = {"pending": 0, "failed": FAILED, "done": DONE}
STATES: Mapping[int, ProgressState] = {rank: state for state, rank in RANK.items()}
ENDED = ("completed", "failed", "cancelled")
MISSING_SHOWN = 100
"""Missing stretches a failed job names; the transcript marks every one."""

JobKey = tuple[str, str, int]
"""Tenant, recording id, revision."""


class LedgerPart(Part):
    """The projection of ``recordings.progress``."""

    async def record(self, events: Sequence[StageProgressed]) -> None:
        """Raise the lines, settle each job, and write ``recordings.completed`` into the outbox when one ends."""
        await self._db.write(lambda connection: self._record(connection, events))

    def _record(self, connection: sa.Connection, events: Sequence[StageProgressed]) -> None:
        known = lock_recordings(connection, {(event.tenant, event.recording_id) for event in events})
        live = [event for event in events if _alive(known.get((event.tenant, event.recording_id)), event)]
        changed = _raise_lines(connection, live) | _note_totals(connection, live)
        for key in sorted(changed):
            _settle(connection, self._codec, key)


def _alive(recording: sa.Row[Any] | None, event: StageProgressed) -> bool:
    if recording is None or (event.revision > recording.revision and recording.state != "erased"):
        raise UnknownRecording(
            f"The catalog knows no revision {event.revision} of recording {event.recording_id}.",
            next_step="A progress event must follow the upload it is about.",
        )
    return bool(recording.state != "erased")


def _raise_lines(connection: sa.Connection, events: Iterable[StageProgressed]) -> set[JobKey]:
    """Insert the lines or raise them; return the jobs of those that changed."""
    lines: dict[tuple[str, str, int, int, str], dict[str, Any]] = {}
    for event in events:
        line = _line(event)
        key = (event.tenant, event.recording_id, event.revision, line["segment"], event.stage)
        if key not in lines or line["state"] > lines[key]["state"]:
            lines[key] = line
    changed: set[JobKey] = set()
    for some in chunks([lines[key] for key in sorted(lines)]):
        statement = insert(connection, t.progress).values(some)
        raised = {name: statement.excluded[name] for name in ("state", "start_ms", "end_ms", "code", "detail")}
        upsert = statement.on_conflict_do_update(
            index_elements=list(t.progress.primary_key.columns),
            set_=raised,
            where=statement.excluded.state > t.progress.c.state,
        ).returning(t.progress.c.tenant, t.progress.c.recording_id, t.progress.c.revision)
        changed |= {(row.tenant, row.recording_id, row.revision) for row in connection.execute(upsert)}
    return changed


def _line(event: StageProgressed) -> dict[str, Any]:
    return {
        "tenant": event.tenant,
        "recording_id": event.recording_id,
        "revision": event.revision,
        "segment": WHOLE if event.index is None else event.index,
        "stage": event.stage,
        "state": RANK[event.state],
        "start_ms": event.start_ms,
        "end_ms": event.end_ms,
        "code": event.code,
        "detail": event.detail,
    }


def _note_totals(connection: sa.Connection, events: Iterable[StageProgressed]) -> set[JobKey]:
    """Keep what the stage that cuts says of the whole; return the jobs for which it was news."""
    changed: set[JobKey] = set()
    for event in events:
        if event.segments_total is None:
            continue
        job = t.jobs.c
        values = {"segments_total": event.segments_total, "duration_ms": event.end_ms or 0}
        news = sa.update(t.jobs).where(
            _job(event.tenant, event.recording_id, event.revision),
            sa.or_(job.segments_total.is_(None), job.segments_total < event.segments_total),
        )
        told = connection.execute(news.values(values).returning(*t.jobs.c)).first()
        if told is not None:
            correct(connection, told, event.end_ms or 0)
            changed.add((event.tenant, event.recording_id, event.revision))
            recording = t.recordings.c
            latest = sa.and_(recording.tenant == event.tenant, recording.id == event.recording_id)
            update = sa.update(t.recordings).where(latest, recording.revision == event.revision)
            quality = event.quality.model_dump() if event.quality else None
            connection.execute(update.values(duration_ms=event.end_ms or 0, quality=quality))
    return changed


def _settle(connection: sa.Connection, codec: Codec, key: JobKey) -> None:
    """Bring a job to the state its lines add up to, and announce a final one once."""
    job = connection.execute(sa.select(t.jobs).where(_job(*key))).one()
    counts = tally_of(connection, key, job.segments_total)
    state = "cancelled" if job.state == "cancelled" else settle(counts)
    error = _error(connection, key, counts) if state == "failed" else None
    announced = job.announced.split()
    if state in ("completed", "failed") and state not in announced:
        announced.append(state)
        _announce(connection, codec, key, state, counts, job.duration_ms or 0)
    values = {
        "state": state,
        "error": None if error is None else json.dumps(error),
        "announced": " ".join(announced),
        "version": t.jobs.c.version + 1,
        "updated_at": t.now(),
    }
    if state in ENDED:
        values["in_flight_ms"] = None
    connection.execute(sa.update(t.jobs).where(_job(*key)).values(values))


def tally_of(connection: sa.Connection, key: JobKey, segments_total: int | None) -> Tally:
    """``kernel.ledger.tally``, added up by the database."""
    line = t.progress.c
    speakers = sa.and_(lines_of(*key), line.stage == SPEAKER_STAGE)
    mine = sa.and_(lines_of(*key), line.stage != SPEAKER_STAGE)
    whole = line.segment == WHOLE
    searchable = sa.select(line.segment).where(mine, line.stage == FINAL_STAGE, line.state == DONE, sa.not_(whole))
    gave_up = sa.and_(mine, line.state == FAILED)
    row = connection.execute(
        sa.select(
            sa.select(sa.func.count()).select_from(searchable.subquery()).scalar_subquery().label("searchable"),
            sa.select(sa.func.count(line.segment.distinct()))
            .where(gave_up, sa.not_(whole), line.segment.not_in(searchable))
            .scalar_subquery()
            .label("failed"),
            sa.exists().where(gave_up, whole).label("whole_failed"),
            sa.exists().where(mine).label("started"),
            sa.select(sa.func.max(line.state)).where(speakers).scalar_subquery().label("speakers"),
        )
    ).one()
    return Tally(
        segments_total,
        row.searchable,
        row.failed,
        bool(row.whole_failed),
        bool(row.started or row.speakers),
        None if row.speakers is None else STATES[row.speakers],
    )


def _announce(
    connection: sa.Connection, codec: Codec, key: JobKey, state: JobState, counts: Tally, duration_ms: int
) -> None:
    tenant, recording_id, revision = key
    about: dict[str, Any] = {"tenant": tenant, "recording_id": recording_id}
    completed = RecordingCompleted(
        **about,
        revision=revision,
        state="completed" if state == "completed" else "failed",
        segments=counts.segments_total or 0,
        failed_segments=counts.failed,
        duration_ms=duration_ms,
        transcript_uri=f"/api/v1/recordings/{recording_id}/transcript",
    )
    trace = trace_headers()
    enqueue(connection, codec, RECORDINGS_COMPLETED, [completed], trace, said=f"recording {state}")
    if state != "completed":
        return
    recording = t.recordings.c
    mine = sa.and_(recording.tenant == tenant, recording.id == recording_id, recording.visible_from < revision)
    connection.execute(sa.update(t.recordings).where(mine).values(visible_from=revision))
    if revision > 1:
        superseded = RecordingErased(**about, revision=revision - 1, reason="superseded")
        enqueue(connection, codec, RECORDINGS_ERASED, [superseded], trace, said="recording superseded")


def _error(connection: sa.Connection, key: JobKey, counts: Tally) -> Mapping[str, Any]:
    """Why a job failed, and which stretches of the recording are missing."""
    line = t.progress.c
    searchable = sa.select(line.segment).where(
        lines_of(*key), line.stage == FINAL_STAGE, line.state == DONE, line.segment != WHOLE
    )
    failed = sa.and_(lines_of(*key), line.state == FAILED, line.segment.not_in(searchable))
    query = sa.select(line.segment, line.stage, line.code, line.detail).where(failed)
    speakers_last = sa.case((line.stage == SPEAKER_STAGE, 1), else_=0)
    first = connection.execute(query.order_by(speakers_last, line.segment, line.stage).limit(1)).one()
    return {
        "code": first.code or "failed",
        "title": _title(counts),
        "detail": first.detail or f"The {first.stage} gave up.",
        "missing": _missing(connection, key, failed),
    }


def _title(counts: Tally) -> str:
    if counts.whole_failed:
        return "The recording could not be processed"
    if counts.failed:
        return f"{counts.failed} of {counts.segments_total} segments could not be processed"
    return "Who spoke could not be found out; all that was said is there"


def _missing(connection: sa.Connection, key: JobKey, failed: sa.ColumnElement[bool]) -> list[dict[str, int]]:
    """The stretches of failed segments; another stage's line says where one lies when the failed line does not."""
    line = t.progress.c
    lost = sa.select(line.segment).where(failed, line.segment != WHOLE)
    query = (
        sa.select(sa.func.min(line.start_ms).label("start_ms"), sa.func.max(line.end_ms).label("end_ms"))
        .where(lines_of(*key), line.segment.in_(lost))
        .group_by(line.segment)
        .order_by(line.segment)
        .limit(MISSING_SHOWN)
    )
    rows = connection.execute(query)
    return [
        {"start_ms": row.start_ms, "end_ms": row.end_ms}
        for row in rows
        if row.start_ms is not None and row.end_ms is not None
    ]


def _job(tenant: str, recording_id: str, revision: int) -> sa.ColumnElement[bool]:
    job = t.jobs.c
    return sa.and_(job.tenant == tenant, job.recording_id == recording_id, job.revision == revision)
