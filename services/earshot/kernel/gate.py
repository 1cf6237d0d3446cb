"""The gate: may this work still be done? Asked before a stage works, and again after its outputs are confirmed.

Declare, write, read again. The catalog is changed first (an erasure, a cancellation, a higher revision), then the
consequences are carried out; a stage writes its outputs first, then reads the catalog again. Whichever of the two
comes second sees the other, so what was erased, cancelled or overtaken meanwhile is always undone by one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from earshot.kernel.events import Event

RecordingKey = tuple[str, str]
"""Tenant and recording id."""


class Verdict(Enum):
    """What the catalog says about one event."""

    GO = "go"
    ERASED = "erased"
    CANCELLED = "cancelled"
    OVERTAKEN = "overtaken"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Standing:
    """Where a recording stands.

    Attributes:
        state: of the latest revision.
        revision: the latest one the catalog knows.
        visible_from: the lowest revision whose passages may be found; rises when a later one completes.
        cancelled: lower revisions from ``visible_from`` on that were cancelled.
    """

    state: Literal["live", "cancelled", "erased"]
    revision: int
    visible_from: int = 1
    cancelled: frozenset[int] = frozenset()


class Standings(Protocol):
    """The part of the catalog that the gate reads."""

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        """The standing of each recording known; the others are left out. One query for all."""


def judge(standing: Standing | None, revision: int) -> Verdict:
    """The verdict on work of a revision."""
    if standing is None or revision > standing.revision:
        return Verdict.UNKNOWN
    if standing.state == "erased":
        return Verdict.ERASED
    if revision < standing.revision:
        return Verdict.OVERTAKEN
    return Verdict.CANCELLED if standing.state == "cancelled" else Verdict.GO


def visible(standing: Standing | None, revision: int) -> bool:
    """Whether what was made for a revision may be shown."""
    if standing is None or standing.state == "erased":
        return False
    if standing.state == "cancelled" and revision == standing.revision:
        return False
    return standing.visible_from <= revision <= standing.revision and revision not in standing.cancelled


def judge_shown(standing: Standing | None, revision: int) -> Verdict:
    """As :func:`judge`, but a lower revision is worked on for as long as what is made of it may be shown.

    For the stages that fill an index: one that is built anew from the log must hold all that the old one shows.
    """
    verdict = judge(standing, revision)
    return Verdict.GO if verdict is Verdict.OVERTAKEN and visible(standing, revision) else verdict


Judge = Callable[[Standing | None, int], Verdict]
"""How a stage takes what the catalog says of a recording."""


class Gate:
    """Asks the catalog about a whole batch at once."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings

    async def verdicts(self, events: Sequence[Event], by: Judge = judge) -> list[Verdict]:
        """One verdict an event, in order. Raises ``Unavailable`` when the catalog does not answer."""
        found = await self._standings.standings({(event.tenant, event.recording_id) for event in events})
        return [by(found.get((event.tenant, event.recording_id)), event.revision) for event in events]
