"""Revisions as they are kept: for each segment, under which revision its words lie. Words that stay are kept once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog.attempt_rows import publish, start
from earshot.adapters.catalog.base import chunks
from earshot.adapters.catalog.quotas import refuse_one_more
from earshot.kernel.codec import Codec
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.ports.editing import RevisionKind
from earshot.kernel.ports.quotas import Limits

Said = tuple[SegmentTranscribed, str | None]
"""A segment, and the key of its cached transcript."""


def kept(connection: sa.Connection, tenant: str, recording_id: str, revision: int) -> sa.Row[Any] | None:
    """The row of a revision that is kept."""
    mine = _of(t.revisions, tenant, recording_id)
    return connection.execute(sa.select(t.revisions).where(mine, t.revisions.c.revision == revision)).first()


def keep(connection: sa.Connection, job: sa.Row[Any]) -> sa.Row[Any]:
    """The row of the revision that an attempt made; its words are kept from now on."""
    known = kept(connection, job.tenant, job.recording_id, job.revision)
    if known is not None:
        return known
    c = t.transcript_segments.c
    mine = _of(t.transcript_segments, job.tenant, job.recording_id)
    columns = ["tenant", "recording_id", "segment", "revision", "body", "cache_key"]
    stored = sa.select(*(c[name] for name in columns)).where(mine, c.revision == job.revision, c.body != "")
    connection.execute(sa.insert(t.revision_segments).from_select(columns, stored))
    indexes = connection.scalars(stored.with_only_columns(c.segment).order_by(c.segment))
    origins = dict.fromkeys(indexes, job.revision)
    values = {"kind": "transcribed", "corrected": False, "created_at": job.created_at}
    return _insert(connection, job, values | {"changed": None, "restored_from": None, "origins": _dumped(origins)})


def add(
    connection: sa.Connection,
    recording: sa.Row[Any],
    like: sa.Row[Any],
    kind: RevisionKind,
    changed: Sequence[Said] = (),
    restored_from: int | None = None,
) -> None:
    """Keep a recording's current revision: it is like another one, but for the segments that changed."""
    rows = [
        {
            "tenant": recording.tenant,
            "recording_id": recording.id,
            "segment": segment.index,
            "revision": recording.revision,
            "body": segment.model_dump_json(),
            "cache_key": cache_key,
        }
        for segment, cache_key in changed
    ]
    for some in chunks(rows):
        connection.execute(sa.insert(t.revision_segments), some)
    indexes = sorted(segment.index for segment, _ in changed)
    values = {
        "tenant": recording.tenant,
        "recording_id": recording.id,
        "revision": recording.revision,
        "kind": kind,
        "corrected": bool(changed) or like.corrected,
        "restored_from": restored_from,
        "changed": json.dumps(indexes) if restored_from is None else None,
        "origins": _dumped(origins_of(like) | dict.fromkeys(indexes, recording.revision)),
        "created_at": t.now(),
    }
    connection.execute(sa.insert(t.revisions).values(values))


def origins_of(revision: sa.Row[Any]) -> dict[int, int]:
    """By index, the revision under which a segment's words are kept."""
    return {int(index): int(origin) for index, origin in json.loads(revision.origins).items()}


def said_in(connection: sa.Connection, revision: sa.Row[Any], indexes: Collection[int] | None = None) -> list[Said]:
    """The segments of a revision that is kept, in order, or those of these indexes."""
    origins, c = origins_of(revision), t.revision_segments.c
    query = sa.select(t.revision_segments).where(_of(t.revision_segments, revision.tenant, revision.recording_id))
    if indexes is not None:
        query = query.where(c.segment.in_(sorted(indexes)))
    rows = connection.execute(query.where(c.revision.in_(sorted(set(origins.values())))).order_by(c.segment))
    return [
        (SegmentTranscribed.model_validate_json(row.body), row.cache_key)
        for row in rows
        if origins.get(row.segment) == row.revision
    ]


def resume(connection: sa.Connection, codec: Codec, limits: Limits, row: sa.Row[Any], trace: Mapping[str, str]) -> None:
    """A new attempt at what the last one was: an edit is published again, everything else starts from its source.

    Raises: as :func:`earshot.adapters.catalog.attempt_rows.start`.
    """
    last = kept(connection, row.tenant, row.id, row.revision - 1)
    if last is None or last.kind == "transcribed":
        start(connection, codec, limits, row, trace)
        return
    refuse_one_more(connection, limits, row.tenant)
    add(connection, row, last, last.kind, restored_from=last.restored_from)
    publish(connection, codec, row, said_in(connection, last), trace)


def _insert(connection: sa.Connection, job: sa.Row[Any], values: Mapping[str, Any]) -> sa.Row[Any]:
    place = {"tenant": job.tenant, "recording_id": job.recording_id, "revision": job.revision}
    return connection.execute(sa.insert(t.revisions).values({**place, **values}).returning(*t.revisions.c)).one()


def _dumped(origins: Mapping[int, int]) -> str:
    return json.dumps(dict(origins), separators=(",", ":"))


def _of(table: sa.Table, tenant: str, recording_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == tenant, table.c.recording_id == recording_id)
