"""What the door decided goes out on the log: at least once, under the same event ids; uploads in their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import Permanent, Transient, Unavailable, UnknownRecording
from earshot.kernel.events import StageProgressed
from earshot.kernel.fairness import Window
from earshot.kernel.leases import RENEWALS, held
from earshot.kernel.outbox import Outbox, OutboxRow, Publisher, relay_once
from earshot.kernel.ports import Leases, Ledger
from earshot.kernel.topics import BY_NAME, slot_of_key

Work = Callable[[Callable[[], bool]], Awaitable[None]]
STAGE = "relay"
EVERYTHING = Window(2**62, 2**62)
"""A window in which nothing waits."""
log = structlog.get_logger()


class Books(Outbox, Ledger, Leases, Protocol):
    """The parts of the catalog that the relay works on."""


@dataclass
class Vitals:
    """How the relay is, for its heartbeat: why it waits, how many rows it has published."""

    reason: str = ""
    published: int = 0


@dataclass(frozen=True)
class Pace:
    """How fast: rows at once, the seconds to wait when there is nothing, or nothing works, and how much in flight."""

    rows: int = 100
    poll_s: float = 0.1
    retry_max_s: float = 5.0
    publish_s: float = 30.0
    window: Window = EVERYTHING


async def alone(books: Leases, owner: str, ttl_s: float, vitals: Vitals, ending: asyncio.Event, work: Work) -> None:
    """Do the work while no other relay does; stand by while one does, and take over when it is gone.

    Args:
        books: where the lease is.
        owner: of the lease.
        ttl_s: so long after it died another relay takes over.
        vitals: says why it waits.
        ending: set to ask for the end.
        work: given what tells whether the lease is lost; returns when it is, or when asked to end.
    """
    while not ending.is_set():
        try:
            async with held(books, STAGE, owner, ttl_s=ttl_s) as lease:
                vitals.reason = ""
                await work(lambda: lease.lost)
        except Transient as error:
            if vitals.reason != str(error):
                log.info("standing_by", reason=str(error), code=error.code)
            vitals.reason = str(error)
            await _asleep(ttl_s / RENEWALS, ending)


async def relay(
    books: Books,
    publisher: Publisher,
    places: Mapping[str, tuple[str, int]],
    codec: Codec,
    vitals: Vitals,
    pace: Pace,
    ending: asyncio.Event,
    lost: Callable[[], bool] = lambda: False,
) -> None:
    """Publish the outbox until asked to end, until the lease is lost, both between two rounds, or until cancelled.

    An outage is waited out with its reason in ``vitals``. A row that the broker refuses for good blocks nobody: it
    becomes a failure in the ledger, where a person sees it.

    Args:
        books: where the rows are.
        publisher: the log.
        places: full name and partitions of each topic, by name.
        codec: reads rows that are refused.
        vitals: kept up to date.
        pace: how fast.
        ending: set to ask for the end.
        lost: whether another relay may do this by now.
    """
    to_record = _records(places)
    bounded = _Bounded(publisher, pace.publish_s)
    tries = 0
    while not (ending.is_set() or lost()):
        try:
            freed = await books.let_go(pace.window, pace.rows)
            published = await _round(books, bounded, to_record, codec, pace.rows)
        except Transient as error:
            vitals.reason = str(error)
            wait = min(pace.retry_max_s, pace.poll_s * 2.0 ** min(tries, 16))
            tries += 1
            log.warning("waiting", reason=str(error), code=error.code, delay_s=wait, tries=tries)
            await _asleep(wait, ending)
        else:
            vitals.reason, tries = "", 0
            vitals.published += published
            if not (freed or published):
                await _asleep(pace.poll_s, ending)


async def _asleep(seconds: float, ending: asyncio.Event) -> None:
    """Sleep, but not past the moment of being asked to end."""
    with suppress(TimeoutError):
        await asyncio.wait_for(ending.wait(), seconds)


async def _round(
    books: Books, publisher: Publisher, to_record: Callable[[OutboxRow], Record], codec: Codec, rows: int
) -> int:
    """Publish the oldest rows; where one of them is refused, one at a time."""
    try:
        return await relay_once(books, publisher, to_record, rows)
    except Permanent:
        pending = await books.pending(rows)
        for row in pending:
            await _alone(books, publisher, to_record, codec, row)
        return len(pending)


async def _alone(
    books: Books, publisher: Publisher, to_record: Callable[[OutboxRow], Record], codec: Codec, row: OutboxRow
) -> None:
    try:
        await publisher.publish([to_record(row)])
    except Permanent as error:
        log.exception("refused", code=error.code, topic=row.topic, key=row.key, outbox_id=row.id)
        await _give_up(books, codec, row, error)
    await books.mark_sent([row.id])


async def _give_up(books: Books, codec: Codec, row: OutboxRow, error: Permanent) -> None:
    """Say in the ledger what will not come."""
    if row.value is None:
        return
    event = await asyncio.to_thread(codec.decode, BY_NAME[row.topic], row.value)  # it may ask the registry
    failed = StageProgressed(
        tenant=event.tenant,
        recording_id=event.recording_id,
        revision=event.revision,
        stage=STAGE,
        index=getattr(event, "index", None),
        state="failed",
        segments_total=None,
        start_ms=getattr(event, "start_ms", None),
        end_ms=getattr(event, "end_ms", None),
        code=error.code,
        detail=f"The broker refused the event on {row.topic}: {error.detail}",
    )
    try:
        await books.record([failed])
    except UnknownRecording:
        log.info("refused_of_unknown", topic=row.topic, key=row.key)


class _Bounded:
    """A publisher that is given up after a while; the rows stay and are published again under the same ids."""

    def __init__(self, publisher: Publisher, seconds: float) -> None:
        self._publisher = publisher
        self._seconds = seconds

    async def publish(self, records: Sequence[Record]) -> None:
        """Publish within the time. Raises ``Unavailable`` past it."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._publisher.publish(records)
        except TimeoutError:
            raise Unavailable("broker", f"The broker did not acknowledge within {self._seconds:g} s.") from None


def _records(places: Mapping[str, tuple[str, int]]) -> Callable[[OutboxRow], Record]:
    def to_record(row: OutboxRow) -> Record:
        name, partitions = places[row.topic]
        return Record(name, row.key.encode(), row.value, row.headers, partition=slot_of_key(row.key) % partitions)

    return to_record
