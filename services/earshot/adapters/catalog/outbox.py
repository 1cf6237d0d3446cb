"""Rows waiting to be published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.adapters.catalog import turns
from earshot.adapters.catalog.base import Part, chunks
from earshot.kernel import ids
from earshot.kernel.codec import Codec
from earshot.kernel.events import Event, Priority
from earshot.kernel.fairness import CLASSES, Window
from earshot.kernel.outbox import Backlog, OutboxRow, row_for
from earshot.kernel.topics import Topic

SOURCE = "catalog"
"""``ce_source`` of what leaves through the outbox."""


class OutboxPart(Part):
    """The relay's side of the outbox."""

    async def let_go(self, window: Window, limit: int) -> int:
        """Let uploads go whose turn it is, as far as the window has room; return how many."""
        if not await self._db.read(lambda connection: turns.anybody_may_go(connection, window)):
            return 0
        return await self._db.write(lambda connection: turns.let_go(connection, window, limit))

    async def backlog(self) -> Backlog:
        """What waits for its turn, and what is in flight."""
        return await self._db.read(turns.backlog)

    async def pending(self, limit: int) -> list[OutboxRow]:
        """The oldest rows that may go and are not yet sent, in order."""
        query = sa.select(t.outbox).where(t.outbox.c.lane.is_(None)).order_by(t.outbox.c.id).limit(limit)
        return await self._db.read(lambda connection: [_row(row) for row in connection.execute(query)])

    async def mark_sent(self, ids: Sequence[int]) -> None:
        """The broker has acknowledged these rows: they are done with."""

        def work(connection: sa.Connection) -> None:
            for some in chunks(list(ids)):
                connection.execute(sa.delete(t.outbox).where(t.outbox.c.id.in_(some)))

        await self._db.write(work)


def enqueue(
    connection: sa.Connection,
    codec: Codec,
    topic: Topic,
    events: Sequence[Event],
    trace: Mapping[str, str],
    said: str = "",
    turn: tuple[Priority, int] | None = None,
) -> None:
    """Write one row an event, in this transaction.

    Args:
        connection: of the transaction that decides what the events say.
        codec: frames the bodies.
        topic: where they go.
        events: in the order in which they are to be published.
        trace: the W3C trace headers.
        said: what is said only once of a recording's revision; its event id is derived from that, not from the body.
        turn: they wait for their turn in this class, and count for so many ms of audio; ``None``: they may go.
    """
    lane, audio_ms = (None, None) if turn is None else (CLASSES.index(turn[0]), turn[1])
    waits = {"lane": lane, "audio_ms": audio_ms}
    values = [_values(row_for(topic, event, codec, SOURCE, dict(trace)), event, said) | waits for event in events]
    for some in chunks(values):
        connection.execute(sa.insert(t.outbox), some)


def withdraw(connection: sa.Connection, tenant: str, recording_id: str) -> None:
    """Take back what still waits for its turn of a recording, in this transaction."""
    c = t.outbox.c
    connection.execute(
        sa.delete(t.outbox).where(c.tenant == tenant, c.recording_id == recording_id, c.lane.is_not(None))
    )


def _values(row: OutboxRow, event: Event, said: str) -> dict[str, Any]:
    headers = {name: value.decode() for name, value in row.headers}
    if said:
        headers["ce_id"] = ids.derive(said, event.recording_id, event.revision)
    return {
        "tenant": row.tenant,
        "recording_id": event.recording_id,
        "topic": row.topic,
        "key": row.key,
        "value": row.value,
        "headers": json.dumps(headers),
        "created_at": t.now(),
    }


def _row(row: sa.Row[Any]) -> OutboxRow:
    headers = tuple((name, value.encode()) for name, value in json.loads(row.headers).items())
    return OutboxRow(row.id, row.tenant, row.topic, row.key, row.value, headers)
