"""Holding a lease on something long while it is worked on, so that no two workers do it at the same time.

A lease saves work, it does not guard it: what is written under one must come out the same when done twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from earshot.kernel.errors import Transient, Unavailable
from earshot.kernel.ports import Leases

RENEWALS = 3
"""Renewals in the life of a lease: two may fail before it is lost."""
log = structlog.get_logger()


class Lease:
    """A lease that is held. Ask it before each output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lost = ""

    def lose(self, why: str) -> None:
        """It is no longer held."""
        self._lost = why

    @property
    def lost(self) -> bool:
        """Whether another worker may have it by now."""
        return bool(self._lost)

    def check(self) -> None:
        """Return while it is held. Raises ``Transient`` (``lease_lost``) when the work must stop."""
        if self._lost:
            raise Transient(f"The lease {self._name} was lost: {self._lost}", code="lease_lost")


def this_process() -> str:
    """An owner of leases: this process on this host."""
    return f"{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def held(leases: Leases, name: str, owner: str, *, ttl_s: float) -> AsyncIterator[Lease]:
    """Hold a lease inside this block, renewed in the background, and let go of it at the end.

    Args:
        leases: where leases are kept.
        name: of what is worked on.
        owner: of the lease; the same owner may take it again.
        ttl_s: seconds after which it is free when this process dies.

    Raises:
        Transient: code ``lease_held``: another worker has it, until it ends or ``ttl_s`` after it died.
        Unavailable: the catalog does not answer.
    """
    taken = time.monotonic()
    if not await leases.acquire(name, owner, ttl_s):
        raise Transient(f"Another worker holds {name}.", code="lease_held")
    lease = Lease(name)
    beating = asyncio.create_task(_beat(lease, leases, name, owner, ttl_s, taken))
    try:
        yield lease
    finally:
        beating.cancel()
        await asyncio.wait({beating})
        with suppress(Unavailable):  # it ends by itself
            await leases.release(name, owner)
        if not beating.cancelled():
            beating.result()


async def _beat(lease: Lease, leases: Leases, name: str, owner: str, ttl_s: float, renewed: float) -> None:
    """Renew until it is lost: taken by another, or not renewed within its life."""
    while not lease.lost:
        await asyncio.sleep(ttl_s / RENEWALS)
        asked = time.monotonic()
        try:
            async with asyncio.timeout(renewed + ttl_s - asked):
                await asyncio.sleep(0)  # where the timeout is seen when its time has passed already
                mine = await leases.renew(name, owner, ttl_s)
        except TimeoutError:
            lease.lose(f"it could not be renewed for {ttl_s:g} s.")
        except Unavailable as error:
            log.warning("lease_not_renewed", lease=name, reason=str(error))
        else:
            renewed = asked
            if not mine:
                lease.lose("another worker took it.")
