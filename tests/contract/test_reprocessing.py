"""Choosing recordings whose transcripts are made again, on every database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from earshot.adapters.catalog import Catalog
from earshot.adapters.catalog.tables import now
from earshot.kernel.events import AudioUploaded, Engine
from earshot.kernel.gate import visible
from earshot.kernel.ports import Accepted, StoredSegment
from earshot.kernel.ports.reprocessing import Selection
from earshot.kernel.topics import AUDIO_UPLOADED
from tests.fakes_catalog import TRACE, accepted, outbox, progressed, total, transcribed

FALLBACK, REAL = Engine(name="pocketsphinx", degraded=True), Engine(name="faster-whisper")


def selection(before: datetime | None = None, **fields: Any) -> Selection:
    return Selection(before or now() + timedelta(seconds=1), **fields)


async def done(catalog: Catalog, tenant: str, *engines: Engine, **fields: Any) -> Accepted:
    """A recording that went all the way, one segment an engine."""
    one = await accepted(catalog, tenant, **fields)
    await finish(catalog, one, *engines)
    return one


async def finish(catalog: Catalog, one: Accepted, *engines: Engine) -> None:
    job = one.job
    segments = [
        StoredSegment(transcribed(job.tenant, job.recording_id, at, job.revision, engine=engine), None)
        for at, engine in enumerate(engines)
    ]
    await catalog.store(segments)
    await catalog.record([total(one, len(engines)), *(progressed(one, "indexer", at) for at in range(len(engines)))])


async def test_one_segment_of_a_fallback_is_enough(catalog, tenant):
    mixed = await done(catalog, tenant, REAL, FALLBACK)
    await done(catalog, tenant, REAL, REAL)
    await done(catalog, f"{tenant}-other", FALLBACK)
    for chosen in ({"degraded": True}, {"engine": "pocketsphinx"}, {"engine": "pocketsphinx", "degraded": True}):
        assert await catalog.matching(tenant, selection(**chosen)) == 1
    assert await catalog.matching(tenant, selection(degraded=False)) == 2
    assert await catalog.matching(tenant, selection(engine="faster-whisper", degraded=True)) == 0
    [job] = await catalog.reprocess(tenant, selection(degraded=True), 10, TRACE)
    assert (job.recording_id, job.revision, job.state) == (mixed.job.recording_id, 2, "pending")


async def test_what_was_found_stays_found_while_it_is_made_again(catalog, tenant):
    one = await done(catalog, tenant, FALLBACK)
    [job] = await catalog.reprocess(tenant, selection(degraded=True), 10, TRACE)
    [standing] = (await catalog.standings({(tenant, job.recording_id)})).values()
    assert visible(standing, 1)
    assert [segment.revision for segment in await catalog.transcript(tenant, job.recording_id)] == [1]
    asked = [event for _, event in await outbox(catalog, tenant, AUDIO_UPLOADED) if isinstance(event, AudioUploaded)]
    assert [(event.recording_id, event.revision) for event in asked] == [
        (one.job.recording_id, 1),
        (one.job.recording_id, 2),
    ]


async def test_what_is_under_way_is_not_begun_again_and_what_was_just_made_is_not_met_again(catalog, tenant):
    one = await done(catalog, tenant, FALLBACK)
    first = selection(degraded=True, before=now())
    [job] = await catalog.reprocess(tenant, first, 10, TRACE)
    assert await catalog.reprocess(tenant, first, 10, TRACE) == []
    await finish(catalog, Accepted(job, created=True), FALLBACK)
    assert await catalog.reprocess(tenant, first, 10, TRACE) == []
    [again] = await catalog.reprocess(tenant, selection(degraded=True), 10, TRACE)
    assert (again.recording_id, again.revision) == (one.job.recording_id, 3)


async def test_the_oldest_come_first_so_many_at_a_time_of_one_collection(catalog, tenant):
    made = [await done(catalog, tenant, FALLBACK, collection=name) for name in ("a", "b", "a", "a")]
    chosen = selection(collection="a", before=now())
    assert await catalog.matching(tenant, chosen) == 3
    first = await catalog.reprocess(tenant, chosen, 2, TRACE)
    rest = await catalog.reprocess(tenant, chosen, 2, TRACE)
    expected = [one.job.recording_id for one in (made[0], made[2], made[3])]
    assert [job.recording_id for job in first + rest] == expected
    assert [len(first), len(rest)] == [2, 1]


async def test_erased_and_cancelled_recordings_are_left_alone(catalog, tenant):
    erased, cancelled = [await done(catalog, tenant, FALLBACK) for _ in range(2)]
    await catalog.erase(tenant, erased.job.recording_id, TRACE)
    [job, *_] = await catalog.reprocess(tenant, selection(degraded=True), 10, TRACE)
    assert job.recording_id == cancelled.job.recording_id
    await catalog.cancel(tenant, job.id, TRACE)
    assert await catalog.matching(tenant, selection(collection="default")) == 0
