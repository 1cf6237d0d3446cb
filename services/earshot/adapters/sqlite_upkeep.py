"""What is deleted from the SQLite log: retention, compaction, erasure. Never what a group has yet to consume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earshot.adapters.sqlite_connection import LogConnection
from earshot.adapters.sqlite_records import now_ms

if TYPE_CHECKING:
    import apsw

MINUTE_MS = 60 * 1000
TOMBSTONES_KEPT_MS = 24 * 60 * MINUTE_MS
"""How long a null value outlives its key in a compacted topic (Kafka's ``delete.retention.ms``)."""
ERASURES_KEPT_MS = 30 * 24 * 60 * MINUTE_MS
"""How long late records of an erased recording are deleted again."""

_CONSUMED = """
 AND offset < coalesce((SELECT min(next) FROM commits
                        WHERE commits.topic = records.topic AND commits.partition = records.partition),
                       9223372036854775807)
"""
_OF_RECORDING = "(key = ?1 OR (key >= ?2 AND key < ?3))"


def _key_range(recording_id: str) -> tuple[bytes, bytes, bytes]:
    """The recording's key, and the range of its segments' keys ``id:…``."""
    return recording_id.encode(), f"{recording_id}:".encode(), f"{recording_id};".encode()


def purge(connection: LogConnection, recording_id: str) -> int:
    """Delete the recording's consumed records on every topic, remember to delete the rest; return how many remain."""
    with connection.writing() as db:
        db.execute("INSERT OR REPLACE INTO erased VALUES (?, ?)", (recording_id, now_ms()))
        _delete_erased(db, recording_id)
    connection.truncate_wal()
    return remaining(connection, recording_id)


def remaining(connection: LogConnection, recording_id: str) -> int:
    """How many records of a recording the log holds."""
    [(count,)] = connection.rows(f"SELECT count(*) FROM records WHERE {_OF_RECORDING}", _key_range(recording_id))  # noqa: S608 - a constant
    return int(count)


def _delete_erased(db: apsw.Connection, recording_id: str) -> None:
    db.execute(f"DELETE FROM records WHERE {_OF_RECORDING} {_CONSUMED}", _key_range(recording_id))  # noqa: S608 - constants


def maintain(connection: LogConnection, every_ms: int = MINUTE_MS) -> bool:
    """Apply retention, compaction and pending erasures, once per ``every_ms`` over all processes.

    Returns:
        Whether it was due.
    """
    if not _claim(connection, every_ms):
        return False
    for name, compacted, retention_ms in connection.rows("SELECT name, compacted, retention_ms FROM topics"):
        if compacted:
            _compact(connection, name)
        elif retention_ms >= 0:
            with connection.writing() as db:
                db.execute(
                    f"DELETE FROM records WHERE topic = ? AND timestamp_ms < ? {_CONSUMED}",  # noqa: S608 - constants
                    (name, now_ms() - retention_ms),
                )
    for (recording_id,) in connection.rows("SELECT recording_id FROM erased"):
        with connection.writing() as db:
            _delete_erased(db, recording_id)
    with connection.writing() as db:
        db.execute("DELETE FROM erased WHERE at_ms < ?", (now_ms() - ERASURES_KEPT_MS,))
    connection.truncate_wal()
    return True


def _claim(connection: LogConnection, every_ms: int) -> bool:
    with connection.writing() as db:
        row = db.execute("SELECT at_ms FROM maintained WHERE what = 'all'").fetchone()
        if row is not None and now_ms() - every_ms < row[0]:
            return False
        db.execute("INSERT OR REPLACE INTO maintained VALUES ('all', ?, 0)", (now_ms(),))
        return True


def _compact(connection: LogConnection, topic: str) -> None:
    """Keep the last record of every key, looking only at keys written since the last time; drop old null values."""
    row = connection.rows("SELECT compacted_to FROM maintained WHERE what = ?", (topic,))
    with connection.writing() as db:
        db.execute(
            f"""DELETE FROM records WHERE topic = ?1 {_CONSUMED}
                AND key IN (SELECT key FROM records WHERE id > ?2 AND topic = ?1)
                AND EXISTS (SELECT 1 FROM records AS newer WHERE newer.topic = ?1 AND newer.key = records.key
                            AND newer.partition = records.partition AND newer.offset > records.offset)""",  # noqa: S608 - constants
            (topic, row[0][0] if row else 0),
        )
        db.execute(
            f"DELETE FROM records WHERE topic = ? AND value IS NULL AND timestamp_ms < ? {_CONSUMED}",  # noqa: S608 - constants
            (topic, now_ms() - TOMBSTONES_KEPT_MS),
        )
        db.execute("INSERT OR REPLACE INTO maintained VALUES (?, ?, ?)", (topic, now_ms(), _settled(db, topic)))


def _settled(db: apsw.Connection, topic: str) -> int:
    """The highest record id below which every group has consumed the topic: keys up to there are done with."""
    sql = """SELECT coalesce(
        (SELECT min(records.id) - 1 FROM records,
                (SELECT partition, min(next) AS low FROM commits WHERE topic = ?1 GROUP BY partition) AS lowest
         WHERE records.topic = ?1 AND records.partition = lowest.partition AND records.offset >= lowest.low),
        (SELECT max(id) FROM records), 0)"""
    row = db.execute(sql, (topic,)).fetchone()
    assert row is not None
    return int(str(row[0]))
