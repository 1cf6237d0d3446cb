"""Events of an answer on their way to a client: made in a task of their own, which ends when the client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
WAITING = 64
"""Events that wait for a slow client; then the answer waits as well."""
KEEP_ALIVE_S = 15.0
"""A comment is sent after so long a silence, so that no proxy in between gives up."""


class Feed(Generic[T]):
    """What a generator gives, from a task of its own: its spans and its time limits stay in one place.

    Args:
        events: closed with the feed.
    """

    def __init__(self, events: AsyncGenerator[T, None]) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(WAITING)
        self._task = asyncio.create_task(self._pump(events))

    async def _pump(self, events: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    await self._queue.put(event)
        finally:
            with suppress(asyncio.QueueFull):
                self._queue.put_nowait(None)

    async def next(self) -> T | None:
        """The next event; ``None`` after the last. Raises what the generator raised."""
        if self._task.done() and self._queue.empty():
            await self._task
            return None
        getting = asyncio.ensure_future(self._queue.get())
        try:
            await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done() and self._queue.empty():
                await self._task
                return None
            event = await getting
        finally:
            getting.cancel()
        if event is None:
            await self._task
        return event

    async def close(self) -> None:
        """End the task, wherever it is."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # whoever closes does not want it any more


def server_sent(data: Any, event: str | None = None) -> bytes:
    """One server-sent event, its data as JSON on one line."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


class EventStream(Response):
    """Server-sent events, until they end or the client goes away.

    Args:
        chunks: the events as they are sent.
        close: called at the end, however it comes.
    """

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._chunks, self._close = chunks, close
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"  # proxies are not to collect it first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send them."""
        sending = asyncio.ensure_future(self._send(send))
        try:
            await _first_of(sending, receive)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            await self._close()
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def chunks_of(feed: Feed[T], write: Callable[[T], bytes]) -> AsyncGenerator[bytes, None]:
    """A feed's events as they are sent, with comments in long silences."""
    waiting: asyncio.Future[T | None] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(feed.next())
            await asyncio.wait({waiting}, timeout=KEEP_ALIVE_S)
            if not waiting.done():
                yield b": still here\n\n"
                continue
            event, waiting = waiting.result(), None
            if event is None:
                return
            if chunk := write(event):
                yield chunk
    finally:
        if waiting is not None:
            waiting.cancel()


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work comes to. Raises ``ClientDisconnect``, the work cancelled, when the client goes away first."""
    task = asyncio.ensure_future(work)
    try:
        await _first_of(task, request.receive)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if task.cancelled():
        raise ClientDisconnect
    return task.result()


async def _first_of(task: asyncio.Future[Any], receive: Receive) -> None:
    """Wait until a task is done or the client is gone."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        await asyncio.wait({gone})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
