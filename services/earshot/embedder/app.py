"""Wiring of the embedder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from earshot.adapters.encoders import choose
from earshot.adapters.wiring import Kit
from earshot.embedder.embed import PassageSize, embed
from earshot.embedder.settings import EmbedderSettings
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS


def create_stage(kit: Kit) -> Stage:
    """``audio.transcripts`` to ``audio.embeddings``.

    A null value is acknowledged and nothing else: it names neither tenant nor revision, and whoever erases a
    recording deletes its passages from every index itself.
    """
    settings = load(EmbedderSettings)
    size = PassageSize(settings.passage_max_words, settings.passage_overlap_words)

    async def work(batch: Sequence[Delivery[SegmentTranscribed]]) -> AsyncIterator[Output]:
        encoder = await asyncio.to_thread(choose)
        async for output in embed(batch, encoder, kit.catalog, size):
            yield output

    about: dict[str, str] = {}

    @asynccontextmanager
    async def model_loaded() -> AsyncIterator[None]:
        about["model"] = (await asyncio.to_thread(choose)).model
        yield

    return Stage(
        name="embedder",
        sources=(AUDIO_TRANSCRIPTS,),
        sinks=(AUDIO_EMBEDDINGS, RECORDINGS_PROGRESS),
        work=work,
        batch=BatchPolicy(max_events=settings.batch_events, max_age_s=settings.batch_age_s),
        resources=model_loaded,
        info=lambda: about,
    )
