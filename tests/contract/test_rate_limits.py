"""How often somebody may ask: one suite over this process's own memory and over Redis."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from earshot.adapters.rate_limits import LimitsSettings, RateLimits
from earshot.kernel.errors import Misconfigured


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "memory" else str(request.getfixturevalue("redis_url"))


@pytest.fixture
async def limits() -> AsyncIterator[Callable[..., RateLimits]]:
    """Makes limits, and closes them."""
    made: list[RateLimits] = []

    def make(url: str, **most: int) -> RateLimits:
        made.append(RateLimits(LimitsSettings(_env_file=None, url=url, **most)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def who() -> str:
    return uuid.uuid4().hex


async def test_so_many_are_let_through_within_a_minute(limits, url, who):
    counted = limits(url, search=5)
    standings = [await counted.hit("search", who) for _ in range(7)]
    assert [standing.allowed for standing in standings] == [True] * 5 + [False] * 2
    assert [standing.remaining for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert all(1 <= standing.reset_s <= 60 for standing in standings)
    assert standings[0].headers == {
        "RateLimit-Policy": '"search";q=5;w=60',
        "RateLimit": f'"search";r=4;t={standings[0].reset_s}',
    }


async def test_callers_and_limits_are_counted_apart(limits, url, who):
    counted = limits(url, search=1, other=1)
    assert [(await counted.hit("search", who)).allowed for _ in range(2)] == [True, False]
    assert (await counted.hit("other", who)).allowed
    assert (await counted.hit("search", who + "x")).allowed


async def test_zero_is_no_limit(limits, url, who):
    assert await limits(url, ingest=0).hit("ingest", who) is None


async def test_processes_that_share_a_redis_count_together(limits, redis_url, who):
    one, other = limits(redis_url, search=2), limits(redis_url, search=2)
    seen = [await one.hit("search", who), await other.hit("search", who), await one.hit("search", who)]
    assert [standing.allowed for standing in seen] == [True, True, False]


async def test_without_its_redis_a_process_counts_alone_and_refuses_nobody_for_it(limits, redis_server, who):
    counted = limits(redis_server.url, search=2)
    assert (await counted.hit("search", who)).allowed
    redis_server.kill()
    assert [(await counted.hit("search", who)).allowed for _ in range(3)] == [True, True, False]


def test_another_url_than_redis_is_refused(limits):
    with pytest.raises(Misconfigured, match="EARSHOT_LIMITS__URL"):
        limits("memcached://host")
