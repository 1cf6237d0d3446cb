"""Recordings and their jobs, as ingest and query work on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.attempt_rows import content_of, dump_segments, insert_job
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.engine import insert
from earshot.adapters.catalog.forget import erase_recording
from earshot.adapters.catalog.leaving import left_with, lock_tenant, refuse_if_leaving
from earshot.adapters.catalog.outbox import enqueue, withdraw
from earshot.adapters.catalog.quotas import refuse_to_keep
from earshot.adapters.catalog.revision_rows import resume
from earshot.adapters.catalog.rows import find_job, job_of, lines_of_tags, recording_of
from earshot.adapters.catalog.speakers import expect_speakers
from earshot.kernel import ids
from earshot.kernel.errors import BlobMismatch, BlobMissing, Permanent, UnknownRecording
from earshot.kernel.events import AudioUploaded, RecordingErased
from earshot.kernel.ports import Accepted, Job, NewRecording, QualityBounds, Recording
from earshot.kernel.topics import RECORDINGS_ERASED

ENDED_BADLY = ("failed", "cancelled")
"""Jobs that may be tried again."""
UNDER_WAY = ("pending", "running")
"""Jobs that may be cancelled."""


class RecordingsPart(Part):
    """Accepting, reading, retrying, cancelling, erasing. Scoped to one tenant each time."""

    async def accept(self, new: NewRecording) -> Accepted:
        """In one transaction: recording, job, idempotency key, imported transcript, outbox rows."""
        return await self._db.write(lambda connection: self._accept(connection, new))

    def _accept(self, connection: sa.Connection, new: NewRecording) -> Accepted:
        upload = new.upload
        refuse_if_leaving(_know_tenant(connection, upload.tenant))
        _know_collection(connection, upload.tenant, upload.collection)
        if new.idempotency_key:
            known = _answered(connection, upload.tenant, new.idempotency_key, new.request_hash)
            if known is not None:
                return Accepted(known, created=False)
        accepted = self._same_or_new(connection, new)
        if new.idempotency_key:
            _remember(connection, new, accepted.job)
        return accepted

    def _same_or_new(self, connection: sa.Connection, new: NewRecording) -> Accepted:
        same_as = content_of(new.segments) if new.segments is not None else new.upload.sha256
        row = _same(connection, new.upload, same_as)
        if row is not None and _source_is_bad(connection, row):
            _set_recording(connection, row.tenant, row.id, same_as=None)
            row = None
        if row is None:
            upload = new.upload.model_copy(update={"revision": 1})
            refuse_to_keep(connection, self._limits, upload.tenant, upload.size_bytes)
            row = _insert_recording(connection, upload, new.source_key, same_as, new.claimed_ms)
            if new.segments is not None:
                values = {"tenant": row.tenant, "recording_id": row.id, "segments": dump_segments(new.segments)}
                connection.execute(sa.insert(t.imports).values(values))
        else:
            job = _must_find(connection, row.tenant, row.id)
            if job.state not in ENDED_BADLY:
                return Accepted(job_of(connection, job), created=False)
            row = _next_revision(connection, row, **_described(new.upload))
        resume(connection, self._codec, self._limits, row, new.trace)
        return Accepted(job_of(connection, _must_find(connection, row.tenant, row.id)), created=True)

    async def adopt(
        self, upload: AudioUploaded, source_key: str, trace: Mapping[str, str], said_at: datetime | None = None
    ) -> None:
        """A foreign producer's upload becomes a recording with a job. Doing it again changes nothing.

        What was said before its tenant was erased, or while it is, becomes an erased one.

        Raises:
            Permanent: code ``bad_recording_id``: not a UUID as it is usually written, or another tenant's.
        """
        if not ids.is_canonical(upload.recording_id):
            raise Permanent("The recording id is not a UUID in lower case with hyphens.", code="bad_recording_id")

        def work(connection: sa.Connection) -> None:
            tenant = _know_tenant(connection, upload.tenant)
            if _find(connection, upload.tenant, upload.recording_id) is None:
                _refuse_if_anothers(connection, upload)
                # its hash is a claim not yet checked, so it never stands in for an upload at the door
                row = _insert_recording(connection, upload, source_key, same_as="")
                insert_job(connection, row.tenant, row.id, row.revision, trace)
                if left_with(tenant, said_at):
                    erase_recording(connection, self._codec, row, trace)
                else:
                    _know_collection(connection, upload.tenant, upload.collection)
                    expect_speakers(connection, self._codec, row.tenant, row.id, row.revision, trace)

        await self._db.write(work)

    async def recording(self, tenant: str, recording_id: str) -> Recording | None:
        """One recording, erased ones excluded."""
        row = await self._db.read(lambda connection: _find(connection, tenant, recording_id))
        return None if row is None or row.state == "erased" else recording_of(row)

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
        c = t.recordings.c
        query = sa.select(t.recordings).where(c.tenant == tenant, c.state != "erased")
        if collection is not None:
            query = query.where(c.collection == collection)
        if among is not None:
            query = query.where(c.collection.in_(among))
        for tag in tags:
            # not LIKE, which ignores case on SQLite
            query = query.where(sa.func.replace(c.tags, lines_of_tags([tag]), "") != c.tags)
        if quality is not None:
            query = query.where(*_within(quality))
        if before is not None:
            at, last = before
            query = query.where(sa.or_(c.created_at < at, sa.and_(c.created_at == at, c.id < last)))
        query = query.order_by(c.created_at.desc(), c.id.desc()).limit(limit)
        return await self._db.read(lambda connection: [recording_of(row) for row in connection.execute(query)])

    async def job(self, tenant: str, either_id: str) -> Job | None:
        """A job by its id, or the latest job of a recording by the recording's id."""

        def work(connection: sa.Connection) -> Job | None:
            row = find_job(connection, tenant, either_id)
            return None if row is None else job_of(connection, row)

        return await self._db.read(work)

    async def retry(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """A new attempt (revision + 1) of a failed or cancelled job."""

        def work(connection: sa.Connection) -> Job:
            _must_find(connection, tenant, job_id)
            lock_tenant(connection, tenant)  # before the recording, as whoever accepts one does
            recording, job = _lock(connection, tenant, job_id)
            if job.state not in ENDED_BADLY or job.revision != recording.revision:
                raise _conflict("not_retryable", "retried", job.state)
            row = _next_revision(connection, recording)
            resume(connection, self._codec, self._limits, row, trace)
            return job_of(connection, _must_find(connection, tenant, row.id))

        return await self._db.write(work)

    async def cancel(self, tenant: str, job_id: str, trace: Mapping[str, str]) -> Job:
        """Cancel a pending or running job, with its ``recordings.erased`` row (reason cancelled)."""

        def work(connection: sa.Connection) -> Job:
            recording, job = _lock(connection, tenant, job_id)
            if job.state not in UNDER_WAY or job.revision != recording.revision:
                raise _conflict("not_cancellable", "cancelled", job.state)
            _set_recording(connection, tenant, recording.id, state="cancelled")
            changed = {"state": "cancelled", "version": t.jobs.c.version + 1, "updated_at": t.now()}
            mine = sa.and_(t.jobs.c.tenant == tenant, t.jobs.c.id == job.id)
            connection.execute(sa.update(t.jobs).where(mine).values(changed | {"in_flight_ms": None}))
            withdraw(connection, tenant, recording.id)
            gone = RecordingErased(tenant=tenant, recording_id=recording.id, revision=job.revision, reason="cancelled")
            enqueue(connection, self._codec, RECORDINGS_ERASED, [gone], trace)
            return job_of(connection, _must_find(connection, tenant, recording.id))

        return await self._db.write(work)

    async def erase(self, tenant: str, recording_id: str, trace: Mapping[str, str]) -> None:
        """Mark erased, forget everything personal in the row, with its ``recordings.erased`` row."""

        def work(connection: sa.Connection) -> None:
            row = _find(connection, tenant, recording_id, lock=True)
            if row is None or row.state == "erased":
                raise _unknown()
            erase_recording(connection, self._codec, row, trace)

        await self._db.write(work)


def _within(bounds: QualityBounds) -> Iterator[sa.ColumnElement[bool]]:
    """What was not measured compares to nothing, so it is outside."""
    for bound in fields(bounds):
        side, measure = bound.name.split("_", 1)
        if (value := getattr(bounds, bound.name)) is not None:
            found = t.recordings.c.quality[measure].as_float()
            yield found >= value if side == "min" else found <= value


def _know_tenant(connection: sa.Connection, tenant: str) -> sa.Row[Any]:
    """The tenant's row, made when there is none, locked until the transaction ends."""
    tenants = insert(connection, t.tenants).values(id=tenant, created_at=t.now())
    connection.execute(tenants.on_conflict_do_nothing())
    return lock_tenant(connection, tenant)


def _know_collection(connection: sa.Connection, tenant: str, collection: str) -> None:
    names = insert(connection, t.collections).values(tenant=tenant, name=collection, created_at=t.now())
    connection.execute(names.on_conflict_do_nothing())


def _refuse_if_anothers(connection: sa.Connection, upload: AudioUploaded) -> None:
    """Keys of the log are recording ids without their tenants, so two tenants may not have the same."""
    c = t.recordings.c
    if connection.scalars(sa.select(c.id).where(c.id == upload.recording_id, c.tenant != upload.tenant)).first():
        raise Permanent(
            "The recording id is taken.", next_step="Use a random UUID, or leave it out.", code="bad_recording_id"
        )


def _answered(connection: sa.Connection, tenant: str, key: str, request_hash: str) -> Job | None:
    c = t.idempotency_keys.c
    row = connection.execute(sa.select(t.idempotency_keys).where(c.tenant == tenant, c.key == key)).first()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise Permanent(
            "This Idempotency-Key was used with another request.",
            next_step="Use a new key for a new request.",
            code="idempotency_key_reused",
        )
    return job_of(connection, _must_find(connection, tenant, row.job_id))


def _remember(connection: sa.Connection, new: NewRecording, job: Job) -> None:
    connection.execute(
        sa.insert(t.idempotency_keys).values(
            tenant=job.tenant,
            key=new.idempotency_key,
            request_hash=new.request_hash,
            recording_id=job.recording_id,
            job_id=job.id,
            created_at=t.now(),
        )
    )


def _same(connection: sa.Connection, upload: AudioUploaded, same_as: str) -> sa.Row[Any] | None:
    if not same_as:
        return None
    c = t.recordings.c
    mine = sa.and_(c.tenant == upload.tenant, c.collection == upload.collection, c.same_as == same_as)
    return connection.execute(sa.select(t.recordings).where(mine).with_for_update()).first()


def _source_is_bad(connection: sa.Connection, row: sa.Row[Any]) -> bool:
    """Whether the last attempt found its blob missing or changed: new bytes need a recording of their own."""
    job = _must_find(connection, row.tenant, row.id)
    return job.state == "failed" and json.loads(job.error)["code"] in (BlobMissing.code, BlobMismatch.code)


def _described(upload: AudioUploaded) -> dict[str, Any]:
    """What a person says about a recording: a later upload of the same audio says it anew."""
    return {
        "title": upload.title,
        "language": upload.language,
        "priority": upload.priority,
        "task": upload.task,
        "recorded_at": upload.recorded_at,
        "metadata": json.dumps(upload.metadata),
    }


def _insert_recording(
    connection: sa.Connection,
    upload: AudioUploaded,
    source_key: str | None,
    same_as: str,
    claimed_ms: int | None = None,
) -> sa.Row[Any]:
    values = _described(upload) | {
        "tenant": upload.tenant,
        "id": upload.recording_id,
        "collection": upload.collection,
        "state": "live",
        "revision": upload.revision,
        "visible_from": 1,
        "source_key": source_key,
        "uri": upload.uri,
        "sha256": upload.sha256,
        "same_as": same_as or None,
        "media_type": upload.media_type,
        "size_bytes": upload.size_bytes,
        "claimed_ms": claimed_ms,
        "created_at": t.now(),
    }
    connection.execute(sa.insert(t.recordings).values(values))
    row = _find(connection, upload.tenant, upload.recording_id)
    assert row is not None
    return row


def _next_revision(connection: sa.Connection, row: sa.Row[Any], **changed: Any) -> sa.Row[Any]:
    _set_recording(connection, row.tenant, row.id, state="live", revision=row.revision + 1, **changed)
    after = _find(connection, row.tenant, row.id)
    assert after is not None
    return after


def _set_recording(connection: sa.Connection, tenant: str, recording_id: str, **values: Any) -> None:
    mine = sa.and_(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)
    connection.execute(sa.update(t.recordings).where(mine).values(values))


def _find(connection: sa.Connection, tenant: str, recording_id: str, *, lock: bool = False) -> sa.Row[Any] | None:
    query = sa.select(t.recordings).where(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)
    return connection.execute(query.with_for_update() if lock else query).first()


def _must_find(connection: sa.Connection, tenant: str, either_id: str) -> sa.Row[Any]:
    row = find_job(connection, tenant, either_id)
    if row is None:
        raise _unknown()
    return row


def _lock(connection: sa.Connection, tenant: str, either_id: str) -> tuple[sa.Row[Any], sa.Row[Any]]:
    """A live recording, locked, and the job meant, as it is under the lock."""
    seen = _must_find(connection, tenant, either_id)
    recording = _find(connection, tenant, seen.recording_id, lock=True)
    if recording is None or recording.state == "erased":
        raise _unknown()
    return recording, _must_find(connection, tenant, either_id)


def _unknown() -> UnknownRecording:
    return UnknownRecording("There is no such recording or job.", next_step="List them with GET /api/v1/recordings.")


def _conflict(code: str, wish: str, state: str) -> Permanent:
    error = Permanent(f"The job cannot be {wish}: it is {state}.", code=code)
    error.status = 409
    return error
