"""What both HTTP services share: the door (tracing, headers, origin checks), who is asking, and metrics."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Collection
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import Field
from pydantic_settings import BaseSettings
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earshot.adapters.access import Caller, Doorkeeper, Operator, Tenant, is_closed, path_of
from earshot.adapters.problems import Refused, internal_problem, problem, too_large
from earshot.adapters.wiring import Kit
from earshot.kernel import telemetry
from earshot.kernel.access import DEFAULT_TENANT
from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable
from earshot.kernel.ports import Job
from earshot.kernel.settings import Settings, config, load

__all__ = ["DEFAULT_TENANT", "Caller", "Door", "KitOf", "Metrics", "Operator", "Tenant", "WebSettings", "check_bind"]

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""FastAPI's own would put a second span between ours, and what clients sent into logs."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # what frame-ancestors says, for browsers that do not know it
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


# --- who may come near ------------------------------------------------------------------------------------------


class WebSettings(BaseSettings):
    """Limits of every request, and who may ask from where."""

    model_config = config("WEB__")

    cors_origins: tuple[str, ...] = Field(
        (), description='Sites whose pages may call the interface, as JSON: ["https://app.example"]; none by default.'
    )
    max_body_bytes: int = Field(1024 * 1024, ge=1, description="Largest body that is not an upload.")
    max_headers: int = Field(100, ge=1, description="Header lines of a request; all of them at most 32 KiB.")
    trusted_proxies: str = Field(
        "", description="Addresses of proxies, with commas, whose X-Forwarded-For says where a request comes from."
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, settings: Settings) -> None:
    """Refuse to be reachable from elsewhere while nobody has to say who they are.

    Raises:
        Misconfigured: ``host`` is no loopback address, and neither an API key nor a provider is set.
    """
    if not is_loopback(host) and not is_closed(settings):
        raise Misconfigured(
            f"Listening on {host or 'every address'} without an API key would let anyone in.",
            next_step="Set EARSHOT_API_KEY, or listen on 127.0.0.1.",
        )


def kit_of(request: Request) -> Kit:
    """The adapters of this app."""
    kit: Kit = request.app.state.kit
    return kit


KitOf = Annotated[Kit, Depends(kit_of)]


def check_origin(method: str, headers: Headers, closed: bool, friends: Collection[str] = ()) -> None:
    """Keep other sites out of a browser on the same machine. Raises ``Refused`` (421, 403).

    While nobody has to say who they are the server is on loopback, where a foreign name in ``Host`` means DNS
    rebinding. A foreign ``Origin`` may not change anything, unless it is among the ``friends`` or sends a key in a
    header, which no foreign page has.
    """
    host = headers.get("host", "")
    if not closed and not is_loopback(_name_of(f"//{host}")):
        raise Refused(
            421, "wrong_host", "Without an API key only loopback names are answered.", next_step="Use 127.0.0.1."
        )
    origin = headers.get("origin")
    foreign = origin is not None and origin not in friends and urlsplit_netloc(origin) != host.lower()
    if method not in _SAFE_METHODS and foreign and "authorization" not in headers:
        raise Refused(403, "cross_origin", "Another site may not change anything here.")


def urlsplit_netloc(url: str) -> str:
    """Host and port of a URL in lower case; empty when it has none that is valid."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


# --- the door ---------------------------------------------------------------------------------------------------


class Metrics:
    """What the HTTP services count; one registry an app, so that two apps never share."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "earshot_http_requests", "HTTP requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "earshot_http_request_seconds", "Time until the answer was sent.", ("route",), registry=self.registry
        )


class Door:
    """Around every request: one server span, the trace id and security headers, origin checks, no bare 500."""

    def __init__(self, app: ASGIApp, *, keeper: Doorkeeper, settings: WebSettings, metrics: Metrics) -> None:
        self._app = app
        self._keeper = keeper
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, started, statuses = Headers(scope=scope), time.perf_counter(), list[int]()
        parent = telemetry.context_of({name: headers.get(name, "") for name in ("traceparent", "tracestate")})
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        with telemetry.tracer().start_as_current_span(method, context=parent, kind=SpanKind.SERVER) as span:
            trace_id = telemetry.trace_id_of(span)

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    answer = MutableHeaders(scope=message)
                    answer["X-Trace-Id"] = trace_id
                    standing = scope.get("state", {}).get("standing")
                    for name, value in (_SECURITY_HEADERS | (standing.headers if standing else {})).items():
                        answer.setdefault(name, value)
                await send(message)

            await self._answer(scope, self._bounded(scope, receive), sending, statuses)
            route, status = path_of(scope), statuses[0] if statuses else 0
            span.update_name(f"{method} {route}")
            span.set_attributes(
                {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            )
        self._keeper.note(scope, status, trace_id)
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, statuses: list[int]) -> None:
        try:
            if len(scope["headers"]) > self._settings.max_headers:
                raise Refused(431, "too_many_headers", "The request has too many headers.")
            check_origin(scope["method"], Headers(scope=scope), self._keeper.closed, self._settings.cors_origins)
            await self._app(scope, receive, send)
        except EarshotError as error:
            await problem(error)(scope, receive, send)
        except asyncio.CancelledError:  # the server was asked to end, and the time for finishing is over
            if statuses:
                raise
            late = Unavailable("server", "The server is ending and could not finish this.", next_step="Send it again.")
            await problem(late)(scope, receive, send)
        except Exception as error:  # a bug: the client gets a problem, the log gets the rest
            answer = internal_problem(error)
            if statuses:
                raise  # too late for another answer: the server ends the connection
            await answer(scope, receive, send)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """What comes in, as far as it may: the framework reads a body to its end wherever a route declares one."""
        came, most = 0, self._settings.max_body_bytes

        async def receiving() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most and getattr(scope.get("route"), "body_field", None) is not None:
                raise too_large("The body is larger than this server accepts.", "EARSHOT_WEB__MAX_BODY_BYTES")
            return message

        return receiving


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def mark_span(job: Job) -> None:
    """The trace of a job begins at the request that made it: the request's span is kept with it."""
    trace.get_current_span().set_attributes(
        {telemetry.TENANT: job.tenant, telemetry.RECORDING: job.recording_id, telemetry.REVISION: job.revision}
    )


def install(app: FastAPI, kit: Kit) -> Metrics:
    """Give an app its adapters, the door, its doorkeeper and its metrics."""
    metrics, keeper, settings = Metrics(), Doorkeeper(kit), load(WebSettings)
    app.state.kit, app.state.metrics, app.state.doorkeeper = kit, metrics, keeper
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Range"],
            expose_headers=["Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Trace-Id"],
            max_age=600,
        )
    app.add_middleware(Door, keeper=keeper, settings=settings, metrics=metrics)
    return metrics
