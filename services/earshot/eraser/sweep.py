"""What the eraser does of itself: tenants that leave, recordings past their time, audio of segments nobody needs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from earshot.kernel.claims import segments_folder
from earshot.kernel.errors import EarshotError, Transient
from earshot.kernel.leases import Lease, held
from earshot.kernel.ports import BlobStore, Leases, VectorStore
from earshot.kernel.ports.retention import Retention, TenantErasures

LEASE = "eraser:sweep"
LEASE_S = 30.0
AT_ONCE = 500
"""Blobs deleted in one call."""
log = structlog.get_logger()


class Books(TenantErasures, Retention, Leases, Protocol):
    """The parts of the catalog that are swept."""


@dataclass(frozen=True)
class Pace:
    """How fast, and what stays for how long.

    Attributes:
        batch: recordings that are erased in one transaction, and at most under way for a tenant.
        look_s: between two looks for tenants that leave, and between two batches.
        retention_s: between two rounds of retention.
        segment_audio: how long the audio of segments is kept after their job has ended.
    """

    batch: int
    look_s: float
    retention_s: float
    segment_audio: timedelta


class Sweeper:
    """One round after the other, while this worker has the lease.

    Args:
        books: the catalog.
        blobs: where audio and cached transcripts are.
        vectors: the indexes.
        owner: of the lease.
        pace: how fast.
        clock: the present, for tests.

    Attributes:
        counts: what it did since it started, by kind.
    """

    def __init__(
        self,
        books: Books,
        blobs: BlobStore,
        vectors: VectorStore,
        owner: str,
        pace: Pace,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("expired", "tenants_erased", "segment_audio_dropped"), 0))
        self._books = books
        self._blobs = blobs
        self._vectors = vectors
        self._owner = owner
        self._pace = pace
        self._clock = clock
        self._retention_at = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep in the background while inside."""
        sweeping = asyncio.create_task(self._forever())
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping

    async def _forever(self) -> None:
        while True:
            try:
                await self.round()
            except EarshotError as error:  # it is tried again
                log.warning("sweep_failed", reason=str(error), code=error.code)
            except Exception:  # a bug here must not keep the eraser from its events
                log.exception("sweep_failed")
            await asyncio.sleep(self._pace.look_s)

    async def round(self) -> None:
        """Do one batch of everything that is due; nothing while another worker has the lease.

        Raises:
            Unavailable: a store does not answer. What was begun is gone on with in the next round.
        """
        try:
            async with held(self._books, LEASE, self._owner, ttl_s=LEASE_S) as lease:
                for tenant in await self._books.leaving():
                    await self._leave(tenant, lease)
                if time.monotonic() >= self._retention_at and not await self._past_their_time(lease):
                    self._retention_at = time.monotonic() + self._pace.retention_s
        except Transient as error:
            if error.code not in ("lease_held", "lease_lost"):
                raise

    async def _leave(self, tenant: str, lease: Lease) -> None:
        """Another batch of a tenant's recordings; when all are gone, what else there is of it."""
        await self._books.erase_hidden(tenant, self._pace.batch)
        if (await self._books.tenant_erasure(tenant)).left:
            return
        for index in await self._vectors.indexes():
            lease.check()
            await self._vectors.forget(index, tenant)
        await self._delete(f"{tenant}/", lease.check)
        if await self._books.forget_tenant(tenant):
            self.counts["tenants_erased"] += 1
            log.info("tenant_erased", tenant=tenant)

    async def _past_their_time(self, lease: Lease) -> bool:
        """One batch of recordings and of segments; whether there may be more."""
        expired = await self._books.erase_expired(self._clock(), self._pace.batch)
        if expired:
            self.counts["expired"] += expired
            log.info("recordings_expired", recordings=expired)
        old = await self._books.old_segments(self._clock(), self._pace.segment_audio, self._pace.batch)
        for attempt in old:
            await self._delete(segments_folder(attempt.tenant, attempt.recording_id, attempt.revision), lease.check)
        if old:
            await self._books.segments_dropped(old)
            self.counts["segment_audio_dropped"] += len(old)
            log.info("segment_audio_dropped", attempts=len(old))
        return bool(expired or old)

    async def _delete(self, folder: str, still_ours: Callable[[], None]) -> None:
        keys: list[str] = []
        async for key, _ in self._blobs.list(folder):
            keys.append(key)
            if len(keys) == AT_ONCE:
                still_ours()
                await self._blobs.delete(keys)
                keys = []
        if keys:
            still_ours()
            await self._blobs.delete(keys)
