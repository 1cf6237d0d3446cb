"""What an erasure takes out of the catalog in the transaction that decides it."""

from __future__ import annotations

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t

_BLANK = {
    "state": "erased",
    "title": "",
    "collection": "",
    "source_key": None,
    "uri": "",
    "sha256": "",
    "same_as": None,
    "media_type": "",
    "size_bytes": 0,
    "language": "",
    "duration_ms": None,
    "recorded_at": None,
    "metadata": "{}",
}


def forget_recording(connection: sa.Connection, tenant: str, recording_id: str) -> None:
    """Leave a tombstone: tenant, id, revision, state.

    Transcripts lose their text at once; their keys stay until the eraser has deleted what they point at.
    """
    mine = sa.and_(t.recordings.c.tenant == tenant, t.recordings.c.id == recording_id)
    connection.execute(sa.update(t.recordings).where(mine).values(_BLANK))
    for table in (t.imports, t.jobs, t.idempotency_keys, t.outbox, t.progress, t.spans):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.recording_id == recording_id))
    segment = t.transcript_segments.c
    blank = sa.update(t.transcript_segments).where(segment.tenant == tenant, segment.recording_id == recording_id)
    connection.execute(blank.values(body=""))
