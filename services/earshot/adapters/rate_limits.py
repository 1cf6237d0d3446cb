"""How often somebody may ask: sliding windows of a minute, in this process or in Redis for several."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import config

if TYPE_CHECKING:
    from limits.aio.strategies import SlidingWindowCounterRateLimiter

Policy = Literal["search", "ingest", "answers", "other", "unknown"]
"""What a limit is for; ``unknown``: who sends a key that opens nothing, by address."""
POLICIES: tuple[Policy, ...] = get_args(Policy)
WINDOW_S = 60
REDIS_WITHIN_S = 0.25
REDIS_RESTS_S = 10.0
"""After Redis did not answer in time, so long nobody waits for it: each process counts alone."""
log = structlog.get_logger()


class LimitsSettings(BaseSettings):
    """How often a key may ask, within any minute. Who calls on loopback without a key is not limited."""

    model_config = config("LIMITS__")

    url: str = Field("", description="redis://host:6379/0 to count over every web process; empty: each counts alone.")
    search: int = Field(600, ge=0, description="Searches a minute by one key; 0: no limit, here and below.")
    ingest: int = Field(300, ge=0, description="Uploads a minute by one key.")
    answers: int = Field(60, ge=0, description="Answers a minute by one key.")
    other: int = Field(1200, ge=0, description="Any other requests a minute by one key.")
    unknown: int = Field(30, ge=0, description="Requests a minute from one address whose key opens nothing.")


@dataclass(frozen=True)
class Standing:
    """How much of a limit is left.

    Attributes:
        quota: requests in a window.
        remaining: how many are left.
        reset_s: seconds until there are more.
        allowed: whether this one was within it.
    """

    policy: Policy
    quota: int
    remaining: int
    reset_s: int
    allowed: bool

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit``, as draft-ietf-httpapi-ratelimit-headers-10 has them."""
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.quota};w={WINDOW_S}',
            "RateLimit": f'"{self.policy}";r={self.remaining};t={self.reset_s}',
        }


class RateLimits:
    """Counts requests.

    Raises:
        Misconfigured: the URL is not Redis's, or a library is missing.
    """

    def __init__(self, settings: LimitsSettings) -> None:
        self._settings = settings
        self._pool = _pool(settings.url) if settings.url else None
        self._shared = self._pool and _limiter(
            f"async+{settings.url}", implementation="redispy", connection_pool=self._pool
        )
        self._rests_until = 0.0

    @cached_property
    def _alone(self) -> SlidingWindowCounterRateLimiter:
        return _limiter("async+memory://")

    async def hit(self, policy: Policy, who: str, cost: int = 1) -> Standing | None:
        """Count a request that counts for so many; ``None`` when there is no limit."""
        quota: int = getattr(self._settings, policy)
        if not quota:
            return None
        if self._shared is not None and time.monotonic() >= self._rests_until:
            try:
                async with asyncio.timeout(REDIS_WITHIN_S):
                    return await _hit(self._shared, policy, quota, who, cost)
            except Exception as error:  # whatever the client raises: limits are no reason to refuse
                self._rests_until = time.monotonic() + REDIS_RESTS_S
                log.warning("rate_limits_counted_alone", error=type(error).__name__, seconds=REDIS_RESTS_S)
        return await _hit(self._alone, policy, quota, who, cost)

    async def close(self) -> None:
        """Let go of Redis."""
        if self._pool is not None:
            await self._pool.aclose()


async def _hit(limiter: SlidingWindowCounterRateLimiter, policy: Policy, quota: int, who: str, cost: int) -> Standing:
    from limits import RateLimitItemPerSecond

    item = RateLimitItemPerSecond(quota, WINDOW_S, namespace="earshot")
    allowed = await limiter.hit(item, policy, who, cost=cost)
    stats = await limiter.get_window_stats(item, policy, who)
    reset_s = min(WINDOW_S, max(1, math.ceil(stats.reset_time - time.time())))
    return Standing(policy, quota, max(0, int(stats.remaining)), reset_s, allowed)


def _limiter(url: str, **options: Any) -> SlidingWindowCounterRateLimiter:
    try:
        from limits.aio.strategies import SlidingWindowCounterRateLimiter
        from limits.storage import storage_from_string
    except ImportError as error:
        raise Misconfigured("Rate limits need the library limits.", next_step="pip install limits") from error
    storage = storage_from_string(url, **options)
    return SlidingWindowCounterRateLimiter(storage)


def _pool(url: str) -> Any:
    """Connections to Redis. Raises ``Misconfigured``."""
    if not url.startswith(("redis://", "rediss://")):
        raise Misconfigured("EARSHOT_LIMITS__URL is not redis://.", next_step="Use redis://host:6379/0, or none.")
    try:
        from redis.asyncio import ConnectionPool
    except ImportError as error:
        raise Misconfigured("EARSHOT_LIMITS__URL needs the library redis.", next_step="pip install redis") from error
    return ConnectionPool.from_url(url, socket_timeout=REDIS_WITHIN_S, socket_connect_timeout=REDIS_WITHIN_S)
