"""What the catalog keeps for how long, and tenants that leave it, on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from earshot.adapters.catalog import tables as t
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.gate import Verdict, judge
from earshot.kernel.ports import CollectionSettings, StoredSegment
from earshot.kernel.ports.retention import Attempt, TenantLeaves
from earshot.kernel.topics import AUDIO_UPLOADED, RECORDINGS_ERASED
from tests.fakes_catalog import TRACE, accepted, new, outbox, progressed, total, transcribed, upload

DAY = timedelta(days=1)


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def counted(catalog, tenant: str) -> dict[str, int]:
    """How many rows each table has of a tenant."""

    def work(connection: sa.Connection) -> dict[str, int]:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).where(table.c.tenant == tenant)) or 0
            for table in t.metadata.sorted_tables
            if "tenant" in table.c
        }

    return await catalog._db.read(work)


async def everything(catalog, tenant: str, number: int = 3) -> list[str]:
    """Recordings of a tenant with a row in every table that knows tenants, as far as a test can make one."""
    made = []
    for n in range(number):
        first = await accepted(catalog, tenant, collection="course", title="A secret title")
        made.append(first.job.recording_id)
        await catalog.store([StoredSegment(transcribed(tenant, made[-1], 0), f"{tenant}/transcripts/{n}")])
        await catalog.record([progressed(first, "segmenter", 0)])
    await catalog.configure_collection(tenant, "course", CollectionSettings(hotwords="secret", retain_days=9))
    await catalog.keep_tenant(tenant, 30)
    await catalog.accept(new(upload(tenant, sha256="cc" * 32), idempotency_key=f"k{tenant}", request_hash="h"))
    return made


async def left(catalog, tenant: str) -> None:
    """Do the eraser's part of a tenant's erasure, without any store."""
    while await catalog.erase_hidden(tenant, 2):
        await eraser_deletes(catalog, tenant)


async def eraser_deletes(catalog, tenant: str) -> None:
    """What the eraser does in the catalog with every recording that it was told of."""
    for recording_id in await catalog.recording_ids(tenant):
        gone = await catalog.gone(tenant, recording_id)
        if gone is not None and gone.erased_at is not None:
            await catalog.forget(tenant, recording_id)
            await catalog.source_gone(tenant, recording_id)


async def test_a_tenant_is_hidden_at_once_and_leaves_in_parts(catalog, tenant):
    made = await everything(catalog, tenant)
    assert (await catalog.tenant_erasure(tenant)).since is None
    begun = await catalog.erase_tenant(tenant)
    assert (begun.recordings, begun.left, begun.done_at) == (4, 4, None)
    assert begun.since is not None
    assert await catalog.erase_tenant(tenant) == begun
    assert await catalog.recordings(tenant) == []
    assert tenant in await catalog.leaving()
    for recording_id in made:
        assert await catalog.recording(tenant, recording_id) is None
    assert await catalog.erase_hidden(tenant, 3) == 3
    assert await catalog.erase_hidden(tenant, 3) == 0  # so many are under way
    assert await catalog.erase_hidden(tenant, 5) == 1
    assert await catalog.erase_hidden(tenant, 5) == 0
    said = [event.recording_id for _, event in await outbox(catalog, tenant, RECORDINGS_ERASED)]
    assert len(said) == len(set(said)) == 4
    assert not await catalog.forget_tenant(tenant)


async def test_nothing_but_ids_is_left_of_a_tenant_and_all_of_another(catalog, tenant):
    other = f"{tenant}-other"
    await everything(catalog, tenant)
    kept = await everything(catalog, other)
    await catalog.acquire(f"segmenter:{tenant}:x:1", "w", 60)
    await catalog.acquire(f"segmenter:{other}:x:1", "w", 60)
    before = await counted(catalog, other)
    await catalog.erase_tenant(tenant)
    await left(catalog, tenant)
    assert await catalog.forget_tenant(tenant)
    after = await catalog.tenant_erasure(tenant)
    assert (after.since, after.recordings, after.left) == (None, 4, 0)
    assert after.done_at is not None
    assert tenant not in await catalog.leaving()
    assert {name for name, number in (await counted(catalog, tenant)).items() if number} == {"recordings"}
    assert await catalog.tenant_retention(tenant) is None
    assert await catalog.acquire(f"segmenter:{tenant}:x:1", "another", 60)
    assert await counted(catalog, other) == before
    assert not await catalog.acquire(f"segmenter:{other}:x:1", "another", 60)
    assert {recording.id for recording in await catalog.recordings(other)} >= set(kept)
    assert await catalog.tenant_retention(other) == 30


async def test_nothing_new_comes_in_while_a_tenant_leaves(catalog, tenant):
    [recording_id, *_] = await everything(catalog, tenant)
    job = await catalog.job(tenant, recording_id)
    await catalog.erase_tenant(tenant)
    with pytest.raises(TenantLeaves) as caught:
        await accepted(catalog, tenant)
    assert caught.value.status == 409
    assert f"/tenants/{tenant}/erasure" in caught.value.next_step
    with pytest.raises(TenantLeaves):  # nor is an old answer given again
        await catalog.accept(new(upload(tenant, sha256="cc" * 32), idempotency_key=f"k{tenant}", request_hash="h"))
    with pytest.raises(UnknownRecording):
        await catalog.retry(tenant, job.id, TRACE)
    await left(catalog, tenant)
    assert await catalog.forget_tenant(tenant)
    assert (await accepted(catalog, tenant)).created


async def test_what_was_uploaded_before_a_tenant_left_never_lives_again(catalog, tenant):
    """An upload of a foreign producer that nobody had read until then, and one that is read again."""
    known, while_leaving, unread, after = (upload(tenant) for _ in range(4))
    await catalog.adopt(known, f"{tenant}/recordings/k/source", TRACE)
    await catalog.erase_tenant(tenant)
    await catalog.adopt(while_leaving, f"{tenant}/recordings/w/source", TRACE, later(1))
    await left(catalog, tenant)
    assert await catalog.forget_tenant(tenant)
    await catalog.adopt(known, f"{tenant}/recordings/k/source", TRACE, later(1))
    assert await catalog.rows_of(tenant) == {}
    await catalog.adopt(unread, f"{tenant}/recordings/u/source", TRACE, later(-1))
    await catalog.adopt(after, f"{tenant}/recordings/a/source", TRACE, later(1))
    ids = [each.recording_id for each in (known, while_leaving, unread, after)]
    standings = await catalog.standings({(tenant, each) for each in ids})
    assert [judge(standings[tenant, each], 1) for each in ids] == [Verdict.ERASED] * 3 + [Verdict.GO]
    assert await catalog.source_left(tenant, unread.recording_id) == f"{tenant}/recordings/u/source"
    said = [event.recording_id for _, event in await outbox(catalog, tenant, RECORDINGS_ERASED)]
    assert said == [unread.recording_id]
    assert [recording.id for recording in await catalog.recordings(tenant)] == [after.recording_id]


async def test_a_recording_goes_when_its_collections_time_is_over(catalog, tenant):
    await catalog.configure_collection(tenant, "short", CollectionSettings(retain_days=3))
    await catalog.configure_collection(tenant, "silent", CollectionSettings(hotwords="x"))
    ids = {name: (await accepted(catalog, tenant, collection=name)).job.recording_id for name in ("short", "silent")}

    async def living() -> set[str]:
        return {name for name, each in ids.items() if await catalog.recording(tenant, each) is not None}

    await expired(catalog, 2.9)
    assert await living() == {"short", "silent"}
    await expired(catalog, 3.1)
    assert await living() == {"silent"}
    await catalog.keep_tenant(tenant, 40)
    await expired(catalog, 39.9)
    assert await living() == {"silent"}
    await expired(catalog, 40.1)
    assert await living() == set()
    assert len(await outbox(catalog, tenant, RECORDINGS_ERASED)) == 2
    assert await outbox(catalog, tenant, AUDIO_UPLOADED) == []


async def expired(catalog, days: float) -> None:
    while await catalog.erase_expired(later(days), 1000):
        pass


async def test_a_collections_own_time_counts_more_than_its_tenants(catalog, tenant):
    await catalog.keep_tenant(tenant, 2)
    await catalog.configure_collection(tenant, "long", CollectionSettings(retain_days=36_500))
    kept = (await accepted(catalog, tenant, collection="long")).job.recording_id
    await expired(catalog, 400)
    assert await catalog.recording(tenant, kept) is not None


async def test_without_a_word_recordings_are_kept_and_no_more_than_the_limit_goes_at_once(catalog, tenant):
    other = f"{tenant}-other"
    kept = (await accepted(catalog, other)).job.recording_id
    await catalog.keep_tenant(tenant, 1)
    for _ in range(5):
        await accepted(catalog, tenant)
    assert await catalog.erase_expired(later(10), 2) == 2
    assert await catalog.erase_expired(later(10), 2) == 0  # so many are under way
    assert len(await catalog.recordings(tenant)) == 3
    await expired(catalog, 10_000)
    assert await catalog.recordings(tenant) == []
    assert await catalog.recording(other, kept) is not None
    await catalog.keep_tenant(tenant, None)
    await accepted(catalog, tenant)
    await expired(catalog, 10_000)
    assert len(await catalog.recordings(tenant)) == 1


async def test_the_audio_of_segments_is_old_some_days_after_the_end(catalog, tenant):
    first = await accepted(catalog, tenant, collection="course")
    job = Attempt(tenant, first.job.recording_id, 1)

    async def old(days: float) -> bool:
        return job in await catalog.old_segments(later(days), 7 * DAY, 100_000)

    await catalog.record([progressed(first, "segmenter", 0)])
    assert not await old(100)  # it has not ended
    await catalog.record([total(first, 1), progressed(first, "indexer", 0)])
    assert not await old(6.9)
    assert await old(7.1)
    await catalog.configure_collection(tenant, "course", CollectionSettings(segment_audio_days=20))
    assert not await old(19.9)
    assert await old(20.1)
    await catalog.configure_collection(tenant, "course", CollectionSettings(segment_audio_days=0))
    assert await old(0.1)
    await catalog.segments_dropped([job])
    assert not await old(100)


async def test_an_erased_recording_says_when_it_was_and_when_it_was_gone(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id
    assert await catalog.gone(tenant, recording_id) is None
    await catalog.erase(tenant, recording_id, TRACE)
    said = await catalog.gone(tenant, recording_id)
    assert said.erased_at is not None
    assert said.gone_at is None
    await catalog.source_gone(tenant, recording_id)
    ended = await catalog.gone(tenant, recording_id)
    assert ended.gone_at is not None
    assert replace(ended, gone_at=None) == said
    await catalog.source_gone(tenant, recording_id)
    assert await catalog.gone(tenant, recording_id) == ended
    assert await catalog.gone(f"{tenant}-other", recording_id) is None
