"""Bearer tokens of an OpenID Connect provider, checked against its published keys."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import structlog
from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.access import SCOPES, Principal
from earshot.kernel.errors import Misconfigured, Unavailable
from earshot.kernel.events import TENANT_PATTERN
from earshot.kernel.settings import config

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Of RFC 7518 and 8037: with these, who can check a token cannot make one."""
_LOOPBACK = re.compile(r"^http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/|$)")
MOST_BYTES = 1024 * 1024
MOST_SUBJECT = 100
AGAIN_S = 10.0
"""A token with a key that is not known makes us look for new keys, but not more often than that."""
log = structlog.get_logger()


class OidcSettings(BaseSettings):
    """Whose tokens are let in besides API keys. Off without an issuer."""

    model_config = config("OIDC__")

    issuer: str = Field("", description="`iss` of the tokens, and where the provider is found; empty: off.")
    audience: str = Field("", description="`aud` of the tokens: the name the provider knows this service by.")
    jwks_url: str = Field("", description="Where its keys are; empty: ISSUER/.well-known/openid-configuration says.")
    algorithms: tuple[str, ...] = Field(("RS256", "ES256"), description="Of signatures; symmetric ones never.")
    tenant_claim: str = Field("tenant", description="Claim that names the tenant; a token without it opens nothing.")
    scope_claim: str = Field("scope", description="Claim with the scopes: a list, or words with spaces between.")
    scope_prefix: str = Field("", description="Before each scope, for example `earshot:`; other scopes are ignored.")
    leeway_s: int = Field(30, ge=0, le=300, description="How far the clocks may differ.")
    timeout_s: float = Field(5.0, gt=0, description="Longest wait for the provider.")
    keys_kept_s: float = Field(3600.0, gt=0, description="How long its keys are used before it is asked again.")


class Tokens:
    """Checks tokens.

    Args:
        settings: with an issuer.
        clock: seconds that never go back.

    Raises:
        Misconfigured: no audience, an algorithm that anyone could sign with, or a library that is missing.
    """

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        _check(settings)
        self._settings = settings
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched = -1e9
        self._fetching = asyncio.Lock()

    async def principal(self, token: str) -> Principal | None:
        """Who a token says is calling; ``None`` when it opens nothing.

        Raises:
            Unavailable: the provider's keys cannot be had.
        """
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            try:
                claims = self._claims(token, await self._current(self._settings.keys_kept_s))
            except InvalidKeyIdError:  # the provider may have new keys
                claims = self._claims(token, await self._current(AGAIN_S))
        except (JoseError, ValueError, TypeError, RecursionError) as error:  # a token is hostile until it is checked
            log.info("token_refused", reason=type(error).__name__)
            return None
        return self._principal(claims)

    def _claims(self, token: str, keys: KeySet) -> Mapping[str, Any]:
        """The claims of a token that is ours and valid now. Raises ``JoseError``, or what hostile bytes may raise."""
        from joserfc import jwt

        wanted = jwt.JWTClaimsRegistry(
            leeway=self._settings.leeway_s,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.audience},
            exp={"essential": True},
        )
        claims = jwt.decode(token, keys, algorithms=list(self._settings.algorithms)).claims
        wanted.validate(claims)
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        tenant, subject = claims.get(self._settings.tenant_claim), claims.get("sub")
        if not isinstance(tenant, str) or not re.fullmatch(TENANT_PATTERN, tenant) or not isinstance(subject, str):
            return None
        said = claims.get(self._settings.scope_claim)
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        prefix = self._settings.scope_prefix
        scopes = frozenset(scope for scope in SCOPES if prefix + scope in words)
        return Principal(tenant, f"oidc:{subject[:MOST_SUBJECT]}", scopes)

    async def _current(self, older_than_s: float) -> KeySet:
        """The provider's keys; those there are where it does not answer."""
        async with self._fetching:
            if self._keys is not None and self._clock() - self._fetched < older_than_s:
                return self._keys
            try:
                keys = await self._fetch()
            except (httpx.HTTPError, ValueError, KeyError, TypeError, RecursionError) as error:
                log.warning("issuer_does_not_answer", error=type(error).__name__)
                if self._keys is None:
                    raise Unavailable(
                        "issuer",
                        f"The keys of {self._settings.issuer} cannot be had ({type(error).__name__}).",
                        next_step="Check EARSHOT_OIDC__ISSUER, or use an API key meanwhile.",
                    ) from error
                keys = self._keys
            self._keys, self._fetched = keys, self._clock()
            return keys

    async def _fetch(self) -> KeySet:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        async with httpx.AsyncClient(timeout=self._settings.timeout_s, trust_env=False) as http:
            url = self._settings.jwks_url
            if not url:
                place = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                found = await _json(http, place, self._settings.timeout_s)
                if found.get("issuer") != self._settings.issuer:
                    raise ValueError("the provider calls itself something else")
                url = str(found["jwks_uri"])
            try:
                return KeySet.import_key_set(await _json(http, url, self._settings.timeout_s))
            except JoseError as error:
                raise ValueError("these are no keys") from error


async def _json(http: httpx.AsyncClient, url: str, within_s: float) -> Any:
    """A JSON document that is not too large. Raises ``httpx.HTTPError`` or ``ValueError``."""
    body = bytearray()
    try:
        async with asyncio.timeout(within_s), http.stream("GET", url) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise ValueError("the document is too large")
    except TimeoutError as error:
        raise httpx.ReadTimeout("it takes too long") from error
    return json.loads(body)


def _check(settings: OidcSettings) -> None:
    try:
        import joserfc  # noqa: F401
    except ImportError as error:
        raise Misconfigured("EARSHOT_OIDC__ISSUER needs joserfc.", next_step="pip install joserfc") from error
    for url in filter(None, (settings.issuer, settings.jwks_url)):
        if not url.startswith("https://") and not _LOOPBACK.match(url):
            raise Misconfigured(
                f"EARSHOT_OIDC__… names {url}.", next_step="Anyone on the way could change it: use https."
            )
    if not settings.audience:
        raise Misconfigured("EARSHOT_OIDC__ISSUER is set, but no audience.", next_step="Set EARSHOT_OIDC__AUDIENCE.")
    if wrong := set(settings.algorithms) - ASYMMETRIC:
        raise Misconfigured(
            f"EARSHOT_OIDC__ALGORITHMS names {', '.join(sorted(wrong))}.",
            next_step=f"Choose among {', '.join(sorted(ASYMMETRIC))}.",
        )
