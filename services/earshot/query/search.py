"""From a question to the passages that answer it, each at its second."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from earshot.kernel import ids
from earshot.kernel.events import SegmentTranscribed, Word
from earshot.kernel.gate import RecordingKey, Standing, visible
from earshot.kernel.ports import (
    Encoder,
    IndexedPassage,
    Recording,
    ScoredPassage,
    SearchFilters,
    SearchMode,
    VectorStore,
)
from earshot.kernel.telemetry import span, trace_id_of
from earshot.query.context import around, words_of
from earshot.query.locate import locate

SPARE = 3
"""So many times more than asked for are fetched at first: some are not visible, some are the same stretch again."""
MOST_FETCHED = 2000

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Filters(BaseModel):
    """What every hit must satisfy; what is left out does not restrict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    recording_id: Name | Annotated[list[Name], Field(max_length=100)] | None = Field(
        None, description="One or several."
    )
    collection: Name | None = Field(None, description="The collection it was uploaded to.")
    speaker: Name | None = Field(None, description="A label that speaks in the passage.")
    language: Name | None = Field(None, description="BCP 47, as spoken.")
    from_: datetime | None = Field(None, alias="from", description="Recorded at this time or later.")
    to: datetime | None = Field(None, description="Recorded at this time or earlier.")


class SearchRequest(BaseModel):
    """A question in plain words; no character in it means anything special."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "ask what you can do for your country", "top_k": 3}]},
    )

    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    top_k: int = Field(10, ge=1, le=100, description="At most so many hits.")
    mode: SearchMode = Field("hybrid", description="By words and meaning, by words alone, or by meaning alone.")
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))


class Hit(BaseModel):
    """A passage that answers, and where it was said."""

    recording_id: str
    title: str
    recorded_at: datetime | None
    start_ms: int = Field(
        description="Where the wording of the question begins, else the passage; from the recording's start."
    )
    end_ms: int = Field(description="Where the passage ends.")
    text: str = Field(description="The passage.")
    words: list[Word] = Field(description="With their times; empty for transcripts without.")
    context_before: str = Field(description="What was said just before.")
    context_after: str = Field(description="What was said just after.")
    speakers: list[str]
    score: float = Field(description="Higher is better; comparable within one answer only.")
    media_url: str | None = Field(description="The audio at this stretch (W3C Media Fragments); null without audio.")
    degraded: bool = Field(description="A fallback engine wrote it down.")


class SearchAnswer(BaseModel):
    """The best passages, best first."""

    hits: list[Hit]
    took_ms: int
    trace_id: str


class Library(Protocol):
    """The part of the catalog that a search reads."""

    async def standings(self, keys: Collection[RecordingKey]) -> Mapping[RecordingKey, Standing]:
        """As in :class:`earshot.kernel.gate.Standings`."""

    async def recording(self, tenant: str, recording_id: str) -> Recording | None:
        """As in :class:`earshot.kernel.ports.Recordings`."""

    async def segments(self, tenant: str, recording_id: str, indexes: Collection[int]) -> list[SegmentTranscribed]:
        """As in :class:`earshot.kernel.ports.Transcripts`."""


async def search(
    request: SearchRequest, tenant: str, encoder: Encoder, vectors: VectorStore, library: Library
) -> SearchAnswer:
    """The passages of a tenant that answer a question best.

    Nothing erased is shown, whatever the index still holds. Passages that overlap are one hit: of two revisions the
    higher, else the better one.

    Raises:
        Unavailable: the vector store, the catalog or the model does not answer.
    """
    started = time.perf_counter()
    with span("search", **{"earshot.mode": request.mode, "earshot.top_k": request.top_k}) as current:
        found = await _find(request, tenant, encoder, vectors, library)
        with span("look up the recordings"):
            hits = await _describe(found, request.query, tenant, library)
        took_ms = round((time.perf_counter() - started) * 1000)
        return SearchAnswer(hits=hits, took_ms=took_ms, trace_id=trace_id_of(current))


async def _find(
    request: SearchRequest, tenant: str, encoder: Encoder, vectors: VectorStore, library: Library
) -> list[ScoredPassage]:
    """The best visible passages; asks for more while too many of those found may not be shown."""
    vector = None
    if request.mode != "keyword":
        with span("embed the query"):
            vector = await encoder.encode_query(request.query)
    limit = request.top_k * SPARE
    while True:
        with span("ask the vector store"):
            found = await vectors.search(
                ids.index_name(encoder.model, encoder.dimensions),
                tenant,
                text=request.query,
                vector=vector,
                mode=request.mode,
                filters=_filters(request.filters),
                limit=limit,
            )
        shown = distinct(await _visible(found, tenant, library))
        if len(shown) >= request.top_k or len(found) < limit or limit >= MOST_FETCHED:
            return shown[: request.top_k]
        limit = min(limit * 4, MOST_FETCHED)


def _filters(given: Filters) -> SearchFilters:
    recordings = given.recording_id or ()
    return SearchFilters(
        recording_ids=(recordings,) if isinstance(recordings, str) else tuple(recordings),
        collection=given.collection,
        speaker=given.speaker,
        language=given.language,
        recorded_from=given.from_,
        recorded_to=given.to,
    )


async def _visible(found: Sequence[ScoredPassage], tenant: str, library: Library) -> list[ScoredPassage]:
    standings = await library.standings({(tenant, hit.passage.recording_id) for hit in found})
    return [hit for hit in found if visible(standings.get((tenant, hit.passage.recording_id)), hit.passage.revision)]


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


async def _describe(found: Sequence[ScoredPassage], query: str, tenant: str, library: Library) -> list[Hit]:
    """What the catalog knows of the hits: one look for each recording. One erased in this moment is left out."""
    hits: dict[int, Hit] = {}
    for recording_id in dict.fromkeys(hit.passage.recording_id for hit in found):
        recording = await library.recording(tenant, recording_id)
        if recording is None:
            continue
        mine = {place: hit for place, hit in enumerate(found) if hit.passage.recording_id == recording_id}
        near = {hit.passage.segment_index + step for hit in mine.values() for step in (-1, 0, 1)}
        segments = await library.segments(tenant, recording_id, {index for index in near if index >= 0})
        by_index = {segment.index: segment for segment in segments}
        hits |= {place: _hit(hit, query, recording, by_index) for place, hit in mine.items()}
    return [hits[place] for place in sorted(hits)]


def _hit(found: ScoredPassage, query: str, recording: Recording, segments: Mapping[int, SegmentTranscribed]) -> Hit:
    passage = found.passage
    before, after = around(passage, segments)
    words = words_of(passage, segments.get(passage.segment_index))
    place = locate(query, words)
    start_ms = passage.start_ms if place is None else max(passage.start_ms, words[place].start_ms)
    audio = None
    if recording.source_key is not None:
        audio = f"/api/v1/recordings/{recording.id}/audio#t={start_ms / 1000},{passage.end_ms / 1000}"
    return Hit(
        recording_id=recording.id,
        title=recording.title,
        recorded_at=recording.recorded_at,
        start_ms=start_ms,
        end_ms=passage.end_ms,
        text=passage.text,
        words=words,
        context_before=before,
        context_after=after,
        speakers=list(passage.speakers),
        score=found.score,
        media_url=audio,
        degraded=passage.degraded,
    )
