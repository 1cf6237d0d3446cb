"""Looking for what an erasure has left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from earshot.adapters.wiring import Kit
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, DAY_MS, RECORDINGS_ERASED


async def remains(kit: Kit, tenant: str, recording_id: str) -> list[str]:
    """What is still found of a recording and where, one line each.

    The last line says when the last bytes leave a broker that deletes by age, or what the embedded log still holds.
    """
    found = [
        *await _in_catalog(kit, tenant, recording_id),
        *await _in_blobs(kit, tenant, recording_id),
        *await _in_indexes(kit, tenant, recording_id),
        *await _on_transcripts(kit, recording_id),
    ]
    return [*found, await _on_other_topics(kit, recording_id)]


async def _in_catalog(kit: Kit, tenant: str, recording_id: str) -> list[str]:
    lines = []
    if await kit.catalog.recording(tenant, recording_id) is not None:
        lines.append("catalog: the recording is not erased")
    if rows := await kit.catalog.stored(tenant, recording_id):
        lines.append(f"catalog: {len(rows)} segments whose cached transcripts are not yet deleted")
    if await kit.catalog.source_left(tenant, recording_id) is not None:
        lines.append("catalog: the source is not yet deleted")
    return lines


async def _in_blobs(kit: Kit, tenant: str, recording_id: str) -> list[str]:
    number = 0
    async for _ in kit.blobs.list(f"{tenant}/recordings/{recording_id}/"):
        number += 1
    return [f"blobs: {number} objects"] if number else []


async def _in_indexes(kit: Kit, tenant: str, recording_id: str) -> list[str]:
    counts = {index: await kit.vectors.count(index, tenant, recording_id) for index in await kit.vectors.indexes()}
    return [f"index {index}: {number} passages" for index, number in counts.items() if number]


async def _on_transcripts(kit: Kit, recording_id: str) -> list[str]:
    """Keys of the compacted topic whose last value is not a deletion."""
    name = kit.settings.topic(AUDIO_TRANSCRIPTS.name)
    prefix = f"{recording_id}:".encode()
    last: dict[bytes, bool] = {}
    async for record in kit.log.tail([name], from_start=True, follow=False):
        if record.key is not None and record.key.startswith(prefix):
            last[record.key] = record.value is not None
    number = sum(last.values())
    return [f"{name}: {number} transcripts"] if number else []


async def _on_other_topics(kit: Kit, recording_id: str) -> str:
    remaining = getattr(kit.log, "remaining", None)
    if remaining is not None:
        number = await remaining(recording_id)
        return f"log: {number} records of it, each deleted once every consumer has passed it"
    longest = max(RECORDINGS_ERASED.retention_ms, RECORDINGS_ERASED.dead_letters.retention_ms)
    until = datetime.now(UTC) + timedelta(days=longest / DAY_MS)
    return f"broker: its last bytes leave by {until:%Y-%m-%d}, when topics and dead letters have expired"
