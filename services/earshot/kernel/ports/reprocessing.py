"""The catalog: recordings whose transcripts are to be made again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from earshot.kernel.ports.recordings import Job


@dataclass(frozen=True)
class Selection:
    """Recordings whose latest attempt has ended; ``None`` does not restrict.

    Attributes:
        before: only attempts that were begun before: whoever asks in parts never meets what the parts before made.
        engine: wrote at least one of the attempt's segments down.
        degraded: a fallback wrote at least one of them down; ``False``: at least one was not.
        collection: the recording's.
        edited: also those whose words somebody corrected.
    """

    before: datetime
    engine: str | None = None
    degraded: bool | None = None
    collection: str | None = None
    edited: bool = False


class Reprocessing(Protocol):
    """Making transcripts again. Raises ``Unavailable("catalog", …)``."""

    async def matching(self, tenant: str, selection: Selection) -> int:
        """How many recordings of a tenant a selection finds."""

    async def reprocess(self, tenant: str, selection: Selection, limit: int, trace: dict[str, str]) -> list[Job]:
        """A new attempt (revision + 1) of so many of them, the oldest first; each with its outbox row at once."""
