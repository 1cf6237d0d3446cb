"""What the transcriber takes back when a recording was erased, cancelled or overtaken while it worked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from earshot.kernel.events import SegmentCut, SegmentTranscribed
from earshot.kernel.gate import Verdict
from earshot.kernel.ports import BlobStore, Recognizer, Transcripts
from earshot.kernel.stage import Output, Stale, emit, erase_key
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.transcriber.cache import cache_key, folder


async def retract(
    stale: Sequence[Stale], blobs: BlobStore, transcripts: Transcripts, recognizer: Recognizer
) -> AsyncIterator[Output]:
    """Leave ``audio.transcripts`` with the right last record for each segment: the highest revision's, or none.

    Overtaken work stays in the catalog, where the higher revision hides it. Of erased work the cached transcripts go
    here, whichever engine of the chain made them, and of cancelled work when no other attempt has one; rows in the
    catalog are the eraser's, which needs them to find what else there is.

    Raises:
        Unavailable: a store does not answer.
    """
    for item in stale:
        segment = item.delivery.event
        assert isinstance(segment, SegmentCut)
        highest = await transcripts.highest(segment.tenant, segment.recording_id, segment.index)
        if item.verdict is Verdict.ERASED or (item.verdict is Verdict.CANCELLED and highest is None):
            place = folder(cache_key(segment, recognizer))
            await blobs.delete([key async for key, _ in blobs.list(place)])
        if (output := _last_word(item, segment, highest)) is not None:
            yield output


def _last_word(item: Stale, segment: SegmentCut, highest: SegmentTranscribed | None) -> Output | None:
    """The record to publish after the stale one; ``None`` when a better one is sure to come by itself."""
    if item.verdict is Verdict.OVERTAKEN and (highest is None or highest.revision <= segment.revision):
        return None  # the higher revision stores first and publishes then: its record will follow ours
    if highest is not None:
        return emit(AUDIO_TRANSCRIPTS, highest, item.delivery)
    return erase_key(AUDIO_TRANSCRIPTS, AUDIO_TRANSCRIPTS.key(segment), item.delivery)
