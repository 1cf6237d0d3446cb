"""Embedding models, and where passages are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


class Encoder(Protocol):
    """An embedding model; passages and queries go through the same one."""

    model: str
    dimensions: int

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text. Raises ``Unavailable``."""

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question. Raises ``Unavailable``."""


class Reranker(Protocol):
    """A model that judges the best candidates again, question and passage side by side.

    It improves an order that is there already: when it raises, the search keeps that order and says so.
    """

    model: str

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score a text, higher is better; comparable within one call only.

        Answers within its own deadline. Raises ``Unavailable("reranker", …)`` when it does not, ``Misconfigured`` when
        it never will.
        """


@dataclass(frozen=True)
class IndexedPassage:
    """A passage as the vector store holds it."""

    id: str
    recording_id: str
    revision: int
    segment_index: int
    ordinal: int
    start_ms: int
    end_ms: int
    text: str
    collection: str
    language: str
    speakers: tuple[str, ...]
    recorded_at: datetime | None
    degraded: bool
    vector: tuple[float, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class PassageSet:
    """All passages of one segment at one revision; what :meth:`VectorStore.replace` makes the segment hold."""

    recording_id: str
    revision: int
    segment_index: int
    passages: tuple[IndexedPassage, ...]


def by_label(called: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Recordings by label, of (recording, label)."""
    found: dict[str, list[str]] = {}
    for recording_id, label in called:
        found.setdefault(label, []).append(recording_id)
    return found


@dataclass(frozen=True)
class SearchFilters:
    """What a hit must satisfy; empty or ``None`` fields do not restrict. Times bound ``recorded_at``, inclusively.

    ``called`` goes with ``speaker``: (recording, label) of those who have it for a name, and count as well.
    ``collections`` are the only ones that are looked in, beside ``collection``; ``None``: all.
    """

    recording_ids: tuple[str, ...] = ()
    collection: str | None = None
    speaker: str | None = None
    called: tuple[tuple[str, str], ...] = ()
    language: str | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None
    collections: tuple[str, ...] | None = None


SearchMode = Literal["hybrid", "keyword", "vector"]


@dataclass(frozen=True)
class ScoredPassage:
    """A hit: the passage (without its vector) and its score, higher is better; comparable within one answer only."""

    passage: IndexedPassage
    score: float


class VectorStore(Protocol):
    """Where passages are found. An index holds the vectors of one model; within it, tenants are kept apart.

    Every method raises ``Unavailable("vectors", …)`` when the store does not answer. Writes return when the store has
    confirmed every object.
    """

    async def prepare(self, index: str, dimensions: int) -> None:
        """Create the index unless it is there."""

    async def replace(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        revision: int,
        segment_index: int,
        passages: Sequence[IndexedPassage],
    ) -> None:
        """Make these the only passages of the segment at this revision or below. Passages of higher ones stay."""

    async def replace_many(self, index: str, tenant: str, sets: Sequence[PassageSet]) -> None:
        """``replace`` for several segments in as few calls to the store as it can; the same outcome, in order."""

    async def delete(
        self,
        index: str,
        tenant: str,
        recording_id: str,
        *,
        revision: int | None = None,
        up_to: int | None = None,
        segment_index: int | None = None,
    ) -> None:
        """Delete a recording's passages: of one revision, of those up to one, of one segment, or all."""

    async def search(
        self,
        index: str,
        tenant: str,
        *,
        text: str,
        vector: Sequence[float] | None,
        mode: SearchMode,
        filters: SearchFilters,
        limit: int,
    ) -> list[ScoredPassage]:
        """The best passages, best first."""

    async def passages_of(self, index: str, tenant: str, recording_id: str) -> list[IndexedPassage]:
        """Every passage of a recording, of every revision, without vectors."""

    async def relabel(self, index: str, tenant: str, speakers: Mapping[str, Sequence[str]]) -> None:
        """Say who speaks in passages, by their ids. One that is gone meanwhile stays gone."""

    async def count(self, index: str, tenant: str, recording_id: str | None = None) -> int:
        """How many passages a tenant, or one recording of its, has."""

    async def indexes(self) -> list[str]:
        """Every index there is: an erasure goes to all of them."""

    async def serve(self, index: str) -> None:
        """Point the store's own alias at the index, where other clients of the store look for one."""

    async def drop(self, index: str) -> None:
        """Delete an index with all its passages; one that is not there is no error."""

    async def forget(self, index: str, tenant: str) -> None:
        """Delete every passage of a tenant; an index or a tenant that is not there is no error."""

    async def ping(self) -> None:
        """Return when the store answers."""

    async def close(self) -> None:
        """Let go of connections and files."""
