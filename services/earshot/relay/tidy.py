"""Blobs that no recording knows, and signs of life and traces that are old."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from earshot.kernel.ports import BlobStore, Upkeep

AT_ONCE = 500
log = structlog.get_logger()


async def collect_orphans(blobs: BlobStore, upkeep: Upkeep, now: datetime, age: timedelta) -> int:
    """Delete blobs below a tenant's ``recordings/`` that no recording knows and that are old; return how many.

    The door writes a blob before the catalog knows of it, so a young one may be about to be known.
    """
    gone = 0
    for tenant in await upkeep.tenants():
        old: list[str] = []
        async for key, written in blobs.list(f"{tenant}/recordings/"):
            if now - written >= age:
                old.append(key)
            if len(old) >= AT_ONCE:
                gone += await _delete(blobs, upkeep, tenant, old)
                old = []
        gone += await _delete(blobs, upkeep, tenant, old)
    return gone


async def _delete(blobs: BlobStore, upkeep: Upkeep, tenant: str, keys: list[str]) -> int:
    if not keys:
        return 0
    used = await upkeep.in_use(tenant, keys)
    orphans = [key for key in keys if key not in used]
    if orphans:
        log.info("orphans_deleted", tenant=tenant, blobs=len(orphans))
        await blobs.delete(orphans)
    return len(orphans)
