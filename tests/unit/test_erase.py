"""Erased is gone, from everywhere; a cancelled or superseded attempt takes only its own with it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from earshot.adapters.catalog import Catalog
from earshot.eraser.erase import Stores
from earshot.kernel.errors import Permanent, Unavailable, UnknownRecording
from earshot.kernel.ports import Accepted, StoredSegment
from tests.fakes_catalog import TRACE, accepted, erasure, new_catalog, progressed, total, transcribed
from tests.fakes_vectors import FakeVectors
from tests.house import TENANT, House


@pytest.fixture
async def house(tmp_path) -> AsyncIterator[House]:
    catalog = await new_catalog(tmp_path)
    yield House(catalog)
    await catalog.close()


async def retried(catalog: Catalog, first: Accepted) -> Accepted:
    return Accepted(await catalog.retry(TENANT, first.job.recording_id, TRACE), created=True)


async def test_an_erased_recording_leaves_nothing_anywhere_and_others_stay(house):
    gone, stays = [(await accepted(house.catalog)).job.recording_id for _ in range(2)]
    for recording_id in (gone, stays):
        await house.fill(recording_id, 1)
    await house.catalog.erase(TENANT, gone, TRACE)
    assert len(await house.remains(gone)) == 7
    for _ in range(2):  # a replay changes nothing
        await house.erase(erasure(TENANT, gone, 1, "erased"))
        assert await house.remains(gone) == []
    assert not [key for key in house.blobs.stored if gone in key]
    assert house.last_revisions(gone) == {0: None, 1: None}
    assert house.last_revisions(stays) == {0: 1, 1: 1}
    assert len([key for key in house.blobs.stored if stays in key]) == 5
    assert await house.vectors.count("one", TENANT, stays) == 2
    tombstone = house.log.records[-1]
    assert tombstone.header("traceparent") == TRACE["traceparent"]


class ErasedMeanwhile:
    """A catalog in which a recording is erased right after the first question about it."""

    def __init__(self, catalog: Catalog, recording_id: str) -> None:
        self._catalog, self._recording_id, self._erased = catalog, recording_id, False

    def __getattr__(self, name: str) -> object:
        async def ask(*args: object, **kwargs: object) -> object:
            answer = await getattr(self._catalog, name)(*args, **kwargs)
            if not self._erased:
                self._erased = True
                await self._catalog.erase(TENANT, self._recording_id, TRACE)
            return answer

        return ask


async def test_a_cancelled_recording_that_is_erased_meanwhile_is_no_error(house):
    first = await accepted(house.catalog)
    recording_id = first.job.recording_id
    await house.catalog.cancel(TENANT, first.job.id, TRACE)
    house.stores = dataclasses.replace(house.stores, books=ErasedMeanwhile(house.catalog, recording_id))
    await house.erase(erasure(TENANT, recording_id, 1, "cancelled"))


@pytest.mark.parametrize("broken", ["blobs", "log", "vectors"])
async def test_a_store_that_fails_half_way_is_made_good_by_the_next_delivery(house, broken):
    recording_id = (await accepted(house.catalog)).job.recording_id
    await house.fill(recording_id, 1)
    await house.catalog.erase(TENANT, recording_id, TRACE)
    down = Unavailable(broken, "It is down.")
    whole = house.stores
    if broken == "blobs":
        house.blobs.failure = down
    elif broken == "log":
        house.log.down = True
    else:
        house.stores = Stores(whole.books, whole.blobs, _Down(down), whole.set_transcripts)
    with pytest.raises(Unavailable):
        await house.erase(erasure(TENANT, recording_id, 1, "erased"))
    house.blobs.failure, house.log.down, house.stores = None, False, whole
    assert await house.remains(recording_id) != []
    await house.erase(erasure(TENANT, recording_id, 1, "erased"))
    assert await house.remains(recording_id) == []


class _Down(FakeVectors):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def indexes(self) -> list[str]:
        raise self._error


async def test_a_cancelled_attempt_gives_way_to_what_was_before(house):
    first = await accepted(house.catalog)
    recording_id = first.job.recording_id
    await house.fill(recording_id, 1, segments=2)
    await house.catalog.record([progressed(first, "indexer", None, "failed")])
    second = await retried(house.catalog, first)
    await house.fill(recording_id, 2, segments=3)
    await house.catalog.cancel(TENANT, second.job.id, TRACE)
    await house.erase(erasure(TENANT, recording_id, 2, "cancelled"))
    assert house.last_revisions(recording_id) == {0: 1, 1: 1, 2: None}
    assert {revision for revision, _, _ in await house.catalog.stored(TENANT, recording_id)} == {1}
    assert await house.vectors.count("one", TENANT, recording_id) == 0 or all(
        passage.revision == 1 for passage in house.vectors.passages["one"][TENANT].values()
    )
    assert f"{TENANT}/recordings/{recording_id}/source" in house.blobs.stored
    assert not [key for key in house.blobs.stored if f"{recording_id}/2/" in key or key.endswith("-2")]


async def test_a_completed_retry_keeps_its_own_and_drops_the_rest(house):
    first = await accepted(house.catalog)
    recording_id = first.job.recording_id
    await house.fill(recording_id, 1, segments=3)
    await house.catalog.record([progressed(first, "indexer", None, "failed")])
    second = await retried(house.catalog, first)
    await house.fill(recording_id, 2, segments=2)
    await house.catalog.record([total(second, 2), *(progressed(second, "indexer", n) for n in range(2))])
    await house.erase(erasure(TENANT, recording_id, 1, "superseded"))
    assert house.last_revisions(recording_id) == {0: 2, 1: 2, 2: None}
    assert {revision for revision, _, _ in await house.catalog.stored(TENANT, recording_id)} == {2}
    assert await house.vectors.count("two", TENANT, recording_id) == 2
    assert not [key for key in house.blobs.stored if f"{recording_id}/1/" in key or key.endswith("-1")]


async def test_a_new_attempt_that_comes_between_has_the_last_word(house):
    """The eraser of a cancelled attempt publishes a deletion just after the next attempt has published its own."""
    first = await accepted(house.catalog)
    recording_id = first.job.recording_id
    await house.fill(recording_id, 1, segments=1)
    await house.catalog.cancel(TENANT, first.job.id, TRACE)
    await retried(house.catalog, first)

    async def overtaken_by_the_transcriber(values, cause):
        if house.last_revisions(recording_id) == {0: 1}:
            await house.fill(recording_id, 2, segments=1)
        await house.topic.set(values, cause)

    house.stores = Stores(house.catalog, house.blobs, house.vectors, overtaken_by_the_transcriber)
    await house.erase(erasure(TENANT, recording_id, 1, "cancelled"))
    assert house.last_revisions(recording_id) == {0: 2}


@pytest.mark.parametrize("reason", ["erased", "cancelled", "superseded"])
async def test_an_event_alone_erases_nothing(house, reason):
    recording_id = (await accepted(house.catalog)).job.recording_id
    await house.fill(recording_id, 1)
    with pytest.raises(Permanent) as caught:
        await house.erase(erasure(TENANT, recording_id, 1, reason))
    assert caught.value.code == "not_erased"
    with pytest.raises(UnknownRecording):
        await house.erase(erasure("other", recording_id, 1, reason))
    assert len(await house.catalog.transcript(TENANT, recording_id)) == 2
    assert house.last_revisions(recording_id) == {0: 1, 1: 1}


async def test_what_lies_outside_the_tenants_folder_is_never_deleted(house):
    recording_id = (await accepted(house.catalog)).job.recording_id
    await house.blobs.put("other/transcripts/x", b"theirs")
    await house.catalog.store([StoredSegment(transcribed(TENANT, recording_id, 0), "other/transcripts/x")])
    await house.catalog.erase(TENANT, recording_id, TRACE)
    await house.erase(erasure(TENANT, recording_id, 1, "erased"))
    assert "other/transcripts/x" in house.blobs.stored


async def test_a_log_that_can_forget_is_asked_to(house):
    purged = []

    async def purge(recording_id: str) -> None:
        purged.append(recording_id)

    recording_id = (await accepted(house.catalog)).job.recording_id
    await house.catalog.erase(TENANT, recording_id, TRACE)
    house.stores = Stores(house.catalog, house.blobs, house.vectors, house.topic.set, purge)
    await house.erase(erasure(TENANT, recording_id, 1, "erased"))
    assert purged == [recording_id]
