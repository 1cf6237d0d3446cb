"""What the catalog knows of the passages that were found."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from earshot.kernel.ports import ScoredPassage
from earshot.kernel.ports.excerpts import Excerpt
from earshot.kernel.speakers import Voices
from earshot.query.context import around, words_of
from earshot.query.locate import locate
from earshot.query.messages import Hit

NOBODY = Voices()


class Known(Protocol):
    """The part of the catalog that tells about hits."""

    async def excerpts(self, tenant: str, wanted: Mapping[str, Collection[int]]) -> Mapping[str, Excerpt]:
        """As in :class:`earshot.kernel.ports.excerpts.Excerpts`."""

    async def voices(self, tenant: str, recording_ids: Collection[str]) -> Mapping[str, Voices]:
        """As in :class:`earshot.kernel.ports.speakers.Speakers`."""


async def described(found: Sequence[ScoredPassage], query: str, tenant: str, library: Known) -> list[Hit]:
    """What the catalog knows of the hits, in one look. One erased in this moment is left out."""
    wanted: dict[str, set[int]] = {}
    for hit in found:
        wanted.setdefault(hit.passage.recording_id, set()).add(hit.passage.segment_index)
    excerpts, voices = await asyncio.gather(library.excerpts(tenant, wanted), library.voices(tenant, wanted))
    known = [(hit, excerpts[hit.passage.recording_id]) for hit in found if hit.passage.recording_id in excerpts]
    return [_hit(hit, query, excerpt, voices.get(hit.passage.recording_id, NOBODY)) for hit, excerpt in known]


def _hit(found: ScoredPassage, query: str, excerpt: Excerpt, voices: Voices) -> Hit:
    passage, recording = found.passage, excerpt.recording
    segment = excerpt.segments.get(passage.segment_index)
    before, after = around(passage, segment, excerpt.texts)
    words = words_of(passage, segment)
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
        words=voices.shown(segment.model_copy(update={"words": words})).words if segment else words,
        context_before=before,
        context_after=after,
        speakers=voices.named(passage.speakers),
        score=found.score,
        media_url=audio,
        degraded=passage.degraded,
    )
