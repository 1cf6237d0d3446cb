"""The segments of recordings that were erased, cancelled or overtaken while they were cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from earshot.kernel.ports import BlobStore
from earshot.kernel.stage import Output, Stale
from earshot.segmenter.segment import segments_prefix

BATCH = 500


async def discard(stale: Sequence[Stale], blobs: BlobStore) -> AsyncIterator[Output]:
    """Delete the audio of their segments; the events are refused by every consumer at the gate."""
    for item in stale:
        keys: list[str] = []
        async for key, _ in blobs.list(segments_prefix(item.delivery.event)):
            keys.append(key)
            if len(keys) == BATCH:
                await blobs.delete(keys)
                keys = []
        await blobs.delete(keys)
    for _ in ():
        yield _
