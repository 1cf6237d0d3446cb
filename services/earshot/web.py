"""Ingest and query under one origin, with one OpenAPI document: what ``earshot up`` and compose serve."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from earshot import __version__, assistant_http
from earshot.adapters import openai_errors, problems, web
from earshot.adapters.access import EXTENSION, rule_of
from earshot.adapters.problems import Problem
from earshot.adapters.wiring import Kit
from earshot.eraser import api as erasure
from earshot.ingest import app as ingest
from earshot.kernel import telemetry
from earshot.kernel.ending import EXIT_FORCED, SIGNALS, end_within
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports import Decoder, Encoder
from earshot.kernel.settings import Settings, load
from earshot.kernel.topics import TOPICS
from earshot.logs import set_up
from earshot.query import app as query
from earshot.query.pages import pages
from earshot.query.progress import Streams

_DESCRIPTION = """Everything said becomes searchable, to the second.

Send a recording to `/api/v1/ingest`, follow its job, then ask `/api/v1/query`. Errors are problem documents (RFC 9457)
with a stable `code`, a `trace_id` and a `next_step`. With a key set, send `Authorization: Bearer KEY`; `x-access` says
which scope an operation needs.
"""
_TAGS = [
    {"name": "ingest", "description": "Send recordings and transcripts."},
    {"name": "query", "description": "Find what was said."},
    {"name": "answers", "description": "Ask, and be answered with proof; conversations."},
    {"name": "openai", "description": "The same for clients that know OpenAI's interface; a model is a collection."},
    {"name": "erasure", "description": "Erase a whole tenant, see what is left, say how long recordings are kept."},
    {"name": "jobs", "description": "Follow, cancel and retry the processing of a recording."},
    {"name": "recordings", "description": "List, read, play and erase recordings."},
    {"name": "collections", "description": "Say how the recordings of a collection are to be transcribed."},
    {"name": "dead letters", "description": "What could not be processed: look, send again, drop."},
    {"name": "keys", "description": "Who may do what, and who did: API keys, tenants, the audit log."},
    {"name": "about", "description": "What this is."},
    {"name": "health", "description": "For those who operate it."},
]


def create_app(kit: Kit, decoder: Decoder | None = None, encoder: Encoder | None = None) -> FastAPI:
    """Both services as one app, which closes the kit's adapters at its end; tests bring decoder and encoder."""
    app = FastAPI(
        title="Earshot",
        version=__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        telemetry=web.NO_TELEMETRY,
    )
    web.install(app, kit)
    problems.install(app)
    ingest.prepare(app, decoder)
    query.prepare(app, encoder)
    assistant_http.prepare(app)
    for router in (ingest.router, query.api, query.openai, erasure.router, query.health, assistant_http.router, pages):
        app.include_router(router)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign] # the way FastAPI documents for extending it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Close whatever was opened on the way."""
    kit: Kit = app.state.kit
    await asyncio.to_thread(_open, kit)
    try:
        yield
    finally:
        await app.state.doorkeeper.close()
        await app.state.answers.close()
        opened = vars(kit)  # cached properties that were used
        for name in ("vectors", "log", "catalog"):
            if name in opened:
                await opened[name].close()


def _open(kit: Kit) -> None:
    """Make the adapters before the first request needs them; what cannot work ends the start."""
    _ = kit.catalog, kit.blobs, kit.vectors, kit.log
    with suppress(Unavailable):  # the registry is asked again by the first event that needs it
        kit.codec.prepare(TOPICS)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, tags=app.openapi_tags, routes=app.routes
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        _replace_validation_errors(schema)
        _say_what_is_needed(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _say_what_is_needed(schema: dict[str, Any]) -> None:
    """Write out which scope each operation needs, and that a body may be too large."""
    too_large = problems.documented(413)[413]
    for methods in schema["paths"].values():
        for method, operation in methods.items():
            if "security" in operation:
                rule = rule_of(method, operation)
                operation[EXTENSION] = {"scope": rule.scope, "limit": rule.limit, "audited": rule.audited}
            if "requestBody" in operation:
                operation["responses"].setdefault("413", too_large)


def _replace_validation_errors(schema: dict[str, Any]) -> None:
    """FastAPI documents its own 422 everywhere; ours are problems."""
    shape = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, methods in schema["paths"].items():
        if path.startswith(openai_errors.PREFIX):
            continue  # these say what they answer themselves
        for operation in methods.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = {"description": "Unprocessable Content", "content": shape}


class _Server(uvicorn.Server):
    """Ends in steps: not ready, then no new connections, then what is in flight is finished, within a deadline.

    Args:
        config: of uvicorn.
        streams: of the app; they end with it, and readiness is asked there.
        notice_s: how long it is not ready, but still serves.
        within_s: so many seconds after the signal the process is gone.
    """

    def __init__(self, config: uvicorn.Config, streams: Streams, notice_s: float, within_s: float) -> None:
        super().__init__(config)
        self._streams = streams
        self._notice_s = notice_s
        self._within_s = within_s
        self._asked = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """The first signal drains, the second forces."""
        if self._streams.ending:
            os._exit(EXIT_FORCED)
        self._streams.ending, self._asked = True, time.monotonic()
        end_within(self._within_s, 0)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop listening: asked ten times a second."""
        over = self._streams.ending and time.monotonic() >= self._asked + self._notice_s
        return await super().on_tick(counter) or over


def run(
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    drain_s: float = 20.0,
    stop_s: float = 10.0,
    notice_s: float = 0.0,
) -> int:
    """Serve until told to stop; return the exit code.

    Args:
        settings: shared by every process.
        host: address to listen on.
        port: to listen on.
        drain_s: after SIGTERM, how long requests in flight may still take.
        stop_s: after that, how long stores may take to let go.
        notice_s: after SIGTERM, how long it is not ready, but still serves.

    Raises:
        Misconfigured: reachable from elsewhere without an API key.
    """
    web.check_bind(host, settings)
    set_up(settings)
    kit, proxies = Kit(settings), load(web.WebSettings).trusted_proxies
    provider = telemetry.set_up("web", kit.span_exporter())
    try:
        app = create_app(kit)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            http="h11",  # the other one has no limit for headers
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=math.ceil(drain_s),
            h11_max_incomplete_event_size=32 * 1024,
        )
        server = _Server(config, app.state.streams, notice_s, notice_s + drain_s + stop_s)
        for number in SIGNALS:  # from here on, also while it starts and after it has stopped
            signal.signal(number, server.handle_exit)
        server.run()
    finally:
        provider.shutdown()
    return 0
