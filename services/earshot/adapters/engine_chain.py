"""A chain of speech engines behind one ``Recognizer``: the best that works does the work, the way back is automatic.

What an engine cannot hear is heard by the next. A batch that is too much for its memory, or kills it, is halved, down
to one clip; a clip that is too much alone, that kills it twice, or that takes too long goes down. An engine that cannot
be loaded, is short of memory with a single clip, or failed three times in a row rests behind its breaker. When its rest
is over it is started again in the background, while the work goes on, and takes over with the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import structlog

from earshot.adapters.engine_link import Link
from earshot.adapters.isolated import DEADLINE, MEMORY_LIMIT
from earshot.kernel.errors import (
    EarshotError,
    EngineRejected,
    Misconfigured,
    OutOfMemory,
    Transient,
    Unavailable,
    UnitCrashed,
)
from earshot.kernel.events import Engine
from earshot.kernel.ports import Clip, Recognized, doubted

log = structlog.get_logger()


class EngineChain:
    """A ``Recognizer`` of several, best first: enter it to load the best that can be had.

    The last link never rests; what it raises, the caller gets. One batch at a time.

    Args:
        links: at least one, from best to last resort.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = list(links)
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Load the best engine that can be had.

        Raises:
            Unavailable: none can, and for one of them that may pass.
            Misconfigured: none can, and a person must act.
        """
        errors: list[EarshotError] = []
        for link in self._links:
            try:
                await link.start(download=True)
                break
            except EarshotError as error:
                errors.append(error)
        else:
            raise self._none(errors)
        link.fresh()
        self._looking = asyncio.create_task(self._look_for_better())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every engine that runs."""
        looking, self._looking = self._looking, None
        try:
            if looking is not None:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
        finally:
            for link in self._links:
                await link.stop()

    @property
    def ready(self) -> bool:
        """Whether an engine was loaded and warmed up."""
        return any(link.known for link in self._links)

    @property
    def engine(self) -> Engine:
        """Who would do the work now; degraded, with the reasons of those before it, when it is not the first."""
        return self._standing(self._place())

    @property
    def options(self) -> Mapping[str, Any]:
        """Those of :attr:`engine`."""
        return self._known(self._place())[1]

    def states(self) -> list[dict[str, Any]]:
        """Each link as a person should see it: its name, and what it does."""
        at = self._place() if self.ready else None
        return [{"engine": link.name, **self._state(place, at)} for place, link in enumerate(self._links)]

    async def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order, each by the best engine that could hear it.

        Raises:
            NotAudio, BlobMismatch, LimitExceeded: a clip is no segment.
            EngineRejected, UnitCrashed, Unavailable, Misconfigured: of the last link.
        """
        async with self._turn:
            if self._looking is not None and self._looking.done():
                self._looking.result()  # a bug in the background: raised where the worker stops at it
            return await self._hear(list(clips), 0)

    # --- down -------------------------------------------------------------------------------------------------------

    async def _hear(self, clips: list[Clip], place: int, *, crashed: bool = False) -> list[Recognized]:
        """By the first link from a place on that does not rest. ``crashed``: it died of these clips before."""
        place = self._next(place)
        link = self._links[place]
        if len(clips) > link.most:
            return await self._halves(clips, place)
        try:
            engine = await link.start(download=self._is_last(place))
        except EarshotError:
            if self._is_last(place):
                raise
            return await self._below(clips, place)
        try:
            heard = await engine.recognize(clips)
        except (EngineRejected, Transient, Misconfigured) as error:
            return await self._otherwise(error, clips, place, crashed=crashed)
        link.succeeded(len(clips))
        await self._stop_below(place)
        return [self._signed(result, place) for result in heard]

    async def _otherwise(
        self, error: EarshotError, clips: list[Clip], place: int, *, crashed: bool
    ) -> list[Recognized]:
        """The same clips in halves, by the same engine once more, or by the next."""
        link, alone, last = self._links[place], len(clips) == 1, self._is_last(place)
        if not alone and (_short_of_memory(error) or (_divisible(error) and not last)):
            log.warning("a batch is halved", engine=link.name, clips=len(clips), reason=str(error))
            if _short_of_memory(error):
                link.most = (len(clips) + 1) // 2
            return await self._halves(clips, place)
        if last:
            raise error
        if isinstance(error, EngineRejected):
            link.refused(error)
        elif isinstance(error, Misconfigured) or _short_of_memory(error):
            await link.leave(error)
        else:
            await link.failed(error)
            if _divisible(error) and not crashed and link.breaker.closed:
                return await self._hear(clips, place, crashed=True)
        return await self._below(clips, place)

    async def _halves(self, clips: list[Clip], place: int) -> list[Recognized]:
        half = (len(clips) + 1) // 2
        return [*await self._hear(clips[:half], place), *await self._hear(clips[half:], place)]

    async def _below(self, clips: list[Clip], place: int) -> list[Recognized]:
        self._left.set()
        return await self._hear(clips, place + 1)

    def _next(self, place: int) -> int:
        """The first place from one on whose link does not rest; the last never does."""
        last = len(self._links) - 1
        return next((at for at in range(place, last) if self._links[at].breaker.closed), last)

    def _is_last(self, place: int) -> bool:
        return place == len(self._links) - 1

    async def _stop_below(self, place: int) -> None:
        """A better one works: those below give back their memory, and are as good as new when they are needed."""
        for link in self._links[place + 1 :]:
            link.fresh()
            await link.stop()

    # --- up ---------------------------------------------------------------------------------------------------------

    async def _look_for_better(self) -> None:
        """Start what rested long enough; the next batch finds it."""
        while True:
            rests = [link.breaker.rests_s for link in self._better()]
            self._left.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), min(rests) if rests else None)
                continue  # another one was left meanwhile
            for link in self._better():
                if link.breaker.allows and await self._started(link):
                    break

    def _better(self) -> list[Link]:
        """The links that rest although they would do the work."""
        return [link for link in self._links[: self._next(0)] if not link.breaker.closed]

    async def _started(self, link: Link) -> bool:
        try:
            await link.start(download=True)
        except EarshotError:
            return False  # it rests again, and has said why
        link.fresh()
        log.info("a better speech engine takes over", engine=link.name)
        return True

    # --- who --------------------------------------------------------------------------------------------------------

    def _place(self) -> int:
        """Where the work would be done now: the first link that was started and does not rest."""
        known = [place for place, link in enumerate(self._links) if link.known]
        return next((place for place in known if self._links[place].breaker.closed), known[-1])

    def _known(self, place: int) -> tuple[Engine, Mapping[str, Any]]:
        known = self._links[place].known
        assert known is not None, "enter the EngineChain first"
        return known

    def _standing(self, place: int) -> Engine:
        """The engine of a link, degraded when one before it should have done the work."""
        engine = self._known(place)[0]
        reasons = [f"{link.name} does not do the work: {link.reason}" for link in self._links[:place] if link.reason]
        if not reasons:
            return engine
        return engine.model_copy(update={"degraded": True, "reason": " ".join([*reasons, engine.reason]).strip()})

    def _signed(self, heard: Recognized, place: int) -> Recognized:
        """A result with the engine as it stands in the chain, and what it holds against this result."""
        return replace(heard, engine=doubted(self._standing(place), heard.note), options=self._known(place)[1])

    def _state(self, place: int, at: int | None) -> dict[str, Any]:
        link = self._links[place]
        if place == at:
            return {"state": "working", "reason": ""}
        return {"state": "standing by" if link.breaker.closed else "resting", "reason": link.reason}

    def _none(self, errors: list[EarshotError]) -> EarshotError:
        """Why no engine can be had at all."""
        if len(errors) == 1:
            return errors[0]
        reasons = " ".join(f"{link.name}: {error}" for link, error in zip(self._links, errors, strict=True))
        passing = any(isinstance(error, Transient) for error in errors)
        detail = f"No speech engine can run. {reasons}"
        return Unavailable("engine", detail) if passing else Misconfigured(detail)


def _short_of_memory(error: EarshotError) -> bool:
    return isinstance(error, OutOfMemory) or error.code == MEMORY_LIMIT


def _divisible(error: EarshotError) -> bool:
    """Whether half of the batch may succeed where all of it did not."""
    return isinstance(error, EngineRejected | OutOfMemory | UnitCrashed) and error.code != DEADLINE
