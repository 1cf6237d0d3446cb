"""A TCP proxy before one Kafka broker: reads the frames that pass and does to them what a test says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

PRODUCE, OFFSET_COMMIT = 0, 8
"""Numbers of requests in Kafka's protocol."""


class Fate(Enum):
    """What becomes of a request.

    ``PASS``: nothing happens to it. ``CUT_BEFORE``: the broker never sees it, its connection is closed. ``CUT_AFTER``:
    the broker carries it out, its connection is closed before the answer. ``SWALLOW``: the broker never sees it, its
    connection stays.
    """

    PASS = auto()
    CUT_BEFORE = auto()
    CUT_AFTER = auto()
    SWALLOW = auto()


@dataclass(frozen=True)
class Request:
    """The head of a request: what it asks, its number on its connection, who sent it."""

    kind: int
    correlation: int
    client: str

    @classmethod
    def of(cls, frame: bytes) -> Request:
        kind, _version, correlation, length = struct.unpack(">hhih", frame[:10])
        return cls(kind, correlation, frame[10 : 10 + max(length, 0)].decode())


Rule = Callable[[Request], Fate]


def let_pass(_request: Request) -> Fate:
    """The rule of a proxy that nobody told anything."""
    return Fate.PASS


@dataclass
class First:
    """A rule for so many requests of a kind, of the clients whose names begin so; those after them pass."""

    fate: Fate
    kind: int
    times: float = 1
    client: str = ""

    def __call__(self, request: Request) -> Fate:
        if request.kind != self.kind or not request.client.startswith(self.client) or self.times <= 0:
            return Fate.PASS
        self.times -= 1
        return self.fate


@dataclass
class _Link:
    """One client's connection, both halves, and the requests whose answers it will not get."""

    client: asyncio.StreamReader
    to_client: asyncio.StreamWriter
    broker: asyncio.StreamReader
    to_broker: asyncio.StreamWriter
    doomed: set[int] = field(default_factory=set)


class KafkaProxy:
    """Listens on a loopback port, which the broker must advertise.

    Args:
        port: a free one.

    Attributes:
        rule: asked about every request; may be replaced at any time.
        hit: the requests that did not simply pass.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.rule: Rule = let_pass
        self.hit: list[Request] = []
        self._target = 0
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, target: int) -> Self:
        """Listen, and pass on what comes to the broker's own port."""
        self._target = target
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await self._server.wait_closed()

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(client, to_client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_client.close()
            return
        link = _Link(client, to_client, broker, to_broker)
        pumps = [asyncio.create_task(self._requests(link)), asyncio.create_task(self._answers(link))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            to_client.close()
            to_broker.close()
            await asyncio.gather(*pumps, return_exceptions=True)  # either side may be gone, which is what ended it

    async def _requests(self, link: _Link) -> None:
        while True:
            frame = await _frame(link.client)
            request = Request.of(frame)
            fate = self.rule(request)
            if fate is not Fate.PASS:
                self.hit.append(request)
            if fate is Fate.CUT_BEFORE:
                return
            if fate is Fate.CUT_AFTER:
                link.doomed.add(request.correlation)
            if fate is not Fate.SWALLOW:
                await _pass(link.to_broker, frame)

    async def _answers(self, link: _Link) -> None:
        while True:
            frame = await _frame(link.broker)
            (correlation,) = struct.unpack(">i", frame[:4])
            if correlation in link.doomed:
                return
            await _pass(link.to_client, frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


async def _pass(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()
