"""Who is asking, and whether they may: one look in front of every route of the interface.

A route says what it needs with ``openapi_extra=access(…)``; one that says nothing needs ``read`` for GET, ``erase`` for
DELETE and ``write`` for the rest, and is closed to keys that are limited to collections, unless it takes a dependency
that heeds them.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace
from starlette.types import Scope as AsgiScope

from earshot.adapters.keyring import KeyRing
from earshot.adapters.oidc import OidcSettings, Tokens
from earshot.adapters.problems import Refused
from earshot.adapters.rate_limits import LimitsSettings, Policy, RateLimits, Standing
from earshot.adapters.trail import Trail, network_of
from earshot.adapters.wiring import Kit
from earshot.kernel.access import DEFAULT_TENANT, PREFIX, SCOPES, Principal, Scope
from earshot.kernel.ports.access import ApiKey, AuditEntry
from earshot.kernel.settings import Settings, load
from earshot.kernel.telemetry import trace_id_of

EXTENSION = "x-access"
"""Where the OpenAPI document says what a route needs."""
_BY_METHOD: Mapping[str, Scope] = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "DELETE": "erase"}
_FORBIDDEN = 403
F = TypeVar("F", bound=Callable[..., Any])
_bearer = HTTPBearer(
    auto_error=False,
    description="An API key, or a token of the configured OpenID Connect provider. On loopback, while EARSHOT_API_KEY "
    "is not set, whoever sends none is the tenant `default` with every scope.",
)
_LOCAL = Principal(DEFAULT_TENANT, "local", frozenset(SCOPES))
_ENVIRONMENT = Principal(DEFAULT_TENANT, "environment", frozenset(SCOPES))


@dataclass(frozen=True)
class Rule:
    """What a route needs.

    Attributes:
        scope: what the caller must be allowed.
        limit: which rate limit it counts for.
        audited: whether the audit log tells of it.
        ticket: whether a ticket in the URL opens it.
    """

    scope: Scope
    limit: Policy = "other"
    audited: bool = True
    ticket: bool = False


def access(
    scope: Scope | None = None, *, limit: Policy = "other", audited: bool = True, ticket: bool = False
) -> dict[str, Any]:
    """What a route needs, as its ``openapi_extra``; ``None``: what its method says. See :class:`Rule`."""
    said = {"scope": scope, "limit": limit, "audited": audited, "ticket": ticket}
    return {EXTENSION: {name: value for name, value in said.items() if value is not None}}


def rule_of(method: str, extra: Mapping[str, Any] | None) -> Rule:
    """What a route needs, by its method and its ``openapi_extra``."""
    return replace(Rule(_BY_METHOD.get(method.upper(), "write")), **(extra or {}).get(EXTENSION, {}))


def heeds_collections(dependency: F) -> F:
    """Mark a dependency that looks at ``Principal.collections``: a route that takes it is open to limited keys."""
    dependency.heeds_collections = True  # type: ignore[attr-defined] # read by _heeds
    return dependency


def is_closed(settings: Settings) -> bool:
    """Whether everyone must say who they are. Without a key and a provider only loopback is listened on."""
    return bool(settings.api_key.get_secret_value() or load(OidcSettings).issuer)


class Doorkeeper:
    """Knows callers, counts their requests and notes what they did.

    Args:
        kit: the catalog is taken from it when it is needed.

    Raises:
        Misconfigured: the settings of the provider or of the limits cannot be used.
    """

    def __init__(self, kit: Kit) -> None:
        self._secret = kit.settings.api_key.get_secret_value()
        self.closed = is_closed(kit.settings)
        oidc = load(OidcSettings)
        self._tokens = Tokens(oidc) if oidc.issuer else None
        self.limits = RateLimits(load(LimitsSettings))
        self.ring = KeyRing(lambda: kit.catalog)
        self.trail = Trail(lambda: kit.catalog)

    async def caller(self, request: Request, bearer: str | None, rule: Rule) -> Principal:
        """Who sends a request. Raises ``Refused`` (401, 429) for credentials that open nothing."""
        if bearer is not None and (self.closed or bearer.startswith(PREFIX)):
            found = await self._by_bearer(bearer)
        elif rule.ticket and "ticket" in request.query_params:
            found = await self._by_key(request.query_params["ticket"], "ticket")
        else:
            found = None if self.closed else _LOCAL
        if found is None:
            await self._count(request, "unknown", network_of(_address(request)))
            raise _unknown()
        return found

    async def _by_bearer(self, text: str) -> Principal | None:
        if self._secret and _same(text, self._secret):
            return _ENVIRONMENT
        if text.startswith(PREFIX):
            return await self._by_key(text, "key")
        return await self._tokens.principal(text) if self._tokens is not None else None

    async def _by_key(self, text: str, kind: str) -> Principal | None:
        key = await self.ring.find(text)
        if key is None or key.kind != kind:
            return None
        self.trail.used(key)
        return _principal(key)

    async def count(self, request: Request, caller: Principal, rule: Rule, cost: int = 1) -> None:
        """Count a request by its caller, for so many where it asks for more than one. Raises ``Refused`` (429)."""
        if caller is not _LOCAL and cost > 0:
            await self._count(request, rule.limit, f"{caller.tenant}:{caller.key_id}", cost)

    async def _count(self, request: Request, policy: Policy, who: str, cost: int = 1) -> None:
        standing = await self.limits.hit(policy, who, cost)
        if standing is not None:
            request.state.standing = standing
            if not standing.allowed:
                raise _too_many(standing)

    def note(self, scope: AsgiScope, status: int, trace_id: str) -> None:
        """Put an answered request on record, if its route wants that."""
        state = scope.get("state", {})
        caller, rule = state.get("caller"), state.get("rule")
        if caller is None or not rule.audited or state.get("recorded"):
            return
        if status < 400 or status == _FORBIDDEN:
            self.trail.note(_entry(scope, caller, status, trace_id))

    async def record(self, request: Request) -> None:
        """Put a request on record before it is done. Raises ``Unavailable``: then it may not be done."""
        trace_id = trace_id_of(trace.get_current_span())
        await self.trail.record(_entry(request.scope, request.state.caller, 0, trace_id))
        request.state.recorded = True

    async def close(self) -> None:
        """Write down what waits, and let go of what counts."""
        await self.trail.close()
        await self.limits.close()


def doorkeeper_of(request: Request) -> Doorkeeper:
    """The doorkeeper of this app."""
    keeper: Doorkeeper = request.app.state.doorkeeper
    return keeper


async def admitted(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> Principal:
    """The caller, who may do what the route does, and has not done it too often.

    Raises:
        Refused: 401, 403 or 429.
    """
    keeper, route = doorkeeper_of(request), request.scope["route"]
    rule = rule_of(request.method, route.openapi_extra)
    caller = await keeper.caller(request, bearer.credentials if bearer else None, rule)
    request.state.caller, request.state.rule = caller, rule
    await keeper.count(request, caller, rule)
    if rule.scope not in caller.scopes:
        raise _forbidden("scope_missing", f"This needs the scope {rule.scope}.", "Use a key that has it.", rule.scope)
    if caller.collections is not None and not _heeds(route.dependant):
        raise _forbidden("collection_not_allowed", "This is about all of the tenant.", "Use a key without collections.")
    return caller


async def tenant_of(caller: Annotated[Principal, Depends(admitted)]) -> str:
    """The tenant that is asking."""
    return caller.tenant


@heeds_collections
async def caller_of(caller: Annotated[Principal, Depends(admitted)]) -> Principal:
    """The caller. A route that takes it looks at ``collections``, with :func:`check_collection` for example."""
    return caller


async def operator_of(caller: Annotated[Principal, Depends(admitted)]) -> Principal:
    """The caller, who runs the system. Raises ``Refused`` (403)."""
    if not caller.operator:
        raise _forbidden(
            "operator_needed", "This is for who runs the system.", f"Use an admin's key of the tenant {DEFAULT_TENANT}."
        )
    return caller


Tenant = Annotated[str, Depends(tenant_of)]
Caller = Annotated[Principal, Depends(caller_of)]
Operator = Annotated[Principal, Depends(operator_of)]
DoorkeeperOf = Annotated[Doorkeeper, Depends(doorkeeper_of)]


def check_collection(caller: Principal, collection: str) -> None:
    """Raise ``Refused`` (403) when a key is limited to other collections."""
    if not caller.sees(collection):
        raise _forbidden("collection_not_allowed", "The key is limited to other collections.", "Name one of its own.")


def about_recordings(request: Request, *recording_ids: str) -> None:
    """Say which recordings a request is about, for the audit log."""
    request.state.recordings = tuple(dict.fromkeys((*getattr(request.state, "recordings", ()), *recording_ids)))


def path_of(scope: AsgiScope) -> str:
    """The route's template: few values, whatever paths come in."""
    inner = scope.get("fastapi") or {}
    route = inner.get("effective_route_context") or scope.get("route")
    return str(getattr(route, "path", None) or "(none)")


def _principal(key: ApiKey) -> Principal:
    collections = None if key.collections is None else frozenset(key.collections)
    who = key.created_by if key.kind == "ticket" else key.id
    return Principal(key.tenant, who, frozenset(key.scopes), collections)


def _entry(scope: AsgiScope, caller: Principal, status: int, trace_id: str) -> AuditEntry:
    return AuditEntry(
        tenant=caller.tenant,
        at=datetime.now(UTC),
        key_id=caller.key_id,
        action=f"{scope['method']} {path_of(scope)}",
        recordings=tuple(scope["state"].get("recordings", ())),
        address=network_of((scope.get("client") or ("",))[0]),
        status=status,
        trace_id=trace_id,
    )


def _heeds(dependant: Any) -> bool:
    """Whether any dependency of a route heeds collections."""
    return any(getattr(each.call, "heeds_collections", False) or _heeds(each) for each in dependant.dependencies)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _same(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _unknown() -> Refused:
    return Refused(
        401,
        "not_authenticated",
        "This needs an API key that is valid.",
        next_step="Send it as `Authorization: Bearer KEY`; `earshot keys create` makes one.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _forbidden(code: str, detail: str, next_step: str, scope: str = "") -> Refused:
    challenge = f'Bearer error="insufficient_scope", scope={json.dumps(scope)}' if scope else ""
    return Refused(403, code, detail, next_step=next_step, headers={"WWW-Authenticate": challenge} if scope else {})


def _too_many(standing: Standing) -> Refused:
    return Refused(
        429,
        "rate_limited",
        f"More than {standing.quota} requests in a minute ({standing.policy}).",
        next_step="Wait as Retry-After says, or raise the limit (EARSHOT_LIMITS__…).",
        headers={"Retry-After": str(standing.reset_s)},
    )
