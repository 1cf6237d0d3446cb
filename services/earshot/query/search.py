"""From a question to the passages that answer it, each at its second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from earshot.kernel import ids
from earshot.kernel.errors import EarshotError, Permanent
from earshot.kernel.gate import RecordingKey, Standing, visible
from earshot.kernel.ports import (
    Encoder,
    IndexedPassage,
    Reranker,
    ScoredPassage,
    SearchFilters,
    SearchMode,
    VectorStore,
)
from earshot.kernel.question import Question, read
from earshot.kernel.telemetry import span, trace_id_of
from earshot.query.hits import Known, described
from earshot.query.messages import Filters, SearchAnswer, SearchRequest
from earshot.query.ranking import Candidates, rank

CANDIDATES = 100
"""At least so many are taken from each list: enough of a conversation to see where it is about what was asked."""
SPARE = 3
"""And so many times more than asked for: some are not visible, some are the same stretch again."""
MOST_FETCHED = 2000
MOST_NAMESAKES = 1000
"""Recordings in which one name was given; more make a filter that no store answers well."""
JUDGED = 20
"""So many of the best are judged again where there is a reranker."""


class Library(Known, Protocol):
    """The part of the catalog that a search reads."""

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        """As in :class:`earshot.kernel.gate.Standings`."""

    async def speakers_named(self, tenant: str, name: str, limit: int) -> list[tuple[str, str]]:
        """As in :class:`earshot.kernel.ports.speakers.Speakers`."""


@dataclass(frozen=True)
class Judge:
    """A reranker, and how many of the best passages it is shown."""

    reranker: Reranker
    candidates: int = JUDGED


@dataclass
class _Finding:
    """What one search needs, and what came of it beside its hits."""

    request: SearchRequest
    tenant: str
    encoder: Encoder
    vectors: VectorStore
    library: Library
    judge: Judge | None
    question: Question
    called: tuple[tuple[str, str], ...] = ()
    within: tuple[str, ...] | None = None
    reranker: str | None = None
    notices: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """The best passages, before anything is known of their recordings; and what a search says beside its hits."""

    passages: list[ScoredPassage]
    reranker: str | None
    notices: list[str]


async def find(
    request: SearchRequest,
    tenant: str,
    encoder: Encoder,
    vectors: VectorStore,
    library: Library,
    judge: Judge | None = None,
    within: tuple[str, ...] | None = None,
) -> Found:
    """As :func:`search`, but passages, for who makes something else of them than hits. Through the gate as well."""
    called = await _called(request.filters.speaker, tenant, library)
    finding = _Finding(request, tenant, encoder, vectors, library, judge, read(request.query), called, within)
    return Found(await _find(finding), finding.reranker, finding.notices)


async def search(
    request: SearchRequest,
    tenant: str,
    encoder: Encoder,
    vectors: VectorStore,
    library: Library,
    judge: Judge | None = None,
    within: tuple[str, ...] | None = None,
) -> SearchAnswer:
    """The passages of a tenant that answer a question best.

    Nothing erased is shown or counts, whatever the index still holds. Passages that overlap are one hit: of two
    revisions the higher, else the better one. A reranker that fails is left out, and the answer says so. ``within``:
    the only collections that are looked in.

    Raises:
        Unavailable: the vector store, the catalog or the model does not answer.
    """
    started = time.perf_counter()
    with span("search", **{"earshot.mode": request.mode, "earshot.top_k": request.top_k}) as current:
        found = await find(request, tenant, encoder, vectors, library, judge, within)
        with span("look up the recordings"):
            hits = await described(found.passages, request.query, tenant, library)
        took_ms = round((time.perf_counter() - started) * 1000)
        return SearchAnswer(
            hits=hits,
            took_ms=took_ms,
            trace_id=trace_id_of(current),
            reranker=found.reranker,
            notices=found.notices,
        )


async def filters_of(
    given: Filters, tenant: str, library: Library, within: tuple[str, ...] | None = None
) -> SearchFilters:
    """Filters as the vector store takes them, names of speakers looked up. Raises ``Permanent``."""
    return replace(_filters(given, await _called(given.speaker, tenant, library)), collections=within)


async def _find(finding: _Finding) -> list[ScoredPassage]:
    """The best visible passages; asks for more while too many of those found may not be shown."""
    request = finding.request
    limit = max(CANDIDATES, request.top_k * SPARE)
    while True:
        candidates = await _candidates(finding, limit)
        full = limit in (len(candidates.keyword), len(candidates.vector))
        seen = await _visible(candidates, finding.tenant, finding.library)
        with span("rank"):
            shown = distinct(rank(seen, finding.question, request.mode))
        if len(shown) >= request.top_k or not full or limit >= MOST_FETCHED:
            break
        limit = min(limit * 4, MOST_FETCHED)
    if finding.judge is not None and request.mode == "hybrid" and shown:
        shown = await _judged(finding, finding.judge, seen, shown)
    return shown[: request.top_k]


async def _candidates(finding: _Finding, limit: int) -> Candidates:
    """What the store finds by words and by meaning, side by side, as far as the mode asks for either."""
    request, encoder = finding.request, finding.encoder
    index = ids.index_name(encoder.model, encoder.dimensions)
    filters = replace(_filters(request.filters, finding.called), collections=finding.within)

    async def ask(mode: SearchMode) -> list[ScoredPassage]:
        text, vector = finding.question.keywords, None
        if mode == "vector":
            with span("embed the query"):
                vector = await encoder.encode_query(request.query)
        with span("ask the vector store", **{"earshot.mode": mode}):
            return await finding.vectors.search(
                index, finding.tenant, text=text, vector=vector, mode=mode, filters=filters, limit=limit
            )

    if request.mode != "hybrid":
        found = await ask(request.mode)
        return Candidates(found if request.mode == "keyword" else (), found if request.mode == "vector" else (), limit)
    by_words, by_vector = await asyncio.gather(ask("keyword"), ask("vector"))
    return Candidates(by_words, by_vector, limit)


async def _visible(candidates: Candidates, tenant: str, library: Library) -> Candidates:
    keys = {(tenant, passage.recording_id) for passage in candidates.passages.values()}
    standings = await library.standings(keys)

    def shown(hits: Sequence[ScoredPassage]) -> list[ScoredPassage]:
        return [hit for hit in hits if visible(standings.get((tenant, hit.passage.recording_id)), hit.passage.revision)]

    return replace(candidates, keyword=shown(candidates.keyword), vector=shown(candidates.vector))


async def _judged(
    finding: _Finding, judge: Judge, candidates: Candidates, ranked: list[ScoredPassage]
) -> list[ScoredPassage]:
    """Ranked again with what the reranker says of the best; as it was when it fails."""
    best = [hit.passage for hit in ranked[: judge.candidates]]
    try:
        with span("rerank", **{"earshot.model": judge.reranker.model}):
            scores = await judge.reranker.rerank(finding.request.query, [passage.text for passage in best])
    except EarshotError as error:
        finding.notices.append(f"Not reranked: {error}")
        return ranked
    finding.reranker = judge.reranker.model
    judged = {passage.id: score for passage, score in zip(best, scores, strict=True)}
    again = replace(candidates, judged=judged)
    return distinct(rank(again, finding.question, finding.request.mode))


async def _called(name: str | None, tenant: str, library: Library) -> tuple[tuple[str, str], ...]:
    """(recording, label) of everyone who was given that name. Raises ``Permanent`` (``too_many_namesakes``)."""
    found = await library.speakers_named(tenant, name, MOST_NAMESAKES + 1) if name else []
    if len(found) > MOST_NAMESAKES:
        raise Permanent(
            f"The name {name!r} was given in more than {MOST_NAMESAKES} recordings.",
            next_step="Name recordings with filters.recording_id, and search by their labels.",
            code="too_many_namesakes",
        )
    return tuple(found)


def _filters(given: Filters, called: tuple[tuple[str, str], ...] = ()) -> SearchFilters:
    recordings = given.recording_id or ()
    return SearchFilters(
        recording_ids=(recordings,) if isinstance(recordings, str) else tuple(recordings),
        collection=given.collection,
        speaker=given.speaker,
        called=called,
        language=given.language,
        recorded_from=given.from_,
        recorded_to=given.to,
    )


def distinct(found: Sequence[ScoredPassage]) -> list[ScoredPassage]:
    """One hit for each stretch of a recording, best first; a higher revision takes a lower one's place."""
    kept: list[ScoredPassage] = []
    places: dict[str, list[int]] = {}
    for hit in found:
        mine = places.setdefault(hit.passage.recording_id, [])
        same = [place for place in mine if _overlap(kept[place].passage, hit.passage)]
        if not same:
            mine.append(len(kept))
            kept.append(hit)
            continue
        first = same[0]
        if hit.passage.revision > kept[first].passage.revision:
            kept[first] = ScoredPassage(hit.passage, kept[first].score)
    return kept


def _overlap(one: IndexedPassage, other: IndexedPassage) -> bool:
    if (one.start_ms, one.end_ms) == (other.start_ms, other.end_ms):
        return True
    return max(one.start_ms, other.start_ms) < min(one.end_ms, other.end_ms)
