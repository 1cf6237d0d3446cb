"""One engine of a chain: started when it is needed, left when it fails, fresh again when a better one works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from earshot.adapters.breaker import Breaker
from earshot.kernel.errors import EarshotError
from earshot.kernel.events import Engine
from earshot.kernel.ports import Recognizer

WHOLE = 1 << 30
"""No batch is larger: the limit of a link that never ran out of memory."""
log = structlog.get_logger()


class StartedEngine(Recognizer, Protocol):
    """An engine that is loaded and warm inside its ``async with``."""

    async def __aenter__(self) -> Self:
        """Load it. Raises what says why it cannot be loaded."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it, and give back its memory."""


class Link:
    """One engine of a chain, started when it is needed.

    Args:
        name: as a person knows it: ``base on cpu``.
        make: makes the engine, not yet entered; the argument says whether it may take the time of a download.
        breaker: how long it rests, and after how many failures.

    Attributes:
        reason: why it did not do the work the last time it should have; empty when it did.
        known: who it is and its options, once it was started.
        most: clips it is given at once; falls when its memory ran out, and rises again one by one.
    """

    def __init__(self, name: str, make: Callable[[bool], StartedEngine], breaker: Breaker | None = None) -> None:
        self.name = name
        self.breaker = breaker or Breaker()
        self.reason = ""
        self.known: tuple[Engine, Mapping[str, Any]] | None = None
        self.most = WHOLE
        self._make = make
        self._running: StartedEngine | None = None

    @property
    def running(self) -> StartedEngine | None:
        """The engine, while it is loaded."""
        return self._running

    async def start(self, *, download: bool) -> StartedEngine:
        """The engine, loaded; one that cannot be rests, and why is its ``reason``."""
        if self._running is None:
            engine = self._make(download)
            try:
                await engine.__aenter__()
            except EarshotError as error:
                await self.leave(error)
                raise
            self.known, self._running, self.most = (engine.engine, engine.options), engine, WHOLE
        return self._running

    async def stop(self) -> None:
        """End the engine, if it runs."""
        engine, self._running = self._running, None
        if engine is not None:
            await engine.__aexit__(None, None, None)

    async def leave(self, error: EarshotError) -> None:
        """It cannot do the work: it rests, and its memory is free for the next."""
        self._say(error)
        self.breaker.trip()
        await self.stop()

    async def failed(self, error: EarshotError) -> None:
        """It failed once more; too often in a row and it rests."""
        self._say(error)
        self.breaker.failed()
        if not self.breaker.closed:
            await self.stop()

    def refused(self, error: EarshotError) -> None:
        """It cannot handle a clip, which says nothing of the next one."""
        self._say(error)

    def succeeded(self, clips: int) -> None:
        """It heard so many clips."""
        self.fresh()
        if clips >= self.most:
            self.most += 1

    def fresh(self) -> None:
        """What was held against it no longer counts."""
        self.reason = ""
        self.breaker.succeeded()

    def _say(self, error: EarshotError) -> None:
        if self.reason != str(error):  # every two minutes the same is no news
            log.warning("a speech engine does not do the work", engine=self.name, code=error.code, reason=str(error))
        self.reason = str(error)
