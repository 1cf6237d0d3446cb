"""The catalog: the authority on what exists, in SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from earshot.adapters.catalog.answers import AnswersPart, SpendingPart
from earshot.adapters.catalog.attempts import AttemptsPart, LeasesPart
from earshot.adapters.catalog.audit import AuditPart
from earshot.adapters.catalog.census import CensusPart
from earshot.adapters.catalog.editing import EditingPart
from earshot.adapters.catalog.engine import Database
from earshot.adapters.catalog.forget import ErasuresPart
from earshot.adapters.catalog.heartbeats import HeartbeatsPart
from earshot.adapters.catalog.indexes import IndexesPart
from earshot.adapters.catalog.keys import KeysPart
from earshot.adapters.catalog.leaving import LeavingPart
from earshot.adapters.catalog.ledger import LedgerPart
from earshot.adapters.catalog.letters import LettersPart
from earshot.adapters.catalog.outbox import OutboxPart
from earshot.adapters.catalog.quotas import QuotasPart
from earshot.adapters.catalog.recordings import RecordingsPart
from earshot.adapters.catalog.reprocessing import ReprocessingPart
from earshot.adapters.catalog.retention import RetentionPart
from earshot.adapters.catalog.spans import SpansPart
from earshot.adapters.catalog.speakers import SpeakersPart
from earshot.adapters.catalog.standings import StandingsPart
from earshot.adapters.catalog.transcripts import TranscriptsPart
from earshot.adapters.catalog.upkeep import CollectionsPart, UpkeepPart
from earshot.adapters.guard import CATALOG, Figures
from earshot.kernel.codec import Codec
from earshot.kernel.ports.quotas import Limits

NO_LIMITS = Limits()


class Catalog(
    RecordingsPart,
    StandingsPart,
    OutboxPart,
    LedgerPart,
    TranscriptsPart,
    SpeakersPart,
    AttemptsPart,
    LeasesPart,
    CollectionsPart,
    HeartbeatsPart,
    SpansPart,
    UpkeepPart,
    ErasuresPart,
    IndexesPart,
    ReprocessingPart,
    EditingPart,
    LettersPart,
    LeavingPart,
    RetentionPart,
    KeysPart,
    AuditPart,
    QuotasPart,
    AnswersPart,
    SpendingPart,
    CensusPart,
):
    """Everything the kernel asks of a catalog; each part is a file of its own.

    Every method raises ``Unavailable("catalog", …)`` when the database does not answer in time.

    Args:
        url: of SQLAlchemy: ``sqlite:///path`` or ``postgresql+psycopg://…``.
        codec: frames the events that leave through the outbox.
        figures: of the breakers.
        limits: of tenants without limits of their own.
    """

    def __init__(self, url: str, codec: Codec, figures: Figures = CATALOG, limits: Limits = NO_LIMITS) -> None:
        super().__init__(Database(url, figures), codec, limits)

    async def migrate(self) -> None:
        """Make the tables, or bring them to this version; safe when several processes start at once."""
        database = self._db.engine.url.database
        if self._db.engine.dialect.name == "sqlite" and database:
            await asyncio.to_thread(Path(database).parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(self._db.migrate)

    async def ready(self) -> None:
        """Return when the database answers and its tables are those of this version. Raises ``Unavailable``."""
        await self._db.look(self._check)

    def _check(self, connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1"))
        self._db.check(connection)

    async def close(self) -> None:
        """Let go of connections."""
        await self._db.close()
