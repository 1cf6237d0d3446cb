"""Wiring of the embedder, and of the reindexer: the same work, for the index that serves and for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from earshot.adapters.encoders import about
from earshot.adapters.named_encoders import encoder_of, index_for, named, other_wish, wished
from earshot.adapters.wiring import Kit
from earshot.embedder.embed import PassageSize, embed
from earshot.embedder.settings import EmbedderSettings
from earshot.embedder.takeover import Course, Takeover, has_left
from earshot.kernel.errors import Misconfigured, Unavailable
from earshot.kernel.events import SegmentTranscribed
from earshot.kernel.gate import judge_shown
from earshot.kernel.ports import Encoder
from earshot.kernel.ports.indexes import Index, in_state, serving
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS

REINDEXER = "reindexer"
log = structlog.get_logger()


def create_stage(kit: Kit) -> Stage:
    """``audio.transcripts`` to ``audio.embeddings``, for the index that serves.

    A null value is acknowledged and nothing else: it names neither tenant nor revision, and whoever erases a
    recording deletes its passages from every index itself.
    """
    course = Course(kit.log, kit.settings)

    async def find() -> Index:
        known = await kit.catalog.indexes()
        mine = next(iter(in_state(known, "leaving")), None) or serving(known)
        if mine is None:
            name = wished()
            mine = await kit.catalog.first_index(index_for(name, await asyncio.to_thread(named, name)))
        elif name := other_wish(mine):
            log.warning("another_model_serves", set=name, serves=mine.encoder, next_step="earshot reindex --embedder")
        await _unregister(kit, in_state(known, "kept", "dropped"))
        return mine

    post = _Post(kit, find)

    async def finished() -> bool:
        return await has_left(post.index, kit.catalog, course)

    return _stage(kit, "embedder", post, finished)


def create_reindexer(kit: Kit) -> Stage:
    """The same for the index that is being built, from the start of ``audio.transcripts``, until it has taken over.

    Raises:
        Misconfigured: later, when it starts and no index is being built.
    """
    takeovers: list[Takeover] = []

    async def find() -> Index:
        mine = to_build(await kit.catalog.indexes())
        if mine is None:
            raise Misconfigured("No index is being built.", next_step="Ask for one: earshot reindex --embedder NAME")
        course = Course(kit.log, kit.settings)
        takeovers[:] = [Takeover(mine.name, kit.catalog, course, kit.vectors.serve)]
        return mine

    async def finished() -> bool:
        return await takeovers[0].step()

    return _stage(kit, REINDEXER, _Post(kit, find), finished)


def to_build(known: Sequence[Index]) -> Index | None:
    """The index that a reindexer has to do with: it is being built, or has taken over and waits for the old one."""
    building = in_state(known, "building")
    if building:
        return building[0]
    return serving(known) if in_state(known, "leaving") else None


class _Post:
    """The index that this process fills, and its encoder, found when the process starts."""

    index: Index
    encoder: Encoder

    def __init__(self, kit: Kit, find: Callable[[], Awaitable[Index]]) -> None:
        self._kit = kit
        self._find = find

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Find the index, wait until nobody else consumes as its group where one alone may, load its model."""
        index = await self._find()
        consumer_of = getattr(self._kit.log, "consumer_of", None)
        if index.generation > 1 and consumer_of is not None:
            group = self._kit.settings.topic_prefix + index.group
            if (process := await consumer_of(group)) is not None:
                raise Unavailable("broker", f"Process {process} still consumes as {group}.")
        self.encoder = await asyncio.to_thread(encoder_of, index)
        self.index = index
        yield

    async def speaks(self) -> bool:
        """Whether progress here is the recording's: until an index serves, what goes into it is not yet searchable."""
        return self.index.name not in {index.name for index in in_state(await self._kit.catalog.indexes(), "building")}

    def about(self) -> dict[str, Any]:
        """For the signs of life."""
        return {**about(self.encoder), "index": self.index.name} if hasattr(self, "index") else {}


def _stage(kit: Kit, name: str, post: _Post, finished: Callable[[], Awaitable[bool]]) -> Stage:
    settings = load(EmbedderSettings)
    size = PassageSize(settings.passage_max_words, settings.passage_overlap_words)

    async def work(batch: Sequence[Delivery[SegmentTranscribed]]) -> AsyncIterator[Output]:
        speaks = await post.speaks()
        async for output in embed(batch, post.encoder, kit.catalog, size):
            if speaks or output.topic is not RECORDINGS_PROGRESS:
                yield output

    return Stage(
        name=name,
        sources=(AUDIO_TRANSCRIPTS,),
        sinks=(AUDIO_EMBEDDINGS, RECORDINGS_PROGRESS),
        work=work,
        judge=judge_shown,
        batch=BatchPolicy(max_events=settings.batch_events, max_age_s=settings.batch_age_s),
        resources=post.taken,
        info=post.about,
        group=lambda: post.index.group,
        finished=finished,
    )


async def _unregister(kit: Kit, left: Sequence[Index]) -> None:
    """Forget the groups that filled indexes which have left, where the log would keep everything for them."""
    unregister = getattr(kit.log, "unregister", None)
    if unregister is not None:
        for index in left:
            await unregister(kit.settings.topic_prefix + index.group)
