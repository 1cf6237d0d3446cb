"""What was read and erased, written behind the answers, so that none waits for it; erasures wait."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from earshot.kernel.errors import EarshotError
from earshot.kernel.ports.access import ApiKey, ApiKeys, AuditEntry, AuditLog

BEHIND_S = 1.0
"""An entry is written that much later at most, while the catalog answers."""
MOST = 10_000
"""Entries that wait while the catalog does not answer; older ones make room, and the log says so."""
SAME_S = 60.0
"""The same caller doing the same to the same recordings within so long is one entry: players read in ranges."""
log = structlog.get_logger()


class Books(AuditLog, ApiKeys, Protocol):
    """The parts of the catalog that the trail writes."""


class Trail:
    """Collects entries and uses of keys.

    Args:
        books: gives the catalog; called when it is needed.
        clock: seconds that never go back.
    """

    def __init__(self, books: Callable[[], Books], clock: Callable[[], float] = time.monotonic) -> None:
        self._books = books
        self._clock = clock
        self._waiting: deque[AuditEntry] = deque()
        self._used: dict[tuple[str, str], datetime] = {}
        self._seen: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def note(self, entry: AuditEntry) -> None:
        """Write an entry soon."""
        reads = entry.action.startswith(("GET", "HEAD"))
        if reads and self._lately(entry.tenant, entry.key_id, entry.action, entry.recordings, entry.address):
            return
        if len(self._waiting) >= MOST:
            self._waiting.popleft()
            log.error("audit_entry_lost", waiting=MOST)
        self._waiting.append(entry)
        self._soon()

    async def record(self, entry: AuditEntry) -> None:
        """Write an entry now, behind those that wait. Raises ``Unavailable``: then it may not be done."""
        await self.flush()
        await self._books().write_audit([entry])

    def used(self, key: ApiKey) -> None:
        """Write soon when a key was used last, unless it was lately."""
        if not self._lately("used", key.tenant, key.id):
            self._used[key.tenant, key.id] = datetime.now(UTC)
            self._soon()

    async def flush(self) -> None:
        """Write all that waits. Raises ``Unavailable``; what was not written waits on."""
        async with self._writing:
            while self._waiting:
                some = list(self._waiting)
                await self._books().write_audit(some)
                for _ in some:
                    self._waiting.popleft()
            while self._used:
                (tenant, key_id), at = next(iter(self._used.items()))
                await self._books().key_used(tenant, key_id, at)
                del self._used[tenant, key_id]

    async def close(self) -> None:
        """Write all that waits, and stop writing behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._try_to_flush()

    def _lately(self, *what: object) -> bool:
        """Whether the same was met within the last minute; from now on it was."""
        now = self._clock()
        if now < self._seen.get(what, 0.0):
            return True
        self._seen[what] = now + SAME_S
        self._seen.move_to_end(what)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return False

    def _soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._behind())

    async def _behind(self) -> None:
        while self._waiting or self._used:
            await asyncio.sleep(BEHIND_S)
            await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except EarshotError as error:
            log.warning("audit_waits", waiting=len(self._waiting), error=str(error))


def network_of(address: str) -> str:
    """The network of an address, which says where from without saying who: /24 of IPv4, /48 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    length = 24 if parsed.version == 4 else 48
    return str(ipaddress.ip_network(f"{parsed}/{length}", strict=False))
