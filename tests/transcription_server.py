"""A small transcription server on a loopback socket that answers as it is told: politely, badly, late, or half."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

GOOD = {
    "task": "transcribe",
    "language": "english",
    "duration": 1.0,
    "text": " Ask not, what your country.",
    "words": [
        {"word": "Ask", "start": 0.0, "end": 0.2},
        {"word": "not", "start": 0.2, "end": 0.4},
        {"word": "what", "start": 0.5, "end": 0.6},
        {"word": "your", "start": 0.6, "end": 0.7},
        {"word": "country", "start": 0.7, "end": 0.9},
    ],
}


@dataclass
class Reply:
    """What to answer: ``declared`` bytes are announced, ``body`` is sent, once ``delay`` is set."""

    status: int = 200
    body: bytes = field(default_factory=lambda: json.dumps(GOOD).encode())
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None
    delay: asyncio.Event | None = None


class TranscriptionServer:
    """``async with`` it. ``replies`` are given one by one; then ``always`` replies. ``asked`` has the raw requests."""

    def __init__(self, replies: list[Reply] | None = None) -> None:
        self.replies, self.asked = replies or [], list[bytes]()
        self.always: Callable[[bytes], Reply] = lambda _request: Reply()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> TranscriptionServer:
        self._tasks: set[asyncio.Task] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return  # the client went away
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.asked.append(head + await reader.readexactly(length))
        reply = self.replies.pop(0) if self.replies else self.always(self.asked[-1])
        if reply.delay is not None:
            await reply.delay.wait()
        declared = len(reply.body) if reply.declared is None else reply.declared
        headers = {"Content-Type": "application/json", "Content-Length": str(declared), **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + reply.body)
        await writer.drain()
