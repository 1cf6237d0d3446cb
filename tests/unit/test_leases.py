"""Holding a lease while something long is worked on."""

from __future__ import annotations

import asyncio

import pytest

from earshot.kernel.errors import Transient, Unavailable
from earshot.kernel.leases import held, this_process
from tests.fakes_catalog import FakeLeases
from tests.waiting import eventually

TTL_S = 0.3


async def test_it_is_renewed_while_it_is_held_and_free_afterwards() -> None:
    leases = FakeLeases()
    async with held(leases, "long", "me", ttl_s=TTL_S) as lease:
        await eventually(lambda: leases.renewed >= 4)
        lease.check()
        assert not await leases.acquire("long", "another", TTL_S)
    assert leases.held == {}
    renewed = leases.renewed
    assert await leases.acquire("long", "another", TTL_S)
    assert leases.renewed == renewed


async def test_what_another_holds_is_not_taken_and_stays_theirs() -> None:
    leases = FakeLeases()
    await leases.acquire("long", "another", 60)
    with pytest.raises(Transient) as caught:
        async with held(leases, "long", "me", ttl_s=TTL_S):
            raise AssertionError("entered")
    assert caught.value.code == "lease_held"
    assert leases.held["long"][0] == "another"


async def test_what_its_holder_left_behind_is_free_in_the_end() -> None:
    leases = FakeLeases()
    await leases.acquire("long", "dead", TTL_S)

    async def take() -> bool:
        async with held(leases, "long", "me", ttl_s=TTL_S):
            return True

    assert await eventually(take)


async def test_a_lease_that_was_taken_is_lost() -> None:
    leases = FakeLeases()
    async with held(leases, "long", "me", ttl_s=TTL_S) as lease:
        await leases.release("long", "me")
        await leases.acquire("long", "another", 60)
        await eventually(lambda: lease.lost)
        with pytest.raises(Transient, match="another worker took it") as caught:
            lease.check()
        assert caught.value.code == "lease_lost"
    assert leases.held["long"][0] == "another"


async def test_an_outage_is_survived_until_the_lease_would_have_ended() -> None:
    leases = FakeLeases()
    async with held(leases, "long", "me", ttl_s=TTL_S) as lease:
        leases.failure = Unavailable("catalog", "Down.")
        await eventually(lambda: lease.lost)
        with pytest.raises(Transient, match="could not be renewed"):
            lease.check()
    async with held(leases, "long", "me", ttl_s=60) as lease:
        assert not lease.lost


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
async def test_it_is_let_go_of_whatever_ends_the_work(error: BaseException) -> None:
    leases = FakeLeases()
    with pytest.raises(type(error)):
        async with held(leases, "long", "me", ttl_s=60):
            raise error
    assert leases.held == {}


async def test_a_bug_in_the_renewing_is_not_hidden() -> None:
    leases = FakeLeases()
    leases.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        async with held(leases, "long", "me", ttl_s=TTL_S):
            await asyncio.wait_for(_all_others(), 10)


async def _all_others() -> None:
    """Return when every other task has ended."""
    mine = {asyncio.current_task()}
    waiting = [task for task in asyncio.all_tasks() - mine if "_beat" in repr(task)]
    await asyncio.wait(waiting)


def test_a_process_is_an_owner_of_its_own() -> None:
    assert this_process().rpartition(":")[2].isdigit()
