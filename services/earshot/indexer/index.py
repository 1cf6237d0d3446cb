"""Passages with vectors become searchable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from earshot.kernel import ids
from earshot.kernel.errors import Permanent
from earshot.kernel.events import Event, Passage, SegmentEmbedded
from earshot.kernel.ports import IndexedPassage, PassageSet, VectorStore
from earshot.kernel.stage import Delivery, Output, Stale, progress


async def index(batch: Sequence[Delivery[SegmentEmbedded]], vectors: VectorStore) -> AsyncIterator[Output]:
    """Make each segment's passages the only ones it has, in the index of their model; then say so.

    All segments of one tenant and model are written in one call.

    Raises:
        Permanent: an event's passages are not as its model makes them.
        Unavailable: the store has not confirmed every passage.
        Misconfigured: the index has vectors of another length.
    """
    sets: dict[tuple[str, int, str], list[PassageSet]] = defaultdict(list)
    for delivery in batch:
        event = delivery.event
        sets[event.model, event.dimensions, event.tenant].append(_passage_set(event))
    for (model, dimensions, tenant), segments in sets.items():
        name = ids.index_name(model, dimensions)
        await vectors.prepare(name, dimensions)
        await vectors.replace_many(name, tenant, segments)
    for delivery in batch:
        yield progress("indexer", delivery)


async def unindex(stale: Sequence[Stale], vectors: VectorStore) -> AsyncIterator[Output]:
    """Take back the passages of what was erased, cancelled or overtaken while they were being written."""
    for each in stale:
        event: Event = each.delivery.event
        assert isinstance(event, SegmentEmbedded)
        await vectors.delete(
            ids.index_name(event.model, event.dimensions),
            event.tenant,
            event.recording_id,
            revision=event.revision,
            segment_index=event.index,
        )
    for _ in ():
        yield _


def _passage_set(event: SegmentEmbedded) -> PassageSet:
    passages = tuple(_passage(event, passage) for passage in event.passages)
    if len({passage.ordinal for passage in passages}) < len(passages):
        raise _refused(event, "two of its passages have the same ordinal")
    return PassageSet(event.recording_id, event.revision, event.index, passages)


def _passage(event: SegmentEmbedded, passage: Passage) -> IndexedPassage:
    """One passage as the store holds it, its id derived again: an event cannot overwrite what is not its own."""
    if len(passage.vector) != event.dimensions:
        raise _refused(event, f"a vector has {len(passage.vector)} numbers, not {event.dimensions}")
    segment = ids.segment_id(event.recording_id, event.revision, event.index)
    return IndexedPassage(
        id=ids.passage_id(segment, event.model, passage.ordinal),
        recording_id=event.recording_id,
        revision=event.revision,
        segment_index=event.index,
        ordinal=passage.ordinal,
        start_ms=passage.start_ms,
        end_ms=passage.end_ms,
        text=passage.text,
        collection=event.collection,
        language=event.language,
        speakers=tuple(passage.speakers),
        recorded_at=event.recorded_at,
        degraded=event.degraded,
        vector=tuple(passage.vector),
    )


def _refused(event: SegmentEmbedded, why: str) -> Permanent:
    return Permanent(
        f"Segment {event.index} of recording {event.recording_id} cannot be indexed: {why}.",
        code="bad_passages",
        next_step="Correct the producer of audio.embeddings.",
    )
