"""What was said in a segment becomes passages with vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from earshot.embedder.passages import Cut, cut
from earshot.kernel import ids
from earshot.kernel.events import Passage, SegmentEmbedded, SegmentTranscribed
from earshot.kernel.ports import Collections, Encoder
from earshot.kernel.stage import Delivery, Output, emit, progress
from earshot.kernel.topics import AUDIO_EMBEDDINGS


@dataclass(frozen=True)
class PassageSize:
    """How long passages are where a collection does not say: most words, and words that neighbours share."""

    max_words: int
    overlap_words: int


async def embed(
    batch: Sequence[Delivery[SegmentTranscribed]], encoder: Encoder, collections: Collections, size: PassageSize
) -> AsyncIterator[Output]:
    """Publish the passages of each segment, encoded in one call for the whole batch.

    A segment in which nothing was said has no passages, and says so: that replaces those it had before.

    Raises:
        Unavailable: the model or the catalog does not answer.
    """
    cuts = [await _cut(delivery.event, collections, size) for delivery in batch]
    texts = [piece.text for pieces in cuts for piece in pieces]
    vectors = iter(await encoder.encode_passages(texts) if texts else [])
    for delivery, pieces in zip(batch, cuts, strict=True):
        yield emit(AUDIO_EMBEDDINGS, _embedded(delivery.event, pieces, vectors, encoder), delivery)
        yield progress("embedder", delivery)


async def _cut(segment: SegmentTranscribed, collections: Collections, size: PassageSize) -> list[Cut]:
    said = await collections.collection_settings(segment.tenant, segment.collection)
    most = size.max_words if said.passage_max_words is None else said.passage_max_words
    shared = size.overlap_words if said.passage_overlap_words is None else said.passage_overlap_words
    return cut(segment, most, shared)


def _embedded(
    segment: SegmentTranscribed, pieces: Sequence[Cut], vectors: Iterator[list[float]], encoder: Encoder
) -> SegmentEmbedded:
    """The event of one segment; takes as many vectors as it has pieces."""
    segment_id = ids.segment_id(segment.recording_id, segment.revision, segment.index)
    return SegmentEmbedded(
        tenant=segment.tenant,
        recording_id=segment.recording_id,
        revision=segment.revision,
        index=segment.index,
        start_ms=segment.start_ms,
        end_ms=segment.end_ms,
        model=encoder.model,
        dimensions=encoder.dimensions,
        passages=[
            Passage(
                id=ids.passage_id(segment_id, encoder.model, ordinal),
                ordinal=ordinal,
                start_ms=piece.start_ms,
                end_ms=piece.end_ms,
                text=piece.text,
                speakers=list(piece.speakers),
                vector=next(vectors),
            )
            for ordinal, piece in enumerate(pieces)
        ],
        language=segment.language,
        degraded=segment.engine.degraded,
        collection=segment.collection,
        recorded_at=segment.recorded_at,
    )
