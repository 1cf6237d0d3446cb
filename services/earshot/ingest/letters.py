"""Dead letters found, sent again, or dropped."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from earshot.kernel import dead_letters
from earshot.kernel.codec import Codec
from earshot.kernel.dead_letters import DeadLetter, NoDeadLetter, Outcome
from earshot.kernel.errors import Misconfigured
from earshot.kernel.gate import Standings
from earshot.kernel.ports import AnsweredLetters, EventLog
from earshot.kernel.topics import TOPICS, Topic

AT_ONCE = 1000
"""Most letters in one answer, and in one replay."""
State = Literal["open", "replayed", "dropped"]


@dataclass(frozen=True)
class Wanted:
    """Which letters; empty or ``None`` fields do not restrict.

    Attributes:
        state: what was done with them.
        failed_from: they failed at this moment or later.
        failed_to: they failed before this moment.
        after: the :func:`age` of the last one seen; those older than that.
    """

    stage: str = ""
    code: str = ""
    topic: str = ""
    recording_id: str = ""
    state: State | None = "open"
    failed_from: datetime | None = None
    failed_to: datetime | None = None
    after: tuple[float, str] | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant, whatever was done with it."""
        same = (
            (self.stage, letter.stage),
            (self.code, letter.code),
            (self.recording_id, letter.event.recording_id if letter.event is not None else ""),
        )
        if any(wished and wished != found for wished, found in same):
            return False
        if self.after is not None and age(letter) >= self.after:
            return False
        if self.failed_from is not None and (letter.failed_at is None or letter.failed_at < self.failed_from):
            return False
        return self.failed_to is None or (letter.failed_at is not None and letter.failed_at < self.failed_to)


@dataclass(frozen=True)
class Found:
    """A letter and what was done with it."""

    letter: DeadLetter
    state: State


@dataclass(frozen=True)
class Letters:
    """The dead letters that one tenant may see.

    A letter that cannot be decoded names no tenant; it is the operator's, whose tenant is ``keeper``.

    Args:
        log: where they lie.
        codec: decodes what they carry.
        answered: what was done with them.
        prefix: of topic names.
        keeper: the tenant that sees what is nobody's.
        standings: knows which recordings are erased: their letters are not shown any more.
    """

    log: EventLog
    codec: Codec
    answered: AnsweredLetters
    prefix: str
    keeper: str
    standings: Standings | None = None

    async def find(self, tenant: str, wanted: Wanted, limit: int) -> list[Found]:
        """The newest that match, newest first; every letter the broker still has is looked at.

        Raises:
            Unavailable: of the broker, the registry or the catalog.
        """
        newest: list[tuple[tuple[float, str], Found]] = []
        async for each in self._states(self._of(tenant, _topics(wanted), wanted.matches)):
            if wanted.state in (None, each.state):
                heapq.heappush(newest, (age(each.letter), each))
                if len(newest) > limit:
                    heapq.heappop(newest)
        return [found for _, found in sorted(newest, reverse=True)]

    async def named(self, tenant: str, letter_ids: Sequence[str]) -> list[Found]:
        """The letters of these ids, in order. Raises ``NoDeadLetter`` when the tenant has none of one of them."""
        ids = list(dict.fromkeys(letter_ids))
        topics = list(dict.fromkeys(dead_letters.place(each)[0] for each in ids))
        met = {each.letter.id: each async for each in self._states(self._of(tenant, topics, lambda it: it.id in ids))}
        if unknown := [each for each in ids if each not in met]:
            raise NoDeadLetter(
                f"There is no dead letter {unknown[0]}; the broker forgets them after 30 days.",
                next_step="List those there are.",
            )
        return [met[each] for each in ids]

    async def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Publish the records once more, as they were, and remember it.

        Doing it twice does no harm: a stage works on an event again only to the same end, and what was erased or
        overtaken by a higher revision is not worked on at all.

        Raises:
            Unavailable: of the broker, which may have taken some of them, or the catalog.
        """
        names = {self.prefix + letter.topic.name for letter in letters}
        partitions = {name: await self.log.partitions(name) for name in names}
        records = [
            dead_letters.restored(letter, self.prefix, partitions[self.prefix + letter.topic.name])
            for letter in letters
        ]
        await self.log.publish(records)
        await self.answered.answer([letter.id for letter in letters], "replayed")

    async def drop(self, letters: Sequence[DeadLetter]) -> None:
        """Put them out of sight; the broker keeps the bytes until their time is over."""
        await self.answered.answer([letter.id for letter in letters], "dropped")

    async def _of(
        self, tenant: str, topics: Sequence[Topic], meant: Callable[[DeadLetter], bool]
    ) -> AsyncIterator[DeadLetter]:
        names = await self._existing([self.prefix + topic.dead_letters.name for topic in topics])
        if not names:
            return
        async for record in self.log.tail(names, from_start=True, follow=False):
            letter = await asyncio.to_thread(dead_letters.read, record, self.prefix, self.codec)  # may ask the registry
            if (letter.tenant or self.keeper) == tenant and meant(letter):
                yield letter

    async def _existing(self, names: Sequence[str]) -> list[str]:
        existing = []
        for name in names:
            try:
                await self.log.partitions(name)
            except Misconfigured:
                continue  # never created: no letters
            existing.append(name)
        return existing

    async def _states(self, letters: AsyncIterator[DeadLetter]) -> AsyncIterator[Found]:
        """The letters with what was done with them, asked for many at once."""
        some: list[DeadLetter] = []
        async for letter in letters:
            some.append(letter)
            if len(some) == AT_ONCE:
                for found in await self._with_state(some):
                    yield found
                some = []
        for found in await self._with_state(some):
            yield found

    async def _with_state(self, all_letters: Sequence[DeadLetter]) -> list[Found]:
        letters = await self._not_erased(all_letters)
        done: dict[str, Outcome] = await self.answered.outcomes([letter.id for letter in letters]) if letters else {}
        return [Found(letter, done.get(letter.id, "open")) for letter in letters]

    async def _not_erased(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        if self.standings is None or not letters:
            return letters
        keys = {letter.id: (letter.event.tenant, letter.event.recording_id) for letter in letters if letter.event}
        known = await self.standings.standings(set(keys.values()))
        erased = {key for key, standing in known.items() if standing.state == "erased"}
        return [letter for letter in letters if keys.get(letter.id) not in erased]


def _topics(wanted: Wanted) -> Sequence[Topic]:
    if not wanted.topic:
        return TOPICS
    return [topic for topic in TOPICS if topic.name == wanted.topic]


def age(letter: DeadLetter) -> tuple[float, str]:
    """Sorts letters by when they failed: seconds since the epoch, and the id to tell equals apart."""
    at = letter.failed_at
    return (at.timestamp() if at is not None else letter.record.timestamp_ms / 1000, letter.id)
