"""Waiting for an effect, with a deadline: the only way a test may pass time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(check: Callable[[], Any | Awaitable[Any]], *, within: float = 30.0, every: float = 0.05) -> Any:
    """Call (and await) a check until what it returns is true, and return that.

    Args:
        check: a function or coroutine function; a falsy result or an exception means "not yet".
        within: seconds until giving up.
        every: seconds between two calls.

    Raises:
        AssertionError: the deadline passed; the message has the last value or exception.
    """
    deadline = time.monotonic() + within
    while True:
        last = await _attempt(check, max(deadline - time.monotonic(), every))
        if last.holds:
            return last.value
        if time.monotonic() >= deadline:
            raise last.failure(within)
        await asyncio.sleep(every)


def eventually_sync(check: Callable[[], Any], *, within: float = 30.0, every: float = 0.05) -> Any:
    """Like :func:`eventually`, for tests without an event loop."""
    deadline = time.monotonic() + within
    while True:
        try:
            last = _Outcome(value=check())
        except Exception as error:  # "not yet", told at the deadline
            last = _Outcome(error=error)
        if last.holds:
            return last.value
        if time.monotonic() >= deadline:
            raise last.failure(within)
        time.sleep(every)


class _Outcome:
    """What one call of a check came to."""

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.error = error

    @property
    def holds(self) -> bool:
        return self.error is None and bool(self.value)

    def failure(self, within: float) -> AssertionError:
        last = repr(self.value) if self.error is None else f"{type(self.error).__name__}: {self.error}"
        failure = AssertionError(f"still not so after {within:g} s; the last answer was {last}")
        failure.__cause__ = self.error
        return failure


async def _attempt(check: Callable[[], Any | Awaitable[Any]], left: float) -> _Outcome:
    try:
        value = check()
        if inspect.isawaitable(value):
            value = await asyncio.wait_for(value, left)
    except Exception as error:  # "not yet", told at the deadline
        return _Outcome(error=error)
    return _Outcome(value=value)
