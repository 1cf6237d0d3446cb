"""Another server's answer as server-sent events: asked again until it begins, watched until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import httpx
import stamina

from earshot.adapters.breaker import Breaker
from earshot.adapters.remote import Endpoint, RemoteSettings, TryAgain, again
from earshot.kernel.errors import Transient

DONE = "[DONE]"
"""What OpenAI's servers send as their last event."""


class StreamingEndpoint(Endpoint):
    """One path of a server that answers with events.

    Args:
        dependency: the short name for ``Unavailable``.
        path: below the settings' URL.
        settings: URL, key and limits; ``timeout_s`` bounds the wait for the first event, of each try.
        prefix: of the settings' variables, for messages.
        idle_s: longest wait between two events.
        headers: sent with every request, in place of the bearer token when given.
        breaker: by default one of its own.
    """

    def __init__(
        self,
        dependency: str,
        path: str,
        settings: RemoteSettings,
        prefix: str,
        *,
        idle_s: float,
        headers: dict[str, str] | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        super().__init__(dependency, path, settings, prefix, breaker)
        self._idle_s, self._own_headers = idle_s, headers

    def _headers(self) -> dict[str, str]:
        if self._own_headers is None:
            return super()._headers() | {"Accept": "text/event-stream"}
        return {"Accept": "text/event-stream", "Accept-Encoding": "identity", **self._own_headers}

    async def events(self, body: dict[str, Any], most_bytes: int) -> AsyncGenerator[Any, None]:
        """The data of each event, parsed; ends with the stream, or at ``[DONE]``.

        A request is sent again only while nothing of an answer has come. What comes after is judged by the caller:
        only it knows whether the answer is whole. :meth:`judged` is its verdict.

        Raises:
            Unavailable: it does not answer, is busy or slow, breaks off, sends what is no JSON, or is left alone.
            EngineRejected: it refuses this input.
            Misconfigured: it refuses us, or there is nothing at the URL.
        """
        if not self._breaker.allows:
            raise self.unavailable(f"failed again and again and is left alone for {self._breaker.rests_s:.0f} s")
        try:
            async with AsyncExitStack() as stack:
                first, rest = await self._begun(body, most_bytes, stack)
                while first is not None:
                    yield first
                    first = await self._next(rest, self._idle_s)
        except Transient:
            self._breaker.failed()
            raise

    def judged(self, *, whole: bool) -> None:
        """Say whether an answer was one: counts for leaving the server alone."""
        if whole:
            self._breaker.succeeded()
        else:
            self._breaker.failed()

    async def _begun(
        self, body: dict[str, Any], most_bytes: int, stack: AsyncExitStack
    ) -> tuple[Any, AsyncIterator[Any]]:
        """The first event, and those after it. What is open is closed with the stack."""
        async for attempt in stamina.retry_context(
            again, attempts=self._settings.tries, timeout=None, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                await self._turn()
                async with AsyncExitStack() as trying:
                    events = await trying.enter_async_context(aclosing(self._received(body, most_bytes)))
                    first = await self._next(events, self._settings.timeout_s)
                    await stack.enter_async_context(trying.pop_all())
        return first, events

    async def _next(self, events: AsyncIterator[Any], within_s: float) -> Any:
        """The next event; ``None`` after the last."""
        try:
            async with asyncio.timeout(within_s):
                return await anext(events, None)
        except TimeoutError:
            raise TryAgain(self._dependency, f"The server {self.host} takes too long.", self._next_step) from None

    async def _received(self, body: dict[str, Any], most_bytes: int) -> AsyncGenerator[Any, None]:
        """One request's events."""
        try:
            async with self._connected().stream("POST", self._url, json=body) as got:
                self._check(got)
                async with aclosing(self._lines(got, most_bytes)) as lines:
                    async for data in lines:
                        if data == DONE:
                            return
                        yield self._parsed(data.encode())
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            what = f"The server {self.host} does not answer: {type(error).__name__}."
            raise TryAgain(self._dependency, what, self._next_step) from error

    async def _lines(self, got: httpx.Response, most_bytes: int) -> AsyncGenerator[str, None]:
        """The data of each event. Its servers send one line an event; several are joined, as the standard says."""
        if got.headers.get("Content-Encoding", "identity") != "identity":
            raise self.unavailable("answers with compressed data, which it was asked not to")
        taken, pending, data = 0, bytearray(), list[str]()
        async for chunk in got.aiter_raw():
            taken += len(chunk)
            if taken > most_bytes:
                raise self.unavailable(f"answers with more than {most_bytes} bytes")
            pending += chunk
            *lines, rest = pending.replace(b"\r\n", b"\n").split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                if line.startswith(b"data:"):
                    data.append(line[5:].decode(errors="replace").strip())
                elif not line and data:
                    yield "\n".join(data)
                    data = []
        if data:
            yield "\n".join(data)


def field(value: Any, *path: str | int) -> Any:
    """What lies at a path of a parsed answer; ``None`` where it does not have that shape."""
    for part in path:
        if isinstance(part, int):
            value = value[part] if isinstance(value, list) and len(value) > part else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def tokens(value: Any) -> int | None:
    """A count of tokens; ``None`` for what is none."""
    return value if type(value) is int and 0 <= value < 10**9 else None
