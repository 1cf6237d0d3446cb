"""Batches by count, by seconds of audio and by the age of their first event; Faust's own know only count and time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from earshot.kernel.stage import BatchPolicy
from earshot.streams.arrival import Arrived


class Room(Protocol):
    """Where arrivals wait to be batched, and who of them comes first."""

    def __len__(self) -> int:
        """How many wait."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio that wait."""

    @property
    def since(self) -> float:
        """When the one came that has waited longest. Somebody must wait."""

    def fits(self, arrived: Arrived) -> bool:
        """Whether there is room for one more."""

    def add(self, arrived: Arrived, at: float) -> None:
        """One more came, at that time of the event loop."""

    def first(self) -> Arrived | None:
        """Who comes next, of those whose partition is still ours; the others are dropped."""

    def take(self) -> Arrived:
        """Take the one that :meth:`first` named."""

    def clear(self) -> None:
        """Send everybody away."""


class Line:
    """First come, first served. Holds at most one batch.

    Args:
        most: events.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[Arrived, float]] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that wait."""
        return sum(arrived.audio_s for arrived, _ in self._waiting)

    @property
    def since(self) -> float:
        """When the first came."""
        return self._waiting[0][1]

    def fits(self, _arrived: Arrived) -> bool:
        """Whether there is room for one more."""
        return len(self._waiting) < self._most

    def add(self, arrived: Arrived, at: float) -> None:
        """One more came."""
        self._waiting.append((arrived, at))

    def first(self) -> Arrived | None:
        """The first whose partition is still ours; those before it are dropped: their next owner gets them again."""
        while self._waiting and not self._waiting[0][0].ours():
            self._waiting.popleft()
        return self._waiting[0][0] if self._waiting else None

    def take(self) -> Arrived:
        """Take the first."""
        return self._waiting.popleft()[0]

    def purge(self) -> None:
        """Drop everybody whose partition is no longer ours."""
        self._waiting = deque((arrived, at) for arrived, at in self._waiting if arrived.ours())

    def clear(self) -> None:
        """Send everybody away."""
        self._waiting.clear()


class Collector:
    """Makes batches of what waits; whoever puts more than there is room for waits too, and so does the log behind it.

    Args:
        policy: when a batch is full.
        room: where arrivals wait; by default in one line that holds one batch.
    """

    def __init__(self, policy: BatchPolicy, room: Room | None = None) -> None:
        self._policy = policy
        self._room = room if room is not None else Line(policy.max_events)
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._closed = False

    async def put(self, arrived: Arrived) -> None:
        """Add one arrival; returns when there is room for it. After :meth:`close` it is dropped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._room.fits(arrived))
            if not self._closed:
                self._room.add(arrived, asyncio.get_running_loop().time())
                self._changed.notify_all()

    async def take(self) -> list[Arrived] | None:
        """The next batch, in the order of the room; ``None`` after :meth:`close`. Who comes second waits for its turn.

        What belongs to a partition that was revoked meanwhile is left out: its next owner gets it again.
        """
        async with self._turn, self._changed:
            while not self._closed:
                await self._changed.wait_for(lambda: self._closed or len(self._room) > 0)
                await self._fill()
                batch = [] if self._closed else self._cut()
                self._changed.notify_all()
                if batch:
                    return batch
            return None

    async def close(self) -> None:
        """Hand out nothing more: what was not begun stays unacknowledged."""
        async with self._changed:
            self._closed = True
            self._room.clear()
            self._changed.notify_all()

    async def _fill(self) -> None:
        if not len(self._room) or not self._policy.max_age_s:
            return
        try:
            async with asyncio.timeout_at(self._room.since + self._policy.max_age_s):
                await self._changed.wait_for(lambda: self._closed or self._full())
        except TimeoutError:
            return

    def _full(self) -> bool:
        limit_s = self._policy.max_audio_s
        many = len(self._room) >= self._policy.max_events
        return many or (limit_s is not None and self._room.audio_s >= limit_s)

    def _cut(self) -> list[Arrived]:
        batch: list[Arrived] = []
        audio_s = 0.0
        while len(batch) < self._policy.max_events and (following := self._room.first()) is not None:
            audio_s += following.audio_s
            if batch and self._policy.max_audio_s is not None and audio_s > self._policy.max_audio_s:
                break
            batch.append(self._room.take())
        return batch
