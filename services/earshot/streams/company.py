"""Who works beside whom: batches beside each other, or one unit with nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Company:
    """A lock for ``places`` that work beside each other, or one alone, each in order of asking.

    Do not ask for one inside the other.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = asyncio.Semaphore(places)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def among_others(self) -> AsyncIterator[None]:
        """Work beside others."""
        async with self._free:
            yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until the others are done, and let nobody begin until the end of the block."""
        taken = 0
        async with self._turn:  # two that each hold some places would wait for each other
            try:
                while taken < self._places:
                    await self._free.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._free.release()
