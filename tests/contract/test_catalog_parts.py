"""Ledger, transcripts, outbox, attempts, leases, heartbeats and spans in the catalog, on every database."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from earshot.adapters.catalog import Catalog
from earshot.kernel.codec import Codec
from earshot.kernel.errors import UnknownRecording
from earshot.kernel.events import RecordingCompleted
from earshot.kernel.ports import CollectionSettings, Heartbeat, SpanRow, StageCount, StoredSegment
from earshot.kernel.topics import RECORDINGS_COMPLETED, RECORDINGS_ERASED
from tests.fakes_catalog import TRACE, accepted, outbox, progressed, total, transcribed
from tests.waiting import eventually


async def test_a_job_counts_its_stages_and_completes_with_the_last_segment(catalog, tenant):
    first = await accepted(catalog, tenant)
    await catalog.record([progressed(first, "segmenter", 0), progressed(first, "segmenter", 1), total(first, 2)])
    await catalog.record([progressed(first, "transcriber", 0), progressed(first, "indexer", 0)])
    job = await catalog.job(tenant, first.job.id)
    assert (job.state, job.segments_total) == ("running", 2)
    assert job.stages == (StageCount("segmenter", 2, 0), StageCount("transcriber", 1, 0), StageCount("indexer", 1, 0))
    await catalog.record([progressed(first, "indexer", 1)])
    assert (await catalog.job(tenant, first.job.id)).state == "completed"
    assert (await catalog.recording(tenant, first.job.recording_id)).duration_ms == 20_000
    [(_, event)] = await outbox(catalog, tenant, RECORDINGS_COMPLETED)
    assert isinstance(event, RecordingCompleted)
    assert (event.state, event.segments, event.failed_segments, event.duration_ms) == ("completed", 2, 0, 20_000)


async def test_a_stage_that_works_on_the_whole_counts_as_one(catalog, tenant):
    first = await accepted(catalog, tenant)
    await catalog.record([progressed(first, "diarizer", None)])
    assert (await catalog.job(tenant, first.job.id)).stages == (StageCount("diarizer", 1, 0),)


async def test_a_recording_without_speech_completes(catalog, tenant):
    first = await accepted(catalog, tenant)
    await catalog.record([total(first, 0)])
    assert (await catalog.job(tenant, first.job.id)).state == "completed"


async def test_a_lost_segment_fails_the_job_and_names_the_stretch(catalog, tenant):
    first = await accepted(catalog, tenant)
    lost = progressed(first, "transcriber", 1, "failed", code="engine_rejected", detail="It would not.")
    await catalog.record([total(first, 2), progressed(first, "indexer", 0), lost])
    job = await catalog.job(tenant, first.job.id)
    assert job.state == "failed"
    assert (job.error["code"], job.error["detail"]) == ("engine_rejected", "It would not.")
    assert job.error["missing"] == [{"start_ms": 10_000, "end_ms": 20_000}]
    await catalog.record([progressed(first, "indexer", 1)])
    job = await catalog.job(tenant, first.job.id)
    assert (job.state, job.error) == ("completed", None)
    said = await outbox(catalog, tenant, RECORDINGS_COMPLETED)
    assert [event.state for _, event in said] == ["failed", "completed"]
    assert len({dict(row.headers)["ce_id"] for row, _ in said}) == 2


async def test_the_same_progress_again_changes_nothing(catalog, tenant):
    first = await accepted(catalog, tenant)
    events = [total(first, 1), progressed(first, "indexer", 0)]
    await catalog.record(events)
    before = await catalog.job(tenant, first.job.id)
    await catalog.record(events[::-1] + events)
    assert await catalog.job(tenant, first.job.id) == before
    assert len(await outbox(catalog, tenant, RECORDINGS_COMPLETED)) == 1


async def test_a_state_never_falls(catalog, tenant):
    first = await accepted(catalog, tenant)
    await catalog.record([total(first, 1), progressed(first, "indexer", 0)])
    await catalog.record([progressed(first, "indexer", 0, "failed"), progressed(first, "segmenter", None, "pending")])
    job = await catalog.job(tenant, first.job.id)
    assert (job.state, [stage.failed for stage in job.stages]) == ("completed", [0, 0])


async def test_a_completed_retry_supersedes_what_was_before(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id
    await catalog.record([progressed(first, "segmenter", None, "failed")])
    job = await catalog.retry(tenant, first.job.id, TRACE)
    second = type(first)(job, created=True)
    assert (await catalog.recording(tenant, recording_id)).visible_from == 1
    await catalog.record([total(second, 1), progressed(second, "indexer", 0)])
    assert (await catalog.recording(tenant, recording_id)).visible_from == 2
    [(_, event)] = await outbox(catalog, tenant, RECORDINGS_ERASED)
    assert (event.reason, event.revision) == ("superseded", 1)


async def test_progress_of_what_was_never_heard_of_is_refused(catalog, tenant):
    first = await accepted(catalog, tenant)
    unheard = total(first, 0)
    for changed in ({"recording_id": str(uuid.uuid4())}, {"revision": 2}):
        with pytest.raises(UnknownRecording):
            await catalog.record([unheard.model_copy(update=changed)])


async def test_a_transcript_shows_the_highest_visible_revision_of_each_segment(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id

    def of(index: int, revision: int) -> StoredSegment:
        return StoredSegment(transcribed(tenant, recording_id, index, revision), f"c{revision}")

    await catalog.store([of(0, 1), of(1, 1)])
    await catalog.record([progressed(first, "segmenter", None, "failed")])
    await catalog.retry(tenant, first.job.id, TRACE)
    await catalog.store([of(1, 2), of(2, 2)])
    shown = [(segment.index, segment.revision) for segment in await catalog.transcript(tenant, recording_id)]
    assert shown == [(0, 1), (1, 2), (2, 2)]
    excerpt = (await catalog.excerpts(tenant, {recording_id: [2, 9]}))[recording_id]
    assert {at: segment.revision for at, segment in excerpt.segments.items()} == {2: 2}
    assert sorted(excerpt.texts) == [1, 2]
    assert (await catalog.highest(tenant, recording_id, 1)).revision == 2
    await catalog.cancel(tenant, (await catalog.job(tenant, recording_id)).id, TRACE)
    shown = [(segment.index, segment.revision) for segment in await catalog.transcript(tenant, recording_id)]
    assert shown == [(0, 1), (1, 1)]
    excerpt = (await catalog.excerpts(tenant, {recording_id: [0, 1, 2]}))[recording_id]
    assert {at: segment.revision for at, segment in excerpt.segments.items()} == {0: 1, 1: 1}
    assert (await catalog.highest(tenant, recording_id, 1)).revision == 1
    await catalog.store([of(0, 2)])
    assert await catalog.stored(tenant, recording_id, revision=2) == [(2, 1, "c2"), (2, 2, "c2")]
    await catalog.forget(tenant, recording_id, up_to=1)
    assert await catalog.stored(tenant, recording_id) == [(2, 1, "c2"), (2, 2, "c2")]


async def test_a_stored_segment_comes_back_as_it_was(catalog, tenant):
    first = await accepted(catalog, tenant)
    event = transcribed(tenant, first.job.recording_id, 0, text="null \x00, quote ' and 日本語", speaker="A")
    await catalog.store([StoredSegment(event, None), StoredSegment(event, None)])
    assert await catalog.transcript(tenant, first.job.recording_id) == [event]


async def test_a_thousand_segments_settle_and_are_read_whole(catalog, tenant):
    first = await accepted(catalog, tenant)
    segments = [transcribed(tenant, first.job.recording_id, index) for index in range(1200)]
    await catalog.store([StoredSegment(segment, None) for segment in segments])
    await catalog.record([total(first, 1200), *(progressed(first, "indexer", index) for index in range(1200))])
    assert (await catalog.job(tenant, first.job.id)).state == "completed"
    assert await catalog.transcript(tenant, first.job.recording_id) == segments


async def test_rows_leave_the_outbox_in_order_and_once(catalog, tenant):
    for _ in range(3):
        await accepted(catalog, tenant)
    rows = [row for row, _ in await outbox(catalog, tenant)]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    await catalog.mark_sent([rows[0].id])
    await catalog.mark_sent([rows[0].id])
    assert [row for row, _ in await outbox(catalog, tenant)] == rows[1:]


async def test_tries_are_counted_until_they_are_finished(catalog, tenant):
    assert [await catalog.begin("transcriber", tenant) for _ in range(3)] == [1, 2, 3]
    assert await catalog.begin("diarizer", tenant) == 1
    await catalog.finish("transcriber", [tenant])
    assert await catalog.begin("transcriber", tenant) == 1


async def test_only_what_was_never_tried_gets_a_first_try(catalog, tenant):
    units = [f"{tenant}:{n}" for n in range(600)]
    await catalog.begin("transcriber", units[7])
    assert await catalog.begin_first("transcriber", [*units, units[0]]) == {*units} - {units[7]}
    assert await catalog.begin_first("transcriber", units) == set()
    assert await catalog.begin_first("transcriber", []) == set()
    assert [await catalog.begin("transcriber", unit) for unit in units[6:9]] == [2, 2, 2]
    assert await catalog.begin_first("diarizer", units[:1]) == {units[0]}


async def test_a_try_that_is_forgiven_does_not_count(catalog, tenant):
    assert [await catalog.begin("segmenter", tenant) for _ in range(2)] == [1, 2]
    await catalog.forgive("segmenter", tenant)
    await catalog.forgive("transcriber", tenant)
    assert await catalog.begin("segmenter", tenant) == 2


async def test_a_lease_has_one_holder_until_it_expires(catalog, tenant):
    takers = await asyncio.gather(*(catalog.acquire(tenant, f"worker {n}", 60) for n in range(6)))
    assert takers.count(True) == 1
    owner = f"worker {takers.index(True)}"
    assert await catalog.acquire(tenant, owner, 60)
    assert await catalog.renew(tenant, owner, 0.05)
    await catalog.release(tenant, "somebody else")
    await eventually(lambda: catalog.acquire(tenant, "next", 60), within=5)
    assert not await catalog.renew(tenant, owner, 60)
    await catalog.release(tenant, "next")
    assert await catalog.acquire(tenant, "third", 60)


async def test_only_recent_heartbeats_are_shown(catalog, tenant):
    now = datetime.now(UTC)
    fresh = Heartbeat(tenant, "w1", "paused", "the broker is down", now, {"lag": 3})
    await catalog.beat(Heartbeat(tenant, "w1", "running", "", now - timedelta(seconds=5), {}))
    await catalog.beat(fresh)
    await catalog.beat(Heartbeat(tenant, "w2", "running", "", now - timedelta(minutes=2), {}))
    assert [beat for beat in await catalog.heartbeats() if beat.stage == tenant] == [fresh]


def _span(tenant: str, recording_id: str, span_id: str, start_ns: int) -> SpanRow:
    times = (start_ns, start_ns + 1)
    return SpanRow("ab" * 16, span_id, None, "embedder", "process", *times, tenant, recording_id, "", {"n": 1})


async def test_spans_are_kept_by_tenant_until_they_are_pruned_or_erased(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id
    now_ns = int(datetime.now(UTC).timestamp() * 1e9)
    spans = [_span(tenant, recording_id, "b", now_ns), _span(tenant, recording_id, "a", 1)]
    await asyncio.to_thread(catalog.write, [*spans, *spans])
    assert catalog.of_trace(tenant, "ab" * 16) == spans[::-1]
    assert catalog.of_trace(tenant + "x", "ab" * 16) == []
    assert await catalog.prune(datetime.now(UTC) - timedelta(days=1)) >= 1
    assert catalog.of_trace(tenant, "ab" * 16) == spans[:1]
    await catalog.erase(tenant, recording_id, TRACE)
    catalog.write(spans)
    assert catalog.of_trace(tenant, "ab" * 16) == []


async def test_collections_have_settings_of_their_own(catalog, tenant):
    assert await catalog.collection_settings(tenant, "course") == CollectionSettings()
    settings = CollectionSettings(50, 10, "Dashwood, Ferrars", "A novel.", "translate")
    await catalog.configure_collection(tenant, "course", settings)
    await accepted(catalog, tenant, collection="course")
    assert await catalog.collection_settings(tenant, "course") == settings
    assert await catalog.collection_settings(tenant + "x", "course") == CollectionSettings()
    assert tenant in await catalog.tenants()


async def test_many_processes_worth_of_writers_all_get_through(catalog, catalog_url, tenant):
    """Several catalogs on one database, writing at once: nobody is refused, nothing is lost."""
    first = await accepted(catalog, tenant)
    others = [Catalog(catalog_url, Codec()) for _ in range(6)]

    async def write(number: int) -> None:
        for index in range(number * 10, number * 10 + 10):
            await others[number].store([StoredSegment(transcribed(tenant, first.job.recording_id, index), None)])
            await others[number].record([progressed(first, "indexer", index)])

    await asyncio.gather(*(write(number) for number in range(6)))
    await catalog.record([total(first, 60)])
    assert (await catalog.job(tenant, first.job.id)).state == "completed"
    assert len(await catalog.transcript(tenant, first.job.recording_id)) == 60
    assert len(await outbox(catalog, tenant, RECORDINGS_COMPLETED)) == 1
    for other in others:
        await other.close()


async def test_excerpts_of_several_recordings_come_in_one_look(catalog, tenant):
    """Each with its own segments and the texts beside them; erased ones and unknown ones are left out."""
    one, two, gone = [(await accepted(catalog, tenant)).job.recording_id for _ in range(3)]
    await catalog.store(
        [StoredSegment(transcribed(tenant, key, at), None) for key in (one, two, gone) for at in range(4)]
    )
    await catalog.erase(tenant, gone, TRACE)
    found = await catalog.excerpts(tenant, {one: [0], two: {3}, gone: [0], str(uuid.uuid4()): [0]})
    assert {
        key: (excerpt.recording.id, sorted(excerpt.segments), sorted(excerpt.texts)) for key, excerpt in found.items()
    } == {
        one: (one, [0], [0, 1]),
        two: (two, [3], [2, 3]),
    }
    assert found[one].segments[0] == (await catalog.transcript(tenant, one))[0]
    assert await catalog.excerpts(tenant, {}) == {}
