"""Passages with vectors become searchable, and say who speaks in them.

Passages and turns come from two stages, in any order. Whoever writes its own first, reads the other's after, and does
so again until nothing has changed meanwhile: so the outcome is that of the latest of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from earshot.kernel import ids
from earshot.kernel.errors import Permanent
from earshot.kernel.events import Event, Passage, SegmentEmbedded, SpeakersFound
from earshot.kernel.gate import Verdict
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports import IndexedPassage, PassageSet, VectorStore
from earshot.kernel.ports.speakers import Speakers
from earshot.kernel.speakers import Voices
from earshot.kernel.stage import Delivery, Output, Stale, progress

NOBODY = Voices()


async def index(
    batch: Sequence[Delivery[SegmentEmbedded | SpeakersFound]], vectors: VectorStore, speakers: Speakers
) -> AsyncIterator[Output]:
    """Make each segment's passages the only ones it has, in the index of their model; then say so.

    All segments of one tenant and model are written in one call. Turns are kept, and change who speaks in what is
    indexed already; that is when a recording's speakers are said to be found.

    Raises:
        Permanent: an event's passages are not as its model makes them.
        Unavailable: the store has not confirmed every passage, or the catalog does not answer.
        Misconfigured: the index has vectors of another length.
    """
    found = [delivery.event for delivery in batch if isinstance(delivery.event, SpeakersFound)]
    for turns in found:
        await speakers.store_turns(turns)
    await _write(
        [delivery.event for delivery in batch if isinstance(delivery.event, SegmentEmbedded)], vectors, speakers
    )
    for tenant, recording_id in dict.fromkeys((turns.tenant, turns.recording_id) for turns in found):
        await _relabel(tenant, recording_id, vectors, speakers)
    for delivery in batch:
        said = SPEAKER_STAGE if isinstance(delivery.event, SpeakersFound) else "indexer"
        yield progress(said, delivery)


async def _write(events: Sequence[SegmentEmbedded], vectors: VectorStore, speakers: Speakers) -> None:
    """Write the passages of segments; again those of recordings whose turns changed while they were written."""
    voices = await _voices(events, speakers)
    while events:
        sets: dict[tuple[str, int, str], list[PassageSet]] = defaultdict(list)
        for event in events:
            known = voices[event.tenant, event.recording_id]
            sets[event.model, event.dimensions, event.tenant].append(_passage_set(event, known))
        for (model, dimensions, tenant), segments in sets.items():
            name = ids.index_name(model, dimensions)
            await vectors.prepare(name, dimensions)
            await vectors.replace_many(name, tenant, segments)
        before, voices = voices, await _voices(events, speakers)
        changed = {key for key, now in voices.items() if now.found != before[key].found}
        events = [event for event in events if (event.tenant, event.recording_id) in changed]


async def _voices(events: Sequence[SegmentEmbedded], speakers: Speakers) -> dict[tuple[str, str], Voices]:
    """What is known of the speakers of each recording, one question a tenant."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for event in events:
        wanted[event.tenant].add(event.recording_id)
    known: dict[tuple[str, str], Voices] = {}
    for tenant, recordings in wanted.items():
        answer = await speakers.voices(tenant, recordings)
        known |= {(tenant, recording_id): answer.get(recording_id, NOBODY) for recording_id in recordings}
    return known


async def _relabel(tenant: str, recording_id: str, vectors: VectorStore, speakers: Speakers) -> None:
    """Bring the passages of a recording, in every index, up to its turns; again while those change."""
    voices = await _voices_of(tenant, recording_id, speakers)
    while True:
        for index_name in await vectors.indexes():
            held = await vectors.passages_of(index_name, tenant, recording_id)
            spoken = {each.id: voices.who(each.revision, each.start_ms, each.end_ms, each.speakers) for each in held}
            changed = {each.id: spoken[each.id] for each in held if spoken[each.id] != each.speakers}
            await vectors.relabel(index_name, tenant, changed)
        before, voices = voices, await _voices_of(tenant, recording_id, speakers)
        if voices.found == before.found:
            return


async def _voices_of(tenant: str, recording_id: str, speakers: Speakers) -> Voices:
    return (await speakers.voices(tenant, [recording_id])).get(recording_id, NOBODY)


async def unindex(stale: Sequence[Stale], vectors: VectorStore, speakers: Speakers) -> AsyncIterator[Output]:
    """Take back the passages of what was erased, cancelled or overtaken while they were being written.

    Turns are taken back unless they were merely overtaken: of two the higher revision counts wherever both are.
    """
    for each in stale:
        event: Event = each.delivery.event
        if isinstance(event, SpeakersFound):
            if each.verdict is not Verdict.OVERTAKEN:
                await speakers.forget_turns(event.tenant, event.recording_id, revision=event.revision)
            continue
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


def _passage_set(event: SegmentEmbedded, voices: Voices) -> PassageSet:
    passages = tuple(_passage(event, passage, voices) for passage in event.passages)
    if len({passage.ordinal for passage in passages}) < len(passages):
        raise _refused(event, "two of its passages have the same ordinal")
    return PassageSet(event.recording_id, event.revision, event.index, passages)


def _passage(event: SegmentEmbedded, passage: Passage, voices: Voices) -> IndexedPassage:
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
        speakers=voices.who(event.revision, passage.start_ms, passage.end_ms, passage.speakers),
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
