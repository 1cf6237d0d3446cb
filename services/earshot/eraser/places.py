"""Where bytes of what was erased are looked for, and what was found there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from earshot.adapters.wiring import Kit


@dataclass(frozen=True)
class Find:
    """Something that is still somewhere.

    Attributes:
        place: ``catalog``, ``blobs``, ``transcript cache``, ``index NAME``, or a topic's full name.
        what: how many of what, for a person.
        wrong: it should be gone.
        until: when a broker that deletes by age has deleted it at the latest; ``None``: nobody can say.
    """

    place: str
    what: str
    wrong: bool = True
    until: datetime | None = None

    def __str__(self) -> str:
        when = f", gone by {self.until:%Y-%m-%d}" if self.until else ""
        return f"{self.place}: {self.what}{when}"


async def of_recording(kit: Kit, tenant: str, recording_id: str) -> AsyncIterator[Find]:
    """What the catalog, the blobs and the indexes still have of a recording. Raises ``Unavailable``."""
    gone = await kit.catalog.gone(tenant, recording_id)
    if gone is None:
        yield Find("catalog", "the recording is not erased")
    elif gone.gone_at is None:
        yield Find("catalog", "the eraser is not done with the recording")
    rows = await kit.catalog.stored(tenant, recording_id)
    if rows:
        yield Find("catalog", f"{len(rows)} segments whose cached transcripts are not yet deleted")
    if await kit.catalog.source_left(tenant, recording_id) is not None:
        yield Find("catalog", "the source is not yet deleted")
    if number := await _blobs(kit, f"{tenant}/recordings/{recording_id}/"):
        yield Find("blobs", f"{number} objects")
    for index in await kit.vectors.indexes():
        if number := await kit.vectors.count(index, tenant, recording_id):
            yield Find(f"index {index}", f"{number} passages")


async def of_tenant(kit: Kit, tenant: str) -> AsyncIterator[Find]:
    """What the catalog, the blobs and the indexes still have of a tenant. Raises ``Unavailable``."""
    erasure = await kit.catalog.tenant_erasure(tenant)
    if erasure.left:
        yield Find("catalog", f"the eraser is not done with {erasure.left} recordings")
    elif erasure.since is not None:
        yield Find("catalog", "the erasure of the tenant is not done")
    for table, number in (await kit.catalog.rows_of(tenant)).items():
        yield Find("catalog", f"{number} rows of {table}")
    if number := await _blobs(kit, f"{tenant}/recordings/"):
        yield Find("blobs", f"{number} objects")
    if number := await _blobs(kit, f"{tenant}/transcripts/"):
        yield Find("transcript cache", f"{number} objects")
    for index in await kit.vectors.indexes():
        if number := await kit.vectors.count(index, tenant):
            yield Find(f"index {index}", f"{number} passages")


async def _blobs(kit: Kit, folder: str) -> int:
    number = 0
    async for _ in kit.blobs.list(folder):
        number += 1
    return number
