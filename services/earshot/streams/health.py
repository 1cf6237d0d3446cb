"""A worker's own HTTP: is it alive, is it ready, what has it counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from earshot.kernel.errors import EarshotError
from earshot.streams.host import Host

REQUEST_S = 5.0
"""How long a request may take to arrive, and a probe to answer."""
Answer = tuple[HTTPStatus, str, bytes]


class HealthServer:
    """Serves ``/health/live``, ``/health/ready`` and ``/metrics`` of a host. Nothing else, no keep-alive.

    Args:
        host: whose health.
        address: to bind.
        port: to bind; 0 takes a free one, see :attr:`port`.
    """

    def __init__(self, host: Host, address: str, port: int) -> None:
        self._host = host
        self._address = address
        self.port = port

    async def __aenter__(self) -> HealthServer:
        """Start to listen."""
        self._server = await asyncio.start_server(self._serve, self._address, self.port, limit=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2 * REQUEST_S):
                request = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._answer(request.split(b" ")[1:2])
                head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            return  # a client that sends nothing, too much, or goes away
        finally:
            writer.close()

    async def _answer(self, path: list[bytes]) -> Answer:
        routes: dict[bytes, Callable[[], Awaitable[Answer]]] = {
            b"/health/live": self._live,
            b"/health/ready": self._ready,
            b"/metrics": self._metrics,
        }
        route = routes.get(path[0] if path else b"")
        return await route() if route else _json(HTTPStatus.NOT_FOUND, {"detail": "unknown path"})

    async def _live(self) -> Answer:
        return _json(HTTPStatus.OK, {"stage": self._host.stage.name, "state": self._host.vitals.state})

    async def _ready(self) -> Answer:
        vitals = self._host.vitals
        waits = "It is ending." if vitals.ending else vitals.reason or vitals.doubt
        reason = waits or ("joining the group" if vitals.joining else await self._probe())
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        facts = {"stage": self._host.stage.name, "ready": not reason, "reason": reason, "lag": vitals.lag}
        return _json(status, facts)

    async def _probe(self) -> str:
        """What is wrong with what the worker needs, in words; all of it is asked at once."""
        reasons = await asyncio.gather(*(_wrong(name, probe) for name, probe in self._host.probes.items()))
        return " ".join(filter(None, reasons))

    async def _metrics(self) -> Answer:
        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._host.metrics.registry)


async def _wrong(name: str, probe: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(REQUEST_S):
            await probe()
    except EarshotError as error:
        return str(error)
    except TimeoutError:
        return f"No answer from {name} within {REQUEST_S:g} s."
    return ""


def _json(status: HTTPStatus, facts: dict[str, object]) -> Answer:
    return status, "application/json", json.dumps(facts).encode()
