"""The tools of an assistant over HTTP: ``POST /mcp``, the protocol's streamable HTTP without sessions.

A tool asks this same app, with the caller's own key: what it may see, how often, and what is put on record are decided
where they are for everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from anyio import from_thread
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from earshot.adapters.access import access
from earshot.adapters.problems import Refused
from earshot.adapters.web import Caller, WebSettings
from earshot.assistant import server_of
from earshot.client import Client
from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import load
from earshot.kernel.telemetry import trace_headers

if TYPE_CHECKING:
    from mcp.server import MCPServer

MOST = 16
"""Messages answered at once by a process: each may hold a thread, of which the framework has 40."""
router = APIRouter(include_in_schema=False)  # the protocol has its own description: tools/list


@router.post("/mcp", openapi_extra=access("read", audited=False))
async def serve(request: Request, _caller: Caller) -> Response:
    """One message of the Model Context Protocol.

    Raises:
        Refused: 429 when the process answers as many as it may; 501 where the extra is not installed.
    """
    open_now: set[object] = request.app.state.assistants
    if len(open_now) >= MOST:
        raise Refused(429, "too_many_tools", "Too many tools are in use.", next_step="Send it again later.")
    client = Client(str(request.base_url), api_key="", patience_s=0, transport=_Inwards(request))
    try:
        server = server_of(client)
    except Misconfigured as error:
        raise Refused(501, "extra_missing", error.detail, next_step=error.next_step) from error
    return _Answer(server, client, open_now)


def prepare(app: FastAPI) -> None:
    """Give an app what the route needs."""
    app.state.assistants = set[object]()


class _Answer(Response):
    """What the protocol's SDK answers to the message."""

    def __init__(self, server: MCPServer[Any], client: Client, open_now: set[object]) -> None:
        super().__init__()
        self._server, self._client, self._open_now = server, client, open_now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing of it stays."""
        from mcp.server.transport_security import TransportSecuritySettings

        self._server.streamable_http_app(
            json_response=True,
            stateless_http=True,
            max_request_body_size=load(WebSettings).max_body_bytes,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the door has looked
        )
        self._open_now.add(self)
        try:
            async with self._server.session_manager.run():
                await self._server.session_manager.handle_request(scope, receive, send)
        finally:
            self._open_now.discard(self)
            self._client.close()


class _Inwards(httpx.BaseTransport):
    """Carries what a tool asks, in its thread, to the app that serves it, as the caller would have sent it."""

    def __init__(self, request: Request) -> None:
        address = (request.client.host, request.client.port) if request.client else ("", 0)
        self._app = httpx.ASGITransport(app=request.app, raise_app_exceptions=False, client=address)
        said = request.headers.get("authorization")
        self._credentials = {} if said is None else {"authorization": said}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The app's answer."""
        request.headers.update(self._credentials | trace_headers())
        return from_thread.run(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._app.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
