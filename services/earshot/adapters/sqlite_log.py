"""The embedded event log: one SQLite file, any number of processes on one machine, one consumer per group.

Writes are committed in groups by a thread; a Unix datagram socket wakes the consumers, which also look for
themselves once a second.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from earshot.adapters import sqlite_records as sql
from earshot.adapters import sqlite_upkeep as upkeep
from earshot.adapters.doorbell import Doorbell
from earshot.adapters.guard import BROKER, Figures, Guard
from earshot.adapters.sqlite_connection import LogConnection
from earshot.adapters.sqlite_records import Limits, Place
from earshot.kernel.codec import Record
from earshot.kernel.errors import Misconfigured, Unavailable

T = TypeVar("T")
POLL_S = 1.0
"""How often a waiting reader looks for itself, should a ring be lost."""
_GROUP_RECORDS, _GROUP_BYTES = 1000, 8 * 1024 * 1024
_PENDING = 2000
"""Records waiting to be written; whoever publishes more waits."""


class _Role:
    """A connection with the one thread that uses it, both made on first use."""

    def __init__(self, path: Path, name: str, figures: Figures, *, durable: bool) -> None:
        self.guard = Guard("broker", figures)
        self._open = partial(LogConnection, path, durable=durable)
        self._connection: LogConnection | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"log-{name}")

    async def call(self, work: Callable[[LogConnection], T]) -> T:
        """Run work on the connection, in its thread. Raises ``Unavailable``, also after :meth:`close`."""
        with self.guard.asking():
            return await self.look(work)

    async def look(self, work: Callable[[LogConnection], T]) -> T:
        """:meth:`call` however often it has failed."""
        if self._closed:
            raise Unavailable("broker", "The log is closed, the process is ending.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[LogConnection], T]) -> T:
        if self._connection is None:
            self._connection = self._open()
        return work(self._connection)

    def close(self) -> None:
        """Wait for the work in progress, then close."""
        self._closed = True
        self._thread.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class SqliteLog:
    """Implements the kernel's ``EventLog``, and what the Faust transport needs beyond it.

    Args:
        path: the file, made when missing. Every process has its own ``SqliteLog``, used by one event loop.
        figures: of the breakers.
    """

    def __init__(self, path: str | Path, figures: Figures = BROKER) -> None:
        self.path = Path(path)
        self._writer = _Role(self.path, "write", figures, durable=True)
        self._committer = _Role(self.path, "commit", figures, durable=False)
        self._reader = _Role(self.path, "read", figures, durable=False)
        self._bell: Doorbell | None = None
        self._pending: asyncio.Queue[tuple[Record, asyncio.Future[Record]]] = asyncio.Queue(_PENDING)
        self._drain: asyncio.Task[None] | None = None
        self._partitions: dict[str, int] = {}
        self._turn = 0
        self._seen: int | None = None
        self._group_locks: dict[str, int] = {}

    # --- writing ---------------------------------------------------------------------------------------------

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when every record is on the disk."""
        futures = [await self.send(record) for record in records]
        await asyncio.gather(*futures)

    async def send(self, record: Record) -> asyncio.Future[Record]:
        """Queue a record; the future gives it back with partition and offset once it is on the disk."""
        partitions = await self.partitions(record.topic)
        self._turn += 1
        placed = replace(record, partition=sql.choose_partition(record, partitions, self._turn))
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        await self._pending.put((placed, future))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._write_pending())
        return future

    async def flush(self) -> None:
        """Return when everything queued so far is on the disk, or has failed."""
        while self._drain is not None and not self._drain.done():
            await asyncio.wait([self._drain])

    async def _write_pending(self) -> None:
        while not self._pending.empty():
            group: list[tuple[Record, asyncio.Future[Record]]] = []
            size = 0
            while not self._pending.empty() and len(group) < _GROUP_RECORDS and size < _GROUP_BYTES:
                group.append(self._pending.get_nowait())
                size += len(group[-1][0].value or b"")
            await self._write([record for record, _ in group], [future for _, future in group])

    async def _write(self, records: list[Record], futures: list[asyncio.Future[Record]]) -> None:
        try:
            offsets = await self._writer.call(partial(sql.append, records=records))
        except Exception as error:  # whoever sent the records gets it
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for record, offset, future in zip(records, offsets, futures, strict=True):
            if not future.done():
                future.set_result(replace(record, offset=offset))
        self._doorbell().ring()

    # --- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, positions: Mapping[Place, int], limits: Limits) -> dict[Place, list[Record]]:
        """Records from the given positions on, without waiting; partitions take turns in being served first."""
        ordered = list(positions.items())
        if not ordered:
            return {}
        self._turn += 1
        first = self._turn % len(ordered)
        rotated = dict(ordered[first:] + ordered[:first])
        return await self._reader.call(partial(_read_news, positions=rotated, limits=limits))

    async def wait(self, seconds: float) -> None:
        """Return when somebody may have written something since the last call, or after so many seconds."""
        bell = self._doorbell()
        bell.listen()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(bell.rung.wait(), min(left, POLL_S))
            except TimeoutError:
                if not await self._changed():
                    continue
            bell.rung.clear()
            return

    async def _changed(self) -> bool:
        seen, self._seen = self._seen, await self._reader.call(_data_version)
        return seen != self._seen

    async def tail(self, topics: Sequence[str], *, from_start: bool, follow: bool) -> AsyncIterator[Record]:
        """Records in order of each partition; without ``follow``, up to the ends found at the start."""
        ends = {place: end for place, end in (await self.heads()).items() if place[0] in topics}
        for topic in topics:
            await self.partitions(topic)
        positions = dict.fromkeys(ends, 0) if from_start else dict(ends)
        if follow:
            self._doorbell().listen()
        while True:
            found = await self.fetch(positions, Limits())
            for place, records in found.items():
                positions[place] = records[-1].offset + 1
                for record in records:
                    if follow or record.offset < ends[place]:
                        yield record
            if not found and not follow:
                return
            if not follow and all(positions[place] >= end for place, end in ends.items()):
                return
            if not found:
                await self.wait(POLL_S)

    # --- topics and groups -----------------------------------------------------------------------------------

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises ``Misconfigured`` when it does not exist."""
        if topic not in self._partitions:
            self._partitions = await self._reader.call(sql.partition_counts)
        if topic not in self._partitions:
            raise sql.missing(topic)
        return self._partitions[topic]

    async def create(self, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
        """Create the missing topics; of their configuration ``cleanup.policy`` and ``retention.ms`` count."""
        return await self._writer.call(partial(sql.create, topics=topics, partitions=partitions))

    async def configurations(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """``cleanup.policy`` and ``retention.ms`` by topic; those that do not exist are left out."""
        return await self._reader.call(partial(sql.configurations, topics=tuple(topics)))

    async def configure(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        """Set ``cleanup.policy`` and ``retention.ms`` of topics."""
        await self._writer.call(partial(sql.configure, topics=topics))

    async def heads(self) -> dict[Place, int]:
        """The next offset of every partition of every topic."""
        return await self._reader.call(sql.heads)

    async def lag(self, group: str, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
        """Committed offset (0 when none) and end offset by topic and partition."""
        return await self._committer.call(partial(sql.lag, group=group, topics=tuple(topics)))

    async def join(self, group: str, places: Iterable[Place]) -> None:
        """Become the one consumer of a group, until :meth:`close` or the end of the process.

        Raises:
            Misconfigured: another consumer has the group.
        """
        if group not in self._group_locks:
            self._group_locks[group] = _lock_group(self.path, group)
        await self._committer.call(partial(sql.register, group=group, places=tuple(places)))

    async def consumer_of(self, group: str) -> str | None:
        """The process that consumes as a group; ``None`` when none does."""
        if group in self._group_locks:
            return str(os.getpid())
        return await asyncio.to_thread(_holder, self.path, group)

    async def unregister(self, group: str) -> bool:
        """Forget a group that nobody consumes as, so that nothing is kept for it; ``False`` while somebody does."""
        if await self.consumer_of(group) is not None:
            return False
        await self._committer.call(partial(sql.unregister, group=group))
        return True

    async def committed(self, group: str) -> dict[Place, int]:
        """The group's next offsets."""
        return await self._committer.call(partial(sql.committed, group=group))

    async def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Write the group's next offsets. A power cut may undo it, a crash of the process does not."""
        await self._committer.call(partial(sql.commit, group=group, offsets=dict(offsets)))

    # --- upkeep ----------------------------------------------------------------------------------------------

    async def purge(self, recording_id: str) -> int:
        """Delete a recording's consumed records on all topics now, the rest as they are consumed.

        Returns:
            How many records of it remain.
        """
        return await self._writer.call(partial(upkeep.purge, recording_id=recording_id))

    async def remaining(self, recording_id: str) -> int:
        """How many records of a recording the log holds."""
        return await self._reader.call(partial(upkeep.remaining, recording_id=recording_id))

    async def maintain(self, every_ms: int = upkeep.MINUTE_MS) -> bool:
        """Retention, compaction and pending erasures, when they were not seen to within ``every_ms``."""
        return await self._writer.call(partial(upkeep.maintain, every_ms=every_ms))

    async def ping(self) -> None:
        """Return when the log can be read."""
        await self._reader.look(sql.partition_counts)
        for role in (self._writer, self._committer, self._reader):
            role.guard.breaker.due()

    async def close(self) -> None:
        """Write what is queued, then let go of connections, threads, locks and the doorbell."""
        await self.flush()
        for role in (self._writer, self._committer, self._reader):
            await asyncio.to_thread(role.close)
        for lock in self._group_locks.values():
            os.close(lock)
        self._group_locks.clear()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _doorbell(self) -> Doorbell:
        if self._bell is None:
            try:
                self._bell = Doorbell(self.path)
            except OSError as error:
                raise Unavailable("broker", f"The folder of {self.path} cannot be used: {error}.") from error
        return self._bell


def _read_news(connection: LogConnection, positions: Mapping[Place, int], limits: Limits) -> dict[Place, list[Record]]:
    heads = sql.heads(connection)
    news = {place: position for place, position in positions.items() if heads.get(place, 0) > position}
    return {place: records for place, records in sql.read(connection, news, limits).items() if records}


def _data_version(connection: LogConnection) -> int:
    return int(connection.db.pragma("data_version"))


def _holder(path: Path, group: str) -> str | None:
    """Who holds a group's lock, without keeping it."""
    try:
        lock = os.open(_group_file(path, group), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(lock, 20).decode("ascii", "replace") or "unknown"
    finally:
        os.close(lock)
    return None


def _group_file(path: Path, group: str) -> Path:
    return Path(f"{path}.groups") / quote(group, safe="")


def _lock_group(path: Path, group: str) -> int:
    """Lock a group's file; the kernel lets go of it when the process dies, however it dies."""
    file = _group_file(path, group)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode("ascii", "replace")
        os.close(lock)
        raise Misconfigured(
            f"Process {owner or 'unknown'} already consumes as {group}; the SQLite log has one consumer per group.",
            next_step="Stop that process, or use Kafka to run several workers of a stage.",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
