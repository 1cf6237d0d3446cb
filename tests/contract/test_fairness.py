"""Uploads in turns, work in flight, limits and usage in the catalog, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from earshot.adapters.catalog import Catalog
from earshot.adapters.catalog import tables as t
from earshot.kernel.codec import Codec
from earshot.kernel.errors import LimitExceeded, QuotaExceeded
from earshot.kernel.fairness import UNKNOWN_MS, Window
from earshot.kernel.outbox import OutboxRow
from earshot.kernel.ports import Accepted
from earshot.kernel.ports.quotas import NO_LIMIT, Limits, Usage
from earshot.kernel.topics import AUDIO_UPLOADED, RECORDINGS_ERASED
from tests.fakes_catalog import OPEN, TRACE, accepted, new, new_catalog, progressed, total, transcribed, upload

MINUTE = 60_000


@pytest.fixture
async def catalog(catalog_url: str) -> AsyncIterator[Catalog]:
    """Migrated, with an empty outbox and nothing in flight: turns are of the whole system."""
    catalog = Catalog(catalog_url, Codec())
    await catalog.migrate()
    with catalog._db.engine.begin() as connection:
        connection.execute(sa.delete(t.outbox))
        connection.execute(sa.delete(t.turns))
        connection.execute(sa.update(t.lanes).values(credit=0))
        connection.execute(sa.update(t.jobs).values(in_flight_ms=None))
    yield catalog
    await catalog.close()


async def sent(catalog: Catalog, tenant: str, minutes: float | None = 1, **fields: object) -> Accepted:
    """A new recording that claims to be so long."""
    return await accepted(catalog, tenant, claimed_ms=None if minutes is None else round(minutes * MINUTE), **fields)


async def may_go(catalog: Catalog) -> list[OutboxRow]:
    return [row for row in await catalog.pending(1000) if row.topic == AUDIO_UPLOADED.name]


async def let_go(catalog: Catalog, window: Window, limit: int = 100) -> list[str]:
    """The tenants of what is let go, in the order of their turns when it is asked for one by one."""
    before = {row.id for row in await may_go(catalog)}
    await catalog.let_go(window, limit)
    return [row.tenant for row in await may_go(catalog) if row.id not in before]


async def test_uploads_wait_for_their_turn_and_everything_else_goes_at_once(catalog, tenant):
    first = await sent(catalog, tenant)
    segments = (transcribed(tenant, "x", 0),)
    of = upload(tenant, uri="", sha256="")
    await catalog.accept(
        new(of, source_key=None, segments=(segments[0].model_copy(update={"recording_id": of.recording_id}),))
    )
    assert AUDIO_UPLOADED.name not in {row.topic for row in await catalog.pending(100)}
    assert len(await catalog.pending(100)) == 2
    assert (await catalog.backlog()).uploads == 1
    assert await catalog.let_go(OPEN, 100) == 1
    assert [row.key for row in await may_go(catalog)] == [first.job.recording_id]
    ahead = await catalog.backlog()
    assert (ahead.uploads, ahead.waiting_ms, ahead.in_flight_ms) == (0, 0, MINUTE)
    assert await catalog.let_go(OPEN, 100) == 0


async def test_tenants_take_turns_however_much_one_has_sent(catalog, tenant):
    many, few = f"{tenant}-many", f"{tenant}-few"
    for _ in range(20):
        await sent(catalog, many)
    for _ in range(3):
        await sent(catalog, few)
    turns = [await let_go(catalog, OPEN, 1) for _ in range(8)]
    assert sum(one == [few] for one in turns[:6]) == 3
    assert turns[6:] == [[many], [many]]


async def test_priority_goes_first_and_keeps_a_part_for_the_others(catalog, tenant):
    for lane in ("low", "normal", "high"):
        for _ in range(30):
            await sent(catalog, f"{tenant}-{lane}", priority=lane)
    order = [(await let_go(catalog, OPEN, 1))[0].rpartition("-")[2] for _ in range(24)]
    assert order[:10] == ["high"] * 10
    assert {lane: order.count(lane) for lane in ("high", "normal", "low")} == {"high": 20, "normal": 2, "low": 2}


async def test_the_window_holds_until_jobs_end_however_they_end(catalog, tenant):
    window = Window(2 * MINUTE, 2 * MINUTE)
    jobs = [await sent(catalog, tenant) for _ in range(6)]
    assert len(await let_go(catalog, window)) == 2
    assert await let_go(catalog, window) == []
    await catalog.record([progressed(jobs[0], "indexer", 0), total(jobs[0], 1)])
    assert len(await let_go(catalog, window)) == 1
    await catalog.record([progressed(jobs[1], "segmenter", None, "failed")])
    assert len(await let_go(catalog, window)) == 1
    await catalog.cancel(tenant, jobs[2].job.id, TRACE)
    assert len(await let_go(catalog, window)) == 1
    await catalog.erase(tenant, jobs[3].job.recording_id, TRACE)
    assert len(await let_go(catalog, window)) == 1


async def test_a_tenant_with_nothing_in_flight_always_has_room_for_one(catalog, tenant):
    window = Window(MINUTE, MINUTE)
    await sent(catalog, f"{tenant}-day", minutes=24 * 60)
    await sent(catalog, f"{tenant}-b")
    await sent(catalog, f"{tenant}-b")
    assert sorted(await let_go(catalog, window)) == [f"{tenant}-b", f"{tenant}-day"]


async def test_what_waited_when_it_was_cancelled_or_erased_never_goes(catalog, tenant):
    one, other = await sent(catalog, tenant), await sent(catalog, tenant)
    await catalog.cancel(tenant, one.job.id, TRACE)
    await catalog.erase(tenant, other.job.recording_id, TRACE)
    assert await let_go(catalog, OPEN) == []
    assert [row.topic for row in await catalog.pending(10)] == [RECORDINGS_ERASED.name] * 2
    again = await catalog.retry(tenant, one.job.id, TRACE)
    assert await let_go(catalog, OPEN) == [tenant]
    assert (await catalog.backlog()).in_flight_ms == MINUTE
    assert again.revision == 2


async def test_relays_that_let_go_at_once_let_each_upload_go_once(catalog, catalog_url, tenant):
    for _ in range(30):
        await sent(catalog, tenant)
    relays = [Catalog(catalog_url, Codec()) for _ in range(3)]
    freed = await asyncio.gather(*(relay.let_go(Window(MINUTE * 10, MINUTE * 10), 5) for relay in relays * 2))
    for relay in relays:
        await relay.close()
    assert sum(freed) == 10 == len(await may_go(catalog))


async def test_what_a_recording_turns_out_to_be_counts_instead_of_what_it_claimed(catalog, tenant):
    liar, honest = await sent(catalog, tenant, minutes=0.1), await sent(catalog, tenant, minutes=None)
    await catalog.let_go(OPEN, 10)
    assert (await catalog.backlog()).in_flight_ms == MINUTE // 10 + UNKNOWN_MS
    await catalog.record([total(liar, 60), total(honest, 6)])
    assert (await catalog.backlog()).in_flight_ms == 11 * MINUTE
    assert (await catalog.usage(tenant)).audio_ms_a_day == 11 * MINUTE


async def test_a_job_that_has_not_moved_for_a_day_keeps_nobody_out(catalog, tenant):
    window = Window(MINUTE, MINUTE)
    for _ in range(2):
        await sent(catalog, tenant)
    assert len(await let_go(catalog, window)) == 1
    with catalog._db.engine.begin() as connection:
        mine = sa.update(t.jobs).where(t.jobs.c.tenant == tenant)
        connection.execute(mine.values(updated_at=t.EPOCH))
    assert len(await let_go(catalog, window)) == 1


# --- quotas -----------------------------------------------------------------------------------------------------------


async def test_a_tenants_own_limits_count_before_the_systems(tmp_path):
    plain = await new_catalog(tmp_path)
    await plain.close()
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.sqlite", Codec(), limits=Limits(MINUTE, 5, 100))
    assert await catalog.limits("a") == Limits(MINUTE, 5, 100)
    await catalog.limit("a", {"recordings_in_flight": 7, "storage_bytes": NO_LIMIT})
    assert await catalog.limits("a") == Limits(MINUTE, 7, None)
    await catalog.limit("a", {"storage_bytes": None})
    assert await catalog.limits("a") == Limits(MINUTE, 7, 100)
    assert await catalog.own_limits("a") == {"recordings_in_flight": 7}
    assert await catalog.limits("b") == Limits(MINUTE, 5, 100)
    await catalog.close()


async def test_minutes_a_day_are_refused_with_both_figures_and_leave_nothing(catalog, tenant):
    await catalog.limit(tenant, {"audio_ms_a_day": 3 * MINUTE})
    first = await sent(catalog, tenant, minutes=2)
    with pytest.raises(QuotaExceeded) as refused:
        await sent(catalog, tenant, minutes=1.5)
    assert (refused.value.code, refused.value.status) == ("daily_minutes_used_up", 429)
    assert "2.0 min of the 3.0 min" in refused.value.detail
    assert 0 < refused.value.after_s <= 86_400
    assert [each.id for each in await catalog.recordings(tenant)] == [first.job.recording_id]
    await catalog.erase(tenant, first.job.recording_id, TRACE)
    with pytest.raises(QuotaExceeded):
        await sent(catalog, tenant, minutes=2)
    await sent(catalog, tenant, minutes=1)
    with pytest.raises(LimitExceeded, match=r"may send 3\.0 min a day"):
        await sent(catalog, tenant, minutes=4)


async def test_recordings_in_flight_are_refused_until_one_ends(catalog, tenant):
    await catalog.limit(tenant, {"recordings_in_flight": 2})
    first, _ = await sent(catalog, tenant), await sent(catalog, tenant)
    with pytest.raises(QuotaExceeded) as refused:
        await sent(catalog, tenant)
    assert (refused.value.code, refused.value.status) == ("too_many_in_flight", 429)
    assert "2 of the 2" in refused.value.detail
    await catalog.cancel(tenant, first.job.id, TRACE)
    await sent(catalog, tenant)
    with pytest.raises(QuotaExceeded):
        await catalog.retry(tenant, first.job.id, TRACE)


async def test_storage_is_refused_until_something_is_erased(catalog, tenant):
    await catalog.limit(tenant, {"storage_bytes": 1000})
    first = await sent(catalog, tenant, size_bytes=600)
    with pytest.raises(QuotaExceeded) as refused:
        await sent(catalog, tenant, size_bytes=401)
    assert (refused.value.code, refused.value.status, refused.value.after_s) == ("storage_used_up", 507, None)
    await catalog.erase(tenant, first.job.recording_id, TRACE)
    await sent(catalog, tenant, size_bytes=1000)


async def test_the_same_audio_again_is_the_first_job_also_when_nothing_is_left(catalog, tenant):
    await catalog.limit(tenant, {"audio_ms_a_day": MINUTE, "recordings_in_flight": 1, "storage_bytes": 1})
    first = await sent(catalog, tenant, sha256="ab" * 32, size_bytes=1)
    again = await sent(catalog, tenant, sha256="ab" * 32, size_bytes=1)
    assert (again.created, again.job.id) == (False, first.job.id)


async def test_uploads_at_the_same_moment_are_never_more_than_allowed(catalog, catalog_url, tenant):
    await catalog.limit(tenant, {"recordings_in_flight": 3, "audio_ms_a_day": 100 * MINUTE})
    doors = [Catalog(catalog_url, Codec()) for _ in range(4)]
    answers = await asyncio.gather(*(sent(door, tenant) for door in doors * 3), return_exceptions=True)
    for door in doors:
        await door.close()
    assert sum(isinstance(answer, Accepted) for answer in answers) == 3
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 9
    assert await catalog.usage(tenant) == Usage(3 * MINUTE, 3, 0)
