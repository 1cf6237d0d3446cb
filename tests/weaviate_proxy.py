"""A proxy before a Weaviate server, HTTP and gRPC: passes everything on, or does to it what a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
import grpc
from aiohttp import web
from weaviate.proto.v1 import batch_pb2

from tests.processes import free_ports

BATCH = "/weaviate.v1.Weaviate/BatchObjects"
LONGEST = 64 * 2**20
"""Bytes of a message."""


class Mode(Enum):
    """What becomes of every call: passed on, answered with an error, or never answered."""

    PASS = auto()
    FAIL = auto()
    HANG = auto()


Verdict = Callable[[str], tuple[int, str] | None]
"""Of an object, by its text: the status and the sentence with which it is refused; ``None``: it is taken."""


class WeaviateProxy:
    """Listens on two loopback ports.

    Args:
        target: the URL of the server, as the settings take it.

    Attributes:
        mode: of every call; may be changed at any time.
        verdict: on each object that is written, in a batch or alone; one that is refused never reaches the server.
        failed: calls that did not pass.
        refused: objects that were refused.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._http_target = f"http://{parts.hostname}:{parts.port}"
        self._grpc_target = f"{parts.hostname}:{parse_qs(parts.query)['grpc'][0]}"
        self._ports = free_ports(2)
        self.mode = Mode.PASS
        self.verdict: Verdict = lambda _text: None
        self.failed = 0
        self.refused = 0
        self._let_go = asyncio.Event()

    @property
    def url(self) -> str:
        """As the settings take it."""
        return f"weaviate://127.0.0.1:{self._ports[0]}?grpc={self._ports[1]}"

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession()
        app = web.Application(client_max_size=LONGEST)
        app.router.add_route("*", "/{path:.*}", self._http)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._ports[0]).start()
        options = [("grpc.max_receive_message_length", LONGEST), ("grpc.max_send_message_length", LONGEST)]
        self._channel = grpc.aio.insecure_channel(self._grpc_target, options=options)
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self._server.add_insecure_port(f"127.0.0.1:{self._ports[1]}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._let_go.set()
        await self._server.stop(0.1)
        await self._channel.close()
        await self._runner.cleanup()
        await self._client.close()

    async def _held_up(self) -> bool:
        """Whether the call is to fail; one that hangs is held until the proxy ends."""
        if self.mode is Mode.PASS:
            return False
        self.failed += 1
        if self.mode is Mode.HANG:
            await self._let_go.wait()
        return True

    async def _http(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if await self._held_up():
            return web.json_response({"error": [{"message": "the proxy says no"}]}, status=500)
        if request.method in ("POST", "PUT") and request.path.startswith("/v1/objects"):
            verdict = self.verdict(json.loads(body)["properties"]["text"])
            if verdict is not None:
                self.refused += 1
                return web.json_response({"error": [{"message": verdict[1]}]}, status=verdict[0])
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = f"{self._http_target}{request.raw_path}"
        async with self._client.request(request.method, url, data=body, headers=headers) as answer:
            kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
            return web.Response(body=await answer.read(), status=answer.status, headers=kind)

    async def call(self, method: str, request: bytes, context: Any) -> bytes:
        """One gRPC call."""
        if await self._held_up():
            await context.abort(grpc.StatusCode.INTERNAL, "the proxy says no")
        return await (self._batch(request) if method == BATCH else self._pass(method, request))

    async def _pass(self, method: str, request: bytes) -> bytes:
        answer: bytes = await self._channel.unary_unary(method)(request)
        return answer

    async def _batch(self, request: bytes) -> bytes:
        """Pass on the objects that are taken; say of the others what a server would."""
        asked = batch_pb2.BatchObjectsRequest.FromString(request)
        verdicts = [
            self.verdict(each.properties.non_ref_properties.fields["text"].string_value) for each in asked.objects
        ]
        taken = [at for at, verdict in enumerate(verdicts) if verdict is None]
        reply = batch_pb2.BatchObjectsReply()
        if taken:
            kept = batch_pb2.BatchObjectsRequest(
                objects=[asked.objects[at] for at in taken], consistency_level=asked.consistency_level
            )
            reply = batch_pb2.BatchObjectsReply.FromString(await self._pass(BATCH, kept.SerializeToString()))
            for error in reply.errors:
                error.index = taken[error.index]
        for at, verdict in enumerate(verdicts):
            if verdict is not None:
                self.refused += 1
                reply.errors.append(batch_pb2.BatchObjectsReply.BatchError(index=at, error=verdict[1]))
        return reply.SerializeToString()


class _Handlers(grpc.GenericRpcHandler):
    """Takes every method, and its bytes as they are."""

    def __init__(self, proxy: WeaviateProxy) -> None:
        self._proxy = proxy

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def handle(request: bytes, context: Any) -> bytes:
            return await self._proxy.call(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)
