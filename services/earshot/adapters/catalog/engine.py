"""The database: one small transaction a call, in a thread, with an end to every wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from earshot.adapters.guard import CATALOG, Figures, Guards
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable

T = TypeVar("T")
Unit = Callable[[sa.Connection], T]

THREADS = 4
BUSY_S = 15.0
"""How long a writer waits for the others; eight processes share an embedded catalog."""
CALL_S = 30.0
"""No call takes longer; the caller is told that the catalog does not answer."""
SAFE_WAL = (3, 51, 3)
"""Older SQLite can corrupt a write-ahead log that several connections write (https://sqlite.org/wal.html)."""
CONNECT_S = 5
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
"""Of libpq: a server that is gone without a word is noticed after 25 s, so that its connection's thread is free again
before ``CALL_S``; the kernel by itself takes two hours."""
MIGRATION_LOCK = 0x6561_7273
"""Key of PostgreSQL's advisory lock around migrations."""


class Database:
    """Runs functions of a connection inside transactions.

    Args:
        url: of SQLAlchemy: ``sqlite:///path`` or ``postgresql+psycopg://…``.
        figures: of the breakers.

    Raises:
        Misconfigured: the URL names neither, or cannot be read.
    """

    def __init__(self, url: str, figures: Figures = CATALOG) -> None:
        self.engine = _engine(url)
        self.guards = Guards("catalog", figures)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="catalog")

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads. Raises ``Unavailable``."""
        with self.guards.reads.asking():
            return await self._in_thread(lambda: self._run(unit, writing=False))

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit in one writing transaction. Raises ``Unavailable``; whatever it raises undoes it."""
        with self.guards.writes.asking():
            return await self._in_thread(lambda: self._run(unit, writing=True))

    async def look(self, unit: Unit[T]) -> T:
        """:meth:`read` however often the database has failed; when it answers, it counts as alive again."""
        answer = await self._in_thread(lambda: self._run(unit, writing=False))
        self.guards.alive()
        return answer

    def read_now(self, unit: Unit[T]) -> T:
        """:meth:`read`, on the thread it is called on."""
        with self.guards.reads.asking():
            return self._run(unit, writing=False)

    def write_now(self, unit: Unit[T]) -> T:
        """:meth:`write`, on the thread it is called on."""
        with self.guards.writes.asking():
            return self._run(unit, writing=True)

    async def close(self) -> None:
        """Let go of every connection."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_S):
                return await loop.run_in_executor(self._threads, call)
        except TimeoutError:
            raise Unavailable("catalog", f"The catalog did not answer within {CALL_S:.0f} s.") from None

    def _run(self, unit: Unit[T], *, writing: bool) -> T:
        try:
            engine = self.engine.execution_options(writing=writing)
            with engine.begin() as connection:
                return unit(connection)
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError) as error:
            raise Unavailable(
                "catalog", _cause(error), next_step="Check EARSHOT_CATALOG_URL, the server and its disk."
            ) from error
        except (sa.exc.DataError, UnicodeError, OverflowError) as error:
            raise Permanent(f"The catalog cannot hold this value: {type(error).__name__}.") from error

    def migrate(self) -> None:
        """Bring the tables to this version; safe when several processes start at once."""
        self.write_now(self._upgrade)

    def _upgrade(self, connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def check(self, connection: sa.Connection) -> None:
        """Raises ``Unavailable`` when the tables are not those of this version."""
        found = MigrationContext.configure(connection).get_current_revision()
        wanted = ScriptDirectory.from_config(_alembic()).get_current_head()
        if found != wanted:
            raise Unavailable(
                "catalog",
                f"The catalog's tables are at version {found or 'none'}, this program needs {wanted}.",
                next_step="Run `earshot topics create`, which also makes the tables.",
            )


def insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert:
    """An insert that knows ``on_conflict``; both dialects spell it alike."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    like: Any = sqlite.insert(table)
    return like  # type: ignore[no-any-return]


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _cause(error: Exception) -> str:
    """The driver's own sentence, without the statement and its values: those may be somebody's words."""
    cause = getattr(error, "orig", None) or error
    return f"The catalog does not answer: {type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}"


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise Misconfigured(
            "EARSHOT_CATALOG_URL is no URL.", next_step="Use sqlite:///path or postgresql://…"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise Misconfigured(f"EARSHOT_CATALOG_URL is neither sqlite:/// nor postgresql://: {parsed.drivername}")


def _postgresql(url: sa.URL) -> sa.Engine:
    limits = f"-c statement_timeout={int(CALL_S * 900)} -c lock_timeout={int(BUSY_S * 1000)}"
    if (said := url.query.get("options")) is not None:
        limits = f"{limits} {said}"
    return sa.create_engine(
        url,
        pool_size=THREADS,
        max_overflow=2,
        pool_timeout=BUSY_S,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_S, "options": limits, **KEEPALIVES},
    )


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise Misconfigured("EARSHOT_CATALOG_URL names no file.", next_step="Use sqlite:///path.")
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=THREADS,
        max_overflow=2,
        pool_timeout=BUSY_S,
        hide_parameters=True,
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
    wanted = "wal" if sqlite3.sqlite_version_info >= SAFE_WAL else "delete"
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
        connection.execute(f"PRAGMA journal_mode={wanted}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA secure_delete=ON")  # what is erased is overwritten, not merely unlinked


def _begin_sqlite(connection: sa.Connection) -> None:
    writing = connection.get_execution_options().get("writing", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
