"""What both HTTP services share: the door (tracing, headers, origin checks), who is asking, and metrics."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from earshot.adapters.problems import Refused, internal_problem, problem
from earshot.adapters.wiring import Kit
from earshot.kernel import telemetry
from earshot.kernel.errors import EarshotError, Misconfigured
from earshot.kernel.ports import Job
from earshot.kernel.settings import Settings

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""FastAPI's own would put a second span between ours, and what clients sent into logs."""
DEFAULT_TENANT = "default"
COOKIE = "earshot_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_bearer = HTTPBearer(auto_error=False, description="EARSHOT_API_KEY. Not needed on loopback when no key is set.")


# --- who is asking ----------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, settings: Settings) -> None:
    """Refuse to be reachable from elsewhere without a key.

    Raises:
        Misconfigured: ``host`` is no loopback address and no API key is set.
    """
    if not is_loopback(host) and not settings.api_key.get_secret_value():
        raise Misconfigured(
            f"Listening on {host or 'every address'} without an API key would let anyone in.",
            next_step="Set EARSHOT_API_KEY, or listen on 127.0.0.1.",
        )


def session_of(key: str) -> str:
    """The value of the page's cookie: proves knowledge of the key without containing it."""
    return hmac.new(key.encode(), b"earshot session", hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def kit_of(request: Request) -> Kit:
    """The adapters of this app."""
    kit: Kit = request.app.state.kit
    return kit


def tenant_of(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> str:
    """The tenant that is asking. Raises ``Refused`` (401) without the right key."""
    key = kit_of(request).settings.api_key.get_secret_value()
    if not key:
        return DEFAULT_TENANT
    if bearer is not None and same(bearer.credentials, key):
        return DEFAULT_TENANT
    if same(request.cookies.get(COOKIE, ""), session_of(key)):
        return DEFAULT_TENANT
    raise Refused(
        401,
        "not_authenticated",
        "This needs the API key.",
        next_step="Send it as `Authorization: Bearer KEY`; the key is the server's EARSHOT_API_KEY.",
        headers={"WWW-Authenticate": "Bearer"},
    )


Tenant = Annotated[str, Depends(tenant_of)]
KitOf = Annotated[Kit, Depends(kit_of)]


def check_origin(method: str, headers: Headers, has_key: bool) -> None:
    """Keep other sites out of a browser on the same machine. Raises ``Refused`` (421, 403).

    Without a key the server is on loopback, where a foreign name in ``Host`` means DNS rebinding. A foreign ``Origin``
    may not change anything, except with the key in a header, which no foreign page has.
    """
    host = headers.get("host", "")
    if not has_key and not is_loopback(_name_of(f"//{host}")):
        raise Refused(
            421, "wrong_host", "Without an API key only loopback names are answered.", next_step="Use 127.0.0.1."
        )
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit_netloc(origin) != host.lower()
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

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._has_key = bool(settings.api_key.get_secret_value())
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
                    for name, value in _SECURITY_HEADERS.items():
                        answer.setdefault(name, value)
                await send(message)

            await self._answer(scope, receive, sending, statuses)
            route, status = _route(scope), statuses[0] if statuses else 0
            span.update_name(f"{method} {route}")
            span.set_attributes(
                {"http.request.method": method, "http.route": route, "http.response.status_code": status}
            )
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, statuses: list[int]) -> None:
        try:
            check_origin(scope["method"], Headers(scope=scope), self._has_key)
            await self._app(scope, receive, send)
        except EarshotError as error:
            await problem(error)(scope, receive, send)
        except Exception as error:  # a bug: the client gets a problem, the log gets the rest
            answer = internal_problem(error)
            if statuses:
                raise  # too late for another answer: the server ends the connection
            await answer(scope, receive, send)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def mark_span(job: Job) -> None:
    """The trace of a job begins at the request that made it: the request's span is kept with it."""
    trace.get_current_span().set_attributes(
        {telemetry.TENANT: job.tenant, telemetry.RECORDING: job.recording_id, telemetry.REVISION: job.revision}
    )


def _route(scope: Scope) -> str:
    """The route's template: few values, whatever paths come in."""
    return str(getattr(scope.get("route"), "path", None) or "(none)")


def install(app: FastAPI, kit: Kit) -> Metrics:
    """Give an app its adapters, the door and its metrics."""
    metrics = Metrics()
    app.state.kit, app.state.metrics = kit, metrics
    app.add_middleware(Door, settings=kit.settings, metrics=metrics)
    return metrics
