"""What an erasure takes out of the catalog in the transaction that decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.answers import forget_answers
from earshot.adapters.catalog.base import Part
from earshot.adapters.catalog.outbox import enqueue
from earshot.kernel.codec import Codec
from earshot.kernel.events import RecordingErased
from earshot.kernel.topics import RECORDINGS_ERASED

_BLANK = {
    "state": "erased",
    "title": "",
    "collection": "",
    "uri": "",
    "sha256": "",
    "same_as": None,
    "media_type": "",
    "size_bytes": 0,
    "language": "",
    "duration_ms": None,
    "recorded_at": None,
    "metadata": "{}",
    "tags": "",
    "quality": None,
}


def erase_recording(connection: sa.Connection, codec: Codec, row: sa.Row[Any], trace: Mapping[str, str]) -> None:
    """Leave a tombstone of a recording that is locked, and tell the eraser by a row in the outbox."""
    forget_recording(connection, row.tenant, row.id)
    event = RecordingErased(tenant=row.tenant, recording_id=row.id, revision=row.revision, reason="erased")
    enqueue(connection, codec, RECORDINGS_ERASED, [event], trace)


def forget_recording(connection: sa.Connection, tenant: str, recording_id: str) -> None:
    """Leave a tombstone: tenant, id, revision, state.

    Transcripts lose their text at once, answers that rest on them as well; where the source and the cached transcripts
    lie stays known until the eraser has deleted them.
    """
    mine = sa.and_(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)
    connection.execute(sa.update(t.recordings).where(mine).values(_BLANK | {"erased_at": t.now()}))
    speakers = (t.speaker_turns, t.speaker_names)
    edits = (t.revisions, t.revision_segments)
    for table in (t.imports, t.jobs, t.idempotency_keys, t.outbox, t.progress, t.spans, *speakers, *edits):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.recording_id == recording_id))
    segment = t.transcript_segments.c
    blank = sa.update(t.transcript_segments).where(segment.tenant == tenant, segment.recording_id == recording_id)
    connection.execute(blank.values(body=""))
    forget_answers(connection, tenant, [recording_id])


class ErasuresPart(Part):
    """What the eraser needs until the last blob is gone."""

    async def source_left(self, tenant: str, recording_id: str) -> str | None:
        """The blob key of an erased recording's source, unless another recording that lives has the same."""
        c, others = t.recordings.c, t.recordings.alias()
        lives = sa.exists().where(
            others.c.tenant == c.tenant, others.c.source_key == c.source_key, others.c.state != "erased"
        )
        query = sa.select(c.source_key).where(_erased(tenant, recording_id), sa.not_(lives))
        return await self._db.read(lambda connection: connection.scalar(query))

    async def source_gone(self, tenant: str, recording_id: str) -> None:
        """The last of an erased recording is deleted: forget where its source was."""
        gone_at = sa.func.coalesce(t.recordings.c.gone_at, sa.literal(t.now(), t.Moment))
        update = sa.update(t.recordings).where(_erased(tenant, recording_id))
        update = update.values(source_key=None, gone_at=gone_at)
        await self._db.write(lambda connection: connection.execute(update).close())


def _erased(tenant: str, recording_id: str) -> sa.ColumnElement[bool]:
    c = t.recordings.c
    return sa.and_(c.tenant == tenant, c.id == recording_id, c.state == "erased")
