"""Batches by count, by seconds of audio and by the age of their first event; Faust's own know only count and time."""

from __future__ import annotations

import asyncio
from collections import deque

from earshot.kernel.stage import BatchPolicy
from earshot.streams.arrival import Arrived


class Collector:
    """Holds at most one batch that waits; whoever puts more waits too, and so does the log behind it."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._waiting: deque[tuple[Arrived, float]] = deque()
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()
        self._closed = False

    async def put(self, arrived: Arrived) -> None:
        """Add one arrival; returns when there is room for it. After :meth:`close` it is dropped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._policy.max_events)
            if not self._closed:
                self._waiting.append((arrived, asyncio.get_running_loop().time()))
                self._changed.notify_all()

    async def take(self) -> list[Arrived] | None:
        """The next batch, in order of arrival; ``None`` after :meth:`close`. Who comes second waits for its turn.

        What belongs to a partition that was revoked meanwhile is left out: its next owner gets it again.
        """
        async with self._turn, self._changed:
            while not self._closed:
                await self._changed.wait_for(lambda: self._closed or bool(self._waiting))
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
            self._waiting.clear()
            self._changed.notify_all()

    async def _fill(self) -> None:
        if not self._waiting or not self._policy.max_age_s:
            return
        try:
            async with asyncio.timeout_at(self._waiting[0][1] + self._policy.max_age_s):
                await self._changed.wait_for(lambda: self._closed or self._full())
        except TimeoutError:
            return

    def _full(self) -> bool:
        audio_s = sum(arrived.audio_s for arrived, _ in self._waiting)
        limit_s = self._policy.max_audio_s
        return len(self._waiting) >= self._policy.max_events or (limit_s is not None and audio_s >= limit_s)

    def _cut(self) -> list[Arrived]:
        batch: list[Arrived] = []
        audio_s = 0.0
        while self._waiting and len(batch) < self._policy.max_events:
            arrived = self._waiting[0][0]
            if not arrived.ours():
                self._waiting.popleft()
                continue
            audio_s += arrived.audio_s
            if batch and self._policy.max_audio_s is not None and audio_s > self._policy.max_audio_s:
                break
            batch.append(arrived)
            self._waiting.popleft()
        return batch
