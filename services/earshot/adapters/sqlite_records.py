"""The statements of the SQLite log: append, read, commit. Each runs on a connection of its caller's thread."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from earshot.adapters.sqlite_connection import LogConnection
from earshot.kernel.codec import Record
from earshot.kernel.errors import Misconfigured

Place = tuple[str, int]
"""Topic and partition."""
DEFAULT_RETENTION_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class Limits:
    """How much one read brings at most, over all partitions; at least one record where there is one."""

    records: int = 200
    size: int = 4 * 1024 * 1024


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def partition_counts(connection: LogConnection) -> dict[str, int]:
    """Partitions by topic."""
    return dict(connection.rows("SELECT name, partitions FROM topics"))


def missing(topic: str) -> Misconfigured:
    """The error of a topic that was never created."""
    return Misconfigured(f"The topic {topic} does not exist.", next_step="Run `earshot topics create`.")


def choose_partition(record: Record, partitions: int, fallback: int) -> int:
    """The record's own partition, else by its key, else ``fallback`` modulo the partitions."""
    if record.partition is None:
        return (fallback if record.key is None else zlib.crc32(record.key)) % partitions
    if not 0 <= record.partition < partitions:
        raise Misconfigured(f"{record.topic} has {partitions} partitions, none with number {record.partition}.")
    return record.partition


def append(connection: LogConnection, records: Sequence[Record]) -> list[int]:
    """Append records whose partitions are chosen, in one transaction; return their offsets."""
    with connection.writing() as db:
        heads: dict[Place, int] = {}
        rows = []
        for record in records:
            assert record.partition is not None
            place = (record.topic, record.partition)
            if place not in heads:
                found = db.execute("SELECT next FROM heads WHERE topic = ? AND partition = ?", place).fetchone()
                if found is None:
                    raise missing(record.topic)
                heads[place] = found[0]
            rows.append((*place, heads[place], *_columns(record)))
            heads[place] += 1
        db.executemany("INSERT INTO records VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.executemany(
            "UPDATE heads SET next = ? WHERE topic = ? AND partition = ?",
            [(after, *place) for place, after in heads.items()],
        )
    return [row[2] for row in rows]


def _columns(record: Record) -> tuple[int, str | None, bytes | None, bytes | None]:
    headers = json.dumps([[name, value.hex()] for name, value in record.headers]) if record.headers else None
    return record.timestamp_ms or now_ms(), headers, record.key, record.value


def heads(connection: LogConnection) -> dict[Place, int]:
    """Next offset of every partition. Kept apart from the records: they may all be deleted."""
    rows = connection.rows("SELECT topic, partition, next FROM heads")
    return {(topic, partition): after for topic, partition, after in rows}


def read(connection: LogConnection, positions: Mapping[Place, int], limits: Limits) -> dict[Place, list[Record]]:
    """Records from the given positions on, round the partitions until a limit is reached.

    Args:
        connection: of the calling thread.
        positions: first wanted offset by partition; the first partitions are served first.
        limits: of the whole read.
    """
    found: dict[Place, list[Record]] = {}
    count, size = limits.records, limits.size
    for place, position in positions.items():
        if count <= 0 or size <= 0:
            break
        with_rows = connection.db.execute(
            "SELECT offset, timestamp_ms, headers, key, value FROM records"
            " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (*place, position, count),
        )
        records = found[place] = []
        for row in with_rows:
            records.append(_record(place, row))
            count -= 1
            size -= len(row[4] or b"") + len(row[2] or "")
            if size <= 0:
                with_rows.close(True)
                break
    return found


def _record(place: Place, row: tuple[int, int, str | None, bytes | None, bytes | None]) -> Record:
    offset, timestamp_ms, headers, key, value = row
    pairs = tuple((name, bytes.fromhex(text)) for name, text in json.loads(headers)) if headers else ()
    return Record(place[0], key, value, pairs, place[1], offset, timestamp_ms)


def create(connection: LogConnection, topics: Mapping[str, Mapping[str, str]], partitions: int) -> list[str]:
    """Create the missing topics with ``cleanup.policy`` and ``retention.ms`` of their configurations."""
    made = []
    with connection.writing() as db:
        known = {name for (name,) in db.execute("SELECT name FROM topics")}
        for name, settings in topics.items():
            if name in known:
                continue
            db.execute("INSERT INTO topics VALUES (?, ?, ?, ?)", (name, partitions, *_keeping(settings)))
            db.executemany("INSERT INTO heads VALUES (?, ?, 0)", [(name, number) for number in range(partitions)])
            made.append(name)
    return made


def _keeping(
    settings: Mapping[str, str], default: tuple[bool, int] = (False, DEFAULT_RETENTION_MS)
) -> tuple[bool, int]:
    """Whether a topic is compacted, and for how many milliseconds it is kept."""
    policy, retention = settings.get("cleanup.policy"), settings.get("retention.ms")
    compacted = default[0] if policy is None else "compact" in policy
    return compacted, default[1] if retention is None else int(retention)


def configurations(connection: LogConnection, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """``cleanup.policy`` and ``retention.ms`` of the topics that exist."""
    return {
        name: {"cleanup.policy": "compact" if compacted else "delete", "retention.ms": str(retention)}
        for name, compacted, retention in connection.rows("SELECT name, compacted, retention_ms FROM topics")
        if name in topics
    }


def configure(connection: LogConnection, topics: Mapping[str, Mapping[str, str]]) -> None:
    """Set ``cleanup.policy`` and ``retention.ms`` of topics; what else is asked for this log does not have."""
    with connection.writing() as db:
        rows = db.execute("SELECT name, compacted, retention_ms FROM topics").fetchall()
        known = {str(name): (bool(compacted), int(str(retention))) for name, compacted, retention in rows}
        for name, settings in topics.items():
            if name not in known:
                raise missing(name)
            values = (*_keeping(settings, known[name]), name)
            db.execute("UPDATE topics SET compacted = ?, retention_ms = ? WHERE name = ?", values)


def register(connection: LogConnection, group: str, places: Iterable[Place]) -> None:
    """Make a group known, so that nothing is deleted before it has consumed it."""
    with connection.writing() as db:
        db.executemany("INSERT OR IGNORE INTO commits VALUES (?, ?, ?, 0)", [(group, *place) for place in places])


def commit(connection: LogConnection, group: str, offsets: Mapping[Place, int]) -> None:
    """Write a group's next offsets."""
    with connection.writing() as db:
        rows = [(group, *place, offset) for place, offset in offsets.items()]
        db.executemany("INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)", rows)


def unregister(connection: LogConnection, group: str) -> None:
    """Forget a group: nothing is kept for it any more."""
    with connection.writing() as db:
        db.execute("DELETE FROM commits WHERE consumer = ?", (group,))


def lag(connection: LogConnection, group: str, topics: Sequence[str]) -> dict[Place, tuple[int, int]]:
    """A group's next offset and the end by partition; where no record is left in between, the group is at the end.

    A group that starts late never meets the records that were deleted before.
    """
    done, result = committed(connection, group), {}
    for place, end in heads(connection).items():
        if place[0] in topics:
            after = done.get(place, 0)
            result[place] = (after if after < end and _any_from(connection, place, after) else end, end)
    return result


def _any_from(connection: LogConnection, place: Place, offset: int) -> bool:
    sql = "SELECT 1 FROM records WHERE topic = ? AND partition = ? AND offset >= ? LIMIT 1"
    return bool(connection.rows(sql, (*place, offset)))


def committed(connection: LogConnection, group: str) -> dict[Place, int]:
    """A group's next offsets."""
    rows = connection.rows("SELECT topic, partition, next FROM commits WHERE consumer = ?", (group,))
    return {(topic, partition): offset for topic, partition, offset in rows}
