"""The outbox: what the door decided, waiting in the catalog to be published.

A request writes its rows in the same transaction as everything else it changes; the relay publishes them in order
with stable event ids, and marks a row sent only after the broker has acknowledged it. A crash between the two
publishes the row again under the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from earshot.kernel.codec import Codec, Record, headers_for
from earshot.kernel.events import Event
from earshot.kernel.fairness import Window
from earshot.kernel.topics import Topic


@dataclass(frozen=True)
class OutboxRow:
    """One event to be published.

    Attributes:
        id: place in the outbox; rows of one recording are published in this order.
        tenant: whose it is.
        topic: without prefix.
        key: the record's key.
        value: the framed body; ``None`` deletes the key.
        headers: as they go on the wire.
    """

    id: int
    tenant: str
    topic: str
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Backlog:
    """What the relay has before it.

    Attributes:
        uploads: how many wait for their turn.
        waiting_ms: how much audio that is.
        in_flight_ms: how much is on its way through the stages.
    """

    uploads: int
    waiting_ms: int
    in_flight_ms: int


class Outbox(Protocol):
    """The part of the catalog that the relay works on. Uploads wait for their turn, everything else goes at once."""

    async def let_go(self, window: Window, limit: int) -> int:
        """Let uploads go whose turn it is, at most so many, as far as the window has room; return how many.

        They are in flight from then on, until their jobs end; who is next is kept, so that a crash changes nothing.
        """

    async def backlog(self) -> Backlog:
        """What waits for its turn, and what is in flight."""

    async def pending(self, limit: int) -> list[OutboxRow]:
        """The oldest rows that may go and are not yet sent, in order."""

    async def mark_sent(self, ids: Sequence[int]) -> None:
        """The broker has acknowledged these rows."""


def row_for(topic: Topic, event: Event, codec: Codec, source: str, trace: dict[str, str]) -> OutboxRow:
    """The row for an event, its id not yet given. ``trace`` holds the W3C trace headers."""
    key = topic.key(event)
    value = codec.encode(topic, event)
    headers = headers_for(topic, event, key, value, source) | {k: v.encode() for k, v in trace.items()}
    return OutboxRow(0, event.tenant, topic.name, key, value, tuple(headers.items()))


class Publisher(Protocol):
    """Writes records to the log."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when the broker has acknowledged every record. Raises ``Unavailable``."""


async def relay_once(outbox: Outbox, publisher: Publisher, to_record: Callable[[OutboxRow], Record], limit: int) -> int:
    """Publish the oldest rows and mark them sent; return how many there were."""
    rows = await outbox.pending(limit)
    if rows:
        await publisher.publish([to_record(row) for row in rows])
        await outbox.mark_sent([row.id for row in rows])
    return len(rows)
