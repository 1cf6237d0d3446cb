"""Corrections of recordings: a higher revision of every segment, and what was before kept beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.attempt_rows import publish
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.leaving import lock_tenant
from earshot.adapters.catalog.outbox import enqueue
from earshot.adapters.catalog.quotas import UNDER_WAY, refuse_one_more
from earshot.adapters.catalog.revision_rows import Said, add, keep, kept, said_in
from earshot.adapters.catalog.rows import find_job, job_of, lines_of_tags, recording_of
from earshot.adapters.catalog.transcripts import shown_revisions
from earshot.kernel.errors import Permanent, UnknownRecording
from earshot.kernel.events import RecordingErased, SegmentTranscribed
from earshot.kernel.ports import Accepted, Recording
from earshot.kernel.ports.editing import Revision
from earshot.kernel.revising import revision_changed, unknown_revision
from earshot.kernel.topics import RECORDINGS_ERASED

EDITS = ("edited", "restored", "described")
"""Kinds of revisions that a person made."""


class EditingPart(Part):
    """Changing what a recording says, and what is said about it."""

    async def current_revision(self, tenant: str, recording_id: str) -> int:
        """The revision whose words are shown: the highest that was not cancelled. Raises ``UnknownRecording``."""

        def work(connection: sa.Connection) -> int:
            return _shown(connection, _live(connection, tenant, recording_id)).revision  # type: ignore[no-any-return]

        return await self._db.read(work)

    async def editable_revision(self, tenant: str, recording_id: str) -> int:
        """The same, if its words may be corrected now. Raises ``UnknownRecording``, ``Permanent`` (409)."""

        def work(connection: sa.Connection) -> int:
            return _checked(connection, _live(connection, tenant, recording_id), None).revision  # type: ignore[no-any-return]

        return await self._db.read(work)

    async def words(
        self, tenant: str, recording_id: str, revision: int, among: Collection[int] | None = None
    ) -> list[SegmentTranscribed] | None:
        """The segments of a revision, in order, or those of these indexes; ``None`` when it is not kept."""

        def work(connection: sa.Connection) -> list[Said] | list[str] | None:
            row = kept(connection, tenant, recording_id, revision)
            if row is not None:
                return said_in(connection, row, among)
            if revision not in shown_revisions(connection, tenant, recording_id):
                return None
            c = t.transcript_segments.c
            mine = sa.and_(c.tenant == tenant, c.recording_id == recording_id, c.revision == revision, c.body != "")
            wanted = sa.true() if among is None else c.segment.in_(sorted(among))
            return list(connection.scalars(sa.select(c.body).where(mine, wanted).order_by(c.segment)))

        found = await self._db.read(work)
        return None if found is None else await asyncio.to_thread(_of_revision, found, revision)

    async def revisions(self, tenant: str, recording_id: str) -> list[Revision]:
        """Those that are kept, newest first."""

        def work(connection: sa.Connection) -> list[Revision]:
            shown = _shown(connection, _live(connection, tenant, recording_id))
            c = t.revisions.c
            mine = sa.and_(c.tenant == tenant, c.recording_id == recording_id)
            rows = connection.execute(sa.select(t.revisions).where(mine).order_by(c.revision.desc()))
            found = [_revision(row, shown.revision) for row in rows]
            if not any(each.current for each in found):
                found.append(Revision(shown.revision, "transcribed", None, None, True, shown.created_at))
            return sorted(found, key=lambda each: -each.revision)

        return await self._db.read(work)

    async def edit(
        self, tenant: str, recording_id: str, changed: Sequence[SegmentTranscribed], base: int, trace: Mapping[str, str]
    ) -> Accepted:
        """A new revision: ``base`` with these segments in the place of those of the same index."""

        def work(connection: sa.Connection) -> Accepted:
            recording, job = _editable(connection, tenant, recording_id, base)
            before = keep(connection, job)
            now = {segment.index: segment for segment in changed}
            said = [(now.get(segment.index, segment), cache_key) for segment, cache_key in said_in(connection, before)]
            after = self._next(connection, recording, job, trace)
            add(connection, after, before, "edited", [each for each in said if each[0].index in now])
            return self._published(connection, after, said, trace)

        return await self._db.write(work)

    async def restore(
        self, tenant: str, recording_id: str, revision: int, base: int | None, trace: Mapping[str, str]
    ) -> Accepted:
        """A new revision with the words of an earlier one."""

        def work(connection: sa.Connection) -> Accepted:
            recording, job = _editable(connection, tenant, recording_id, base)
            if revision == job.revision:
                return Accepted(job_of(connection, job), created=False)
            earlier = kept(connection, tenant, recording_id, revision)
            if earlier is None:
                raise unknown_revision(revision)
            keep(connection, job)
            after = self._next(connection, recording, job, trace)
            add(connection, after, earlier, "restored", restored_from=revision)
            return self._published(connection, after, said_in(connection, earlier), trace)

        return await self._db.write(work)

    async def describe(
        self, tenant: str, recording_id: str, said: Mapping[str, Any], trace: Mapping[str, str]
    ) -> Recording:
        """Change what is said about a recording."""
        values = dict(said)
        if "tags" in values:
            values["tags"] = lines_of_tags(values["tags"])
        if "metadata" in values:
            values["metadata"] = json.dumps(values["metadata"])

        def work(connection: sa.Connection) -> Recording:
            lock_tenant(connection, tenant)
            recording = _live(connection, tenant, recording_id, lock=True)
            redated = "recorded_at" in values and values["recorded_at"] != recording.recorded_at
            if values:
                _change(connection, recording, values)
            if redated:
                self._redate(connection, recording, trace)
            return recording_of(_live(connection, tenant, recording_id))

        return await self._db.write(work)

    def _redate(self, connection: sa.Connection, recording: sa.Row[Any], trace: Mapping[str, str]) -> None:
        """The same words again, with the date that the recording has by now."""
        _, job = _editable(connection, recording.tenant, recording.id, None)
        before = keep(connection, job)
        after = self._next(connection, recording, job, trace)
        add(connection, after, before, "described")
        self._published(connection, after, said_in(connection, before), trace)

    def _next(
        self, connection: sa.Connection, recording: sa.Row[Any], job: sa.Row[Any], trace: Mapping[str, str]
    ) -> sa.Row[Any]:
        """The recording's row at its next revision. An edit still under way is cancelled: the new one contains it."""
        if job.state in UNDER_WAY:
            mine = sa.and_(t.jobs.c.tenant == job.tenant, t.jobs.c.id == job.id)
            ended = {"state": "cancelled", "version": t.jobs.c.version + 1, "updated_at": t.now()}
            connection.execute(sa.update(t.jobs).where(mine).values(ended))
            gone = RecordingErased(
                tenant=job.tenant, recording_id=job.recording_id, revision=job.revision, reason="cancelled"
            )
            enqueue(connection, self._codec, RECORDINGS_ERASED, [gone], trace)
        refuse_one_more(connection, self._limits, recording.tenant)
        _change(connection, recording, {"state": "live", "revision": recording.revision + 1})
        return _live(connection, recording.tenant, recording.id)

    def _published(
        self, connection: sa.Connection, recording: sa.Row[Any], said: Sequence[Said], trace: Mapping[str, str]
    ) -> Accepted:
        publish(connection, self._codec, recording, said, trace)
        job = find_job(connection, recording.tenant, recording.id)
        assert job is not None
        return Accepted(job_of(connection, job), created=True)


def _editable(
    connection: sa.Connection, tenant: str, recording_id: str, base: int | None
) -> tuple[sa.Row[Any], sa.Row[Any]]:
    """The recording, locked, and the job whose words are shown. Raises ``Permanent`` (409, 412)."""
    lock_tenant(connection, tenant)  # before the recording, as whoever accepts one does
    recording = _live(connection, tenant, recording_id, lock=True)
    return recording, _checked(connection, recording, base)


def _checked(connection: sa.Connection, recording: sa.Row[Any], base: int | None) -> sa.Row[Any]:
    """The job whose words are shown, if they may be corrected. Raises ``Permanent`` (409, 412)."""
    job = _shown(connection, recording)
    if base is not None and base != job.revision:
        raise revision_changed(job.revision)
    edit = kept(connection, job.tenant, job.recording_id, job.revision)
    if job.state != "completed" and (edit is None or edit.kind not in EDITS):
        refused = Permanent(
            f"What is said cannot be corrected now: the transcription is {job.state}.",
            next_step="Wait until the job is completed; POST …/retry tries a failed one again.",
            code="not_editable",
        )
        refused.status = 409
        raise refused
    return job


def _shown(connection: sa.Connection, recording: sa.Row[Any]) -> sa.Row[Any]:
    """The latest job that was not cancelled, else the latest."""
    c = t.jobs.c
    mine = sa.select(t.jobs).where(c.tenant == recording.tenant, c.recording_id == recording.id)
    cancelled_last = sa.case((c.state == "cancelled", 1), else_=0)
    return connection.execute(mine.order_by(cancelled_last, c.revision.desc()).limit(1)).one()


def _live(connection: sa.Connection, tenant: str, recording_id: str, *, lock: bool = False) -> sa.Row[Any]:
    c = t.recordings.c
    query = sa.select(t.recordings).where(c.tenant == tenant, c.id == recording_id, c.state != "erased")
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise UnknownRecording("There is no such recording.", next_step="List them with GET /api/v1/recordings.")
    return row


def _change(connection: sa.Connection, recording: sa.Row[Any], values: Mapping[str, Any]) -> None:
    c = t.recordings.c
    mine = sa.update(t.recordings).where(c.tenant == recording.tenant, c.id == recording.id)
    connection.execute(mine.values(dict(values)))


def _of_revision(found: list[Said] | list[str], revision: int) -> list[SegmentTranscribed]:
    segments = [SegmentTranscribed.model_validate_json(each) if isinstance(each, str) else each[0] for each in found]
    return [segment.model_copy(update={"revision": revision}) for segment in segments]


def _revision(row: sa.Row[Any], shown: int) -> Revision:
    changed = None if row.changed is None else tuple(json.loads(row.changed))
    return Revision(row.revision, row.kind, changed, row.restored_from, row.revision == shown, row.created_at)
