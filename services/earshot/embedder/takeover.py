"""How one index takes over from another, so that nothing which was found is lost from sight.

Two groups read ``audio.transcripts``: the standing embedder's fills the index that serves, the reindexer's the new one,
from the start of the topic. When the new group and the indexer after it have caught up, the alias moves. The old group
still takes in what was published until then: a job may have been waiting for its word.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from earshot.kernel.ports import EventLog
from earshot.kernel.ports.indexes import Ends, Index, Indexes, in_state
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS, Topic

SHORT_ROUND_S = 30.0
"""Catching up with the ends in less time than this is having caught up: what the old index had gained on the new one
by then was written while a few offsets were committed."""
INDEXER = "indexer"


class Course:
    """How far groups are on a topic.

    Args:
        log: of the topics.
        settings: the prefix of topics and groups.
    """

    def __init__(self, log: EventLog, settings: Settings) -> None:
        self._log = log
        self._settings = settings

    async def ends(self, topic: Topic) -> dict[int, int]:
        """The offset after the last record, by partition."""
        return {partition: end for partition, (_, end) in (await self._lag("embedder", topic)).items()}

    async def behind(self, group: str, topic: Topic, ends: Ends) -> int:
        """How many offsets a group has yet to commit up to these ends."""
        lag = await self._lag(group, topic)
        return sum(max(0, end - lag[partition][0]) for partition, end in ends.items() if partition in lag)

    async def _lag(self, group: str, topic: Topic) -> dict[int, tuple[int, int]]:
        full = self._settings.topic(topic.name)
        found = await self._log.lag(self._settings.topic_prefix + group, [full])
        return {partition: offsets for (_, partition), offsets in found.items()}


class Takeover:
    """Moves the alias to an index that is being built, one step a call.

    What it has seen is forgotten with the process, and seen again by the next.

    Args:
        name: of the index.
        indexes: where the alias is.
        course: of the groups.
        serve: points the store's own alias at an index.
        clock: in seconds, for tests.
    """

    def __init__(
        self,
        name: str,
        indexes: Indexes,
        course: Course,
        serve: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._indexes = indexes
        self._course = course
        self._serve = serve
        self._clock = clock
        self._began = 0.0
        self._transcripts: Ends | None = None
        self._embeddings: Ends | None = None
        self._pointed = False

    async def step(self) -> bool:
        """Do what can be done now; ``True`` when the index serves and the old one has left, or it was given up."""
        known = await self._indexes.indexes()
        mine = next(index for index in known if index.name == self._name)
        if mine.state == "building":
            if await self._caught_up(mine):
                await self._indexes.move_alias(self._name)
            return False
        if mine.state != "serving":
            return True
        if not self._pointed:
            await self._serve(self._name)
            self._pointed = True
        leaving = in_state(known, "leaving")
        for index in leaving:
            await _bound(index, self._indexes, self._course)
        return not leaving

    async def _caught_up(self, mine: Index) -> bool:
        """Whether group and indexer came, within a short round, past the ends found at its beginning."""
        if self._transcripts is None:
            self._began, self._transcripts = self._clock(), await self._course.ends(AUDIO_TRANSCRIPTS)
        if self._embeddings is None:
            if await self._course.behind(mine.group, AUDIO_TRANSCRIPTS, self._transcripts):
                return False
            self._embeddings = await self._course.ends(AUDIO_EMBEDDINGS)
        if await self._course.behind(INDEXER, AUDIO_EMBEDDINGS, self._embeddings):
            return False
        self._transcripts = self._embeddings = None
        return self._clock() - self._began < SHORT_ROUND_S


async def has_left(mine: Index, indexes: Indexes, course: Course) -> bool:
    """Whether the standing embedder is done with its index.

    The alias has moved on, and its group has taken in all that was published until then.
    """
    known = next(index for index in await indexes.indexes() if index.name == mine.name)
    if known.generation != mine.generation or known.state not in ("serving", "leaving"):
        return True
    if known.state == "serving":
        return False
    until = await _bound(known, indexes, course)
    if await course.behind(known.group, AUDIO_TRANSCRIPTS, until):
        return False
    await indexes.change_index(known.name, ["leaving"], "kept")
    return True


async def _bound(index: Index, indexes: Indexes, course: Course) -> Ends:
    """The ends that an index which leaves still takes in.

    They are found after the alias has moved, so that the other group speaks for all that comes later.
    """
    if index.until is not None:
        return index.until
    await indexes.set_until(index.name, await course.ends(AUDIO_TRANSCRIPTS))
    known = next(each for each in await indexes.indexes() if each.name == index.name)
    return known.until or {}
