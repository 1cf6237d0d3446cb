"""Wiring of the indexer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from earshot.adapters.wiring import Kit
from earshot.indexer.index import index, unindex
from earshot.indexer.settings import IndexerSettings
from earshot.kernel.events import SegmentEmbedded, SpeakersFound
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, Stale
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_SPEAKERS, RECORDINGS_PROGRESS


def create_stage(kit: Kit) -> Stage:
    """``audio.embeddings`` to the vector store, and ``audio.speakers`` to the catalog and to what is stored."""
    settings = load(IndexerSettings)

    def work(batch: Sequence[Delivery[SegmentEmbedded | SpeakersFound]]) -> AsyncIterator[Output]:
        return index(batch, kit.vectors, kit.catalog)

    def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        return unindex(stale, kit.vectors, kit.catalog)

    @asynccontextmanager
    async def store_closed_at_the_end() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await kit.vectors.close()

    async def probe() -> None:
        await kit.vectors.ping()

    return Stage(
        name="indexer",
        sources=(AUDIO_EMBEDDINGS, AUDIO_SPEAKERS),
        sinks=(RECORDINGS_PROGRESS,),
        work=work,
        undo=undo,
        batch=BatchPolicy(max_events=settings.batch_events, max_age_s=settings.batch_age_s),
        resources=store_closed_at_the_end,
        probe=probe,
    )
