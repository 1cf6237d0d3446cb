"""Forgetting, after the catalog has decided it: blobs, passages, cached transcripts, records of the log.

Everything is deleted before the catalog forgets where it was, so a crash anywhere is made good when the event is
delivered again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from earshot.kernel import ids
from earshot.kernel.errors import Permanent, UnknownRecording
from earshot.kernel.events import RecordingErased, SegmentTranscribed
from earshot.kernel.gate import Standings
from earshot.kernel.ports import BlobStore, Erasures, Recordings, Transcripts, VectorStore
from earshot.kernel.ports.speakers import Speakers
from earshot.kernel.stage import Delivery, Output

AT_ONCE = 500
"""Blobs, or keys of the log, in one call."""
SetTranscripts = Callable[[Mapping[int, SegmentTranscribed | None], Delivery[RecordingErased]], Awaitable[None]]
"""Makes these the last values of a recording's segments on ``audio.transcripts``, ``None`` deleting the key; returns
when the broker has confirmed all. The delivery is what caused it."""


class Books(Standings, Recordings, Transcripts, Speakers, Erasures, Protocol):
    """The parts of the catalog that the eraser works on."""


@dataclass(frozen=True)
class Stores:
    """Everywhere that something of a recording may lie.

    Attributes:
        books: the catalog.
        blobs: sources, segments, cached transcripts.
        vectors: passages, in every index.
        set_transcripts: the compacted topic.
        purge: deletes a recording's records from a log that can; ``None`` where they expire.
    """

    books: Books
    blobs: BlobStore
    vectors: VectorStore
    set_transcripts: SetTranscripts
    purge: Callable[[str], Awaitable[object]] | None = None


async def erase(batch: Sequence[Delivery[RecordingErased]], stores: Stores) -> AsyncIterator[Output]:
    """Forget recordings, wholly or one attempt.

    Nothing is yielded: deletions of transcripts must be confirmed before the catalog forgets which they were.

    Raises:
        UnknownRecording: the catalog has never heard of the recording.
        Permanent: code ``not_erased``: the catalog has not decided this.
        Unavailable: a store does not answer.
    """
    for delivery in batch:
        if not await _still_wanted(delivery.event, stores.books):
            continue
        if delivery.event.reason == "erased":
            await _forget_recording(delivery, stores)
        else:
            await _forget_attempts(delivery, stores)
    for _ in ():
        yield _


async def _still_wanted(event: RecordingErased, books: Books) -> bool:
    """Whether there is anything to do. The event only reminds: what is forgotten, the catalog decides."""
    key = (event.tenant, event.recording_id)
    # The job first: an erasure that comes between the two takes it away, and is then seen by the standing.
    job = await books.job(event.tenant, ids.job_id(event.recording_id, event.revision))
    standing = (await books.standings([key])).get(key)
    if standing is None:
        raise UnknownRecording(f"The catalog has never heard of recording {event.recording_id}.")
    if standing.state == "erased":
        return event.reason == "erased"
    if event.reason == "superseded" and event.revision < standing.visible_from:
        return True
    if event.reason == "cancelled" and job is not None and job.state == "cancelled":
        return True
    raise Permanent(
        f"The catalog has not decided that revision {event.revision} of {event.recording_id} is {event.reason}.",
        next_step="Erase and cancel through the API, not by publishing events.",
        code="not_erased",
    )


async def _forget_recording(delivery: Delivery[RecordingErased], stores: Stores) -> None:
    tenant, recording_id = delivery.event.tenant, delivery.event.recording_id
    await _delete_passages(stores.vectors, tenant, recording_id)
    source = await stores.books.source_left(tenant, recording_id)
    if source is not None:
        await stores.blobs.delete([source])
    await _delete_blobs(stores.blobs, tenant, recording_id, lambda _revision: True)
    rows = await stores.books.stored(tenant, recording_id)
    await _delete_cached(stores.blobs, tenant, {cache_key for _, _, cache_key in rows})
    indexes = sorted({index for _, index, _ in rows})
    for start in range(0, len(indexes), AT_ONCE):
        await stores.set_transcripts(dict.fromkeys(indexes[start : start + AT_ONCE]), delivery)
    await stores.books.forget(tenant, recording_id)
    if stores.purge is not None:
        await stores.purge(recording_id)
    await stores.books.source_gone(tenant, recording_id)


async def _forget_attempts(delivery: Delivery[RecordingErased], stores: Stores) -> None:
    """Forget what was derived in one cancelled attempt, or in all that were superseded. The source stays."""
    event = delivery.event
    tenant, recording_id = event.tenant, event.recording_id
    which = {"revision" if event.reason == "cancelled" else "up_to": event.revision}

    def affected(revision: int) -> bool:
        return revision == event.revision or (event.reason == "superseded" and revision < event.revision)

    await _delete_passages(stores.vectors, tenant, recording_id, **which)
    await _delete_blobs(stores.blobs, tenant, recording_id, lambda name: name.isdecimal() and affected(int(name)))
    rows = await stores.books.stored(tenant, recording_id)
    still_used = {cache_key for revision, _, cache_key in rows if not affected(revision)}
    unused = {cache_key for revision, _, cache_key in rows if affected(revision)} - still_used
    await _delete_cached(stores.blobs, tenant, unused)
    await _replace_transcripts(delivery, stores, sorted({index for rev, index, _ in rows if affected(rev)}), affected)
    await stores.books.forget_turns(tenant, recording_id, **which)
    await stores.books.forget(tenant, recording_id, **which)


async def _replace_transcripts(
    delivery: Delivery[RecordingErased], stores: Stores, indexes: Sequence[int], affected: Callable[[int], bool]
) -> None:
    """Let compaction keep what remains of each segment.

    Writes, then reads again: a transcriber stores before it publishes, so one of the two sees the other's.
    """
    event = delivery.event

    async def remaining(index: int) -> SegmentTranscribed | None:
        best = await stores.books.highest(event.tenant, event.recording_id, index)
        return None if best is None or affected(best.revision) else best

    for start in range(0, len(indexes), AT_ONCE):
        best = {index: await remaining(index) for index in indexes[start : start + AT_ONCE]}
        # what a higher revision stored, it publishes itself
        said = {index: last for index, last in best.items() if last is None or last.revision < event.revision}
        while said:
            await stores.set_transcripts(said, delivery)
            again = {index: await remaining(index) for index in said}
            said = {index: last for index, last in again.items() if last != said[index]}


async def _delete_passages(vectors: VectorStore, tenant: str, recording_id: str, **which: int) -> None:
    for index in await vectors.indexes():
        await vectors.delete(index, tenant, recording_id, **which)


async def _delete_blobs(blobs: BlobStore, tenant: str, recording_id: str, wanted: Callable[[str], Any]) -> None:
    """Delete below the recording's folder; ``wanted`` is asked for the name of what lies directly in it."""
    folder = f"{tenant}/recordings/{recording_id}/"
    keys = [key async for key, _ in blobs.list(folder) if wanted(key.removeprefix(folder).split("/")[0])]
    for start in range(0, len(keys), AT_ONCE):
        await blobs.delete(keys[start : start + AT_ONCE])


async def _delete_cached(blobs: BlobStore, tenant: str, cache_keys: Collection[str | None]) -> None:
    keys = sorted(key for key in cache_keys if key is not None and key.startswith(f"{tenant}/"))
    for start in range(0, len(keys), AT_ONCE):
        await blobs.delete(keys[start : start + AT_ONCE])
