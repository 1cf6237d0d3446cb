"""Waiting for what may succeed later: exponential backoff with jitter, visible as a pause."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

import structlog

from earshot.kernel.errors import Transient
from earshot.streams.vitals import Vitals

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
log = structlog.get_logger()


class Patience:
    """Waits between tries.

    Args:
        vitals: where the pause and its reason are shown.
        first_s: the first wait; it doubles with each try.
        max_s: the longest wait.
        sleep: tests pass their own.
    """

    def __init__(self, vitals: Vitals, first_s: float, max_s: float, sleep: Sleep = asyncio.sleep) -> None:
        self._vitals = vitals
        self._first_s = first_s
        self._max_s = max_s
        self._sleep = sleep

    def delay_s(self, tries: int, after_s: float | None = None) -> float:
        """How long to wait after so many failed tries, from 0: half of it fixed, half random.

        Where it is known after how many seconds a try makes sense, so long, and up to a tenth more at random.
        """
        if after_s is not None:
            return min(self._max_s, after_s * random.uniform(1.0, 1.1))  # noqa: S311 - jitter, not a secret
        longest = min(self._max_s, self._first_s * 2.0 ** min(tries, 32))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    async def wait(self, tries: int, error: Transient) -> None:
        """Wait before the next try, showing the error as the reason."""
        delay = self.delay_s(tries, error.after_s)
        log.warning("waiting", reason=str(error), code=error.code, delay_s=round(delay, 2), tries=tries + 1)
        self._vitals.trouble = str(error)
        with self._vitals.pause(str(error)):
            await self._sleep(delay)

    async def until(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it returns; every ``Transient`` is waited out. Other errors pass."""
        for tries in count():
            try:
                answer = await call()
            except Transient as error:
                await self.wait(tries, error)
            else:
                self._vitals.trouble = "" if tries else self._vitals.trouble
                return answer
        raise AssertionError("count() never ends")
