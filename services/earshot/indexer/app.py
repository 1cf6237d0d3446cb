"""Wiring of the indexer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from earshot.adapters.wiring import Kit
from earshot.indexer.index import index, unindex
from earshot.indexer.route import Routes, sweep
from earshot.indexer.settings import IndexerSettings
from earshot.kernel.events import SegmentEmbedded, SpeakersFound
from earshot.kernel.gate import judge_shown
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, Stale, progress
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_SPEAKERS, RECORDINGS_PROGRESS


def create_stage(kit: Kit) -> Stage:
    """``audio.embeddings`` to the vector store, and ``audio.speakers`` to the catalog and to what is stored."""
    settings = load(IndexerSettings)

    async def work(batch: Sequence[Delivery[SegmentEmbedded | SpeakersFound]]) -> AsyncIterator[Output]:
        routes = await Routes.read(kit.catalog)
        wanted, too_late = routes.split(batch)
        async for output in index(wanted, kit.vectors, kit.catalog):
            if routes.speaks(output.cause.event):
                yield output
        await sweep(wanted, kit.vectors, kit.catalog)
        for delivery in too_late:
            yield progress("indexer", delivery)

    async def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        routes = await Routes.read(kit.catalog)
        there = [each for each in stale if routes.open(each.delivery.event)]
        async for output in unindex(there, kit.vectors, kit.catalog):
            yield output

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
        judge=judge_shown,
        batch=BatchPolicy(max_events=settings.batch_events, max_age_s=settings.batch_age_s),
        resources=store_closed_at_the_end,
        probe=probe,
    )
