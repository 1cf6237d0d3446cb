"""One SQLite connection of the log, used by one thread: opened with the log's pragmas, writing under one file lock.

SQLite before 3.51.3 can corrupt a WAL that several connections write and checkpoint at once; the lock is taken
around every write, and APSW brings a library that is new enough.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable

if TYPE_CHECKING:
    import apsw

BUSY_S = 20.0
"""How long a write waits for other processes before the log counts as unavailable."""
_LEAST_SQLITE = 3_051_003
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL,
                     retention_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE heads (topic TEXT, partition INTEGER, next INTEGER NOT NULL,
                    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE records (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
                      offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, headers TEXT,
                      key BLOB, value BLOB);
CREATE UNIQUE INDEX records_place ON records (topic, partition, offset);
CREATE INDEX records_key ON records (key, topic, partition, offset) WHERE key IS NOT NULL;
CREATE INDEX records_age ON records (topic, timestamp_ms);
CREATE INDEX records_null ON records (topic, timestamp_ms) WHERE value IS NULL;
CREATE TABLE commits (consumer TEXT, topic TEXT, partition INTEGER, next INTEGER NOT NULL,
                      PRIMARY KEY (consumer, topic, partition)) WITHOUT ROWID;
CREATE TABLE erased (recording_id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE maintained (what TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, compacted_to INTEGER NOT NULL) WITHOUT ROWID;
"""


class LogConnection:
    """A connection and its handle on the write lock.

    Args:
        path: the log's file; made when missing.
        durable: whether a commit is on the disk when it returns (``synchronous=FULL``).
    """

    def __init__(self, path: Path, *, durable: bool) -> None:
        import apsw

        if apsw.SQLITE_VERSION_NUMBER < _LEAST_SQLITE:
            raise Misconfigured(
                f"SQLite {apsw.sqlite_lib_version()} can corrupt a log that several processes write.",
                next_step="Install apsw 3.51.3 or newer.",
            )
        self._path = path
        self._lock = -1
        with reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            self.db: apsw.Connection = apsw.Connection(str(path))
            self.db.set_busy_timeout(int(BUSY_S * 1000))
            self._prepare(durable=durable)

    def _prepare(self, *, durable: bool) -> None:
        with self._locked():
            self.db.pragma("journal_mode", "wal")
            self.db.pragma("synchronous", "full" if durable else "normal")
            self.db.pragma("secure_delete", 1)
            version = self.db.pragma("user_version")
            if version == 0:
                with self.db:
                    self.db.execute(_SCHEMA)
                    self.db.pragma("user_version", _SCHEMA_VERSION)
            elif version != _SCHEMA_VERSION:
                raise Misconfigured(
                    f"The log {self._path} has format {version}, this version reads {_SCHEMA_VERSION}.",
                    next_step="Use the version of Earshot that wrote it, or another data folder.",
                )

    def rows(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query; no read transaction stays open."""
        with reported(self._path):
            return self.db.execute(sql, bindings).fetchall()

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """A write transaction under the lock. Raises ``Unavailable`` when others hold it for too long."""
        with reported(self._path), self._locked():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def truncate_wal(self) -> None:
        """Move the WAL into the database and empty it, unless a reader needs it now; then a later call does."""
        with reported(self._path), self._locked():
            self.db.set_busy_timeout(0)
            try:
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self.db.set_busy_timeout(int(BUSY_S * 1000))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline, pause = time.monotonic() + BUSY_S, 0.0002
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("broker", f"Another process keeps {self._path} locked.") from None
                time.sleep(pause)
                pause = min(pause * 2, 0.002)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the connection and let go of the lock file."""
        self.db.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _failures() -> tuple[type[Exception], ...]:
    """What SQLite raises when the disk or another process is the cause."""
    import apsw

    return (
        apsw.FullError,
        apsw.IOError,
        apsw.BusyError,
        apsw.LockedError,
        apsw.CantOpenError,
        apsw.ReadOnlyError,
        OSError,
    )


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into the errors of the port."""
    import apsw

    try:
        yield
    except EarshotError:
        raise
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise Misconfigured(
            f"{path} is damaged or no log: {error}.", next_step="Restore it from a backup, or use another folder."
        ) from error
    except _failures() as error:
        raise Unavailable(
            "broker",
            f"The log {path} cannot be used: {error}.",
            next_step="Check that the disk has space and the file can be written.",
        ) from error
