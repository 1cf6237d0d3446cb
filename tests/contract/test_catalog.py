"""Recordings and jobs in the catalog, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from earshot.adapters.catalog import Catalog, tables
from earshot.kernel import ids
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable, UnknownRecording
from earshot.kernel.events import AudioUploaded, RecordingErased, StageProgressed
from earshot.kernel.gate import Standing
from earshot.kernel.ports import StoredSegment
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, RECORDINGS_ERASED, RECORDINGS_PROGRESS
from tests.fakes_catalog import TRACE, accepted, new, outbox, progressed, total, transcribed, upload


async def test_accepting_makes_recording_job_and_event_at_once(catalog, tenant):
    of = upload(tenant, metadata={"a": "b"}, recorded_at=datetime(2024, 5, 1, 12, tzinfo=UTC), priority="high")
    result = await catalog.accept(new(of))
    assert result.created
    job = result.job
    assert (job.id, job.state, job.revision) == (ids.job_id(of.recording_id, 1), "pending", 1)
    assert job.trace_id == "ab" * 16
    recording = await catalog.recording(tenant, of.recording_id)
    assert (recording.title, recording.metadata, recording.recorded_at) == ("A talk", {"a": "b"}, of.recorded_at)
    [(row, event)] = await outbox(catalog, tenant)
    assert (row.topic, row.key, event) == (AUDIO_UPLOADED.name, of.recording_id, of)
    assert dict(row.headers)["traceparent"] == TRACE["traceparent"].encode()


async def test_the_same_file_from_many_at_once_is_one_recording(catalog, catalog_url, tenant):
    other = Catalog(catalog_url, Codec())
    try:
        results = await asyncio.gather(*((catalog, other)[n % 2].accept(new(upload(tenant))) for n in range(16)))
    finally:
        await other.close()
    assert len({result.job.recording_id for result in results}) == 1
    assert [result.created for result in results].count(True) == 1
    assert len(await outbox(catalog, tenant)) == 1


async def test_the_same_file_elsewhere_is_another_recording(catalog, tenant):
    first = await catalog.accept(new(upload(tenant)))
    in_other_collection = await catalog.accept(new(upload(tenant, collection="other")))
    of_other_tenant = await catalog.accept(new(upload(tenant + "x")))
    assert len({first.job.recording_id, in_other_collection.job.recording_id, of_other_tenant.job.recording_id}) == 3


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_the_same_file_after_a_bad_end_is_a_new_attempt(catalog, tenant, ending):
    first = await catalog.accept(new(upload(tenant)))
    if ending == "failed":
        await catalog.record([progressed(first, "segmenter", None, "failed", code="not_audio", detail="No sound.")])
    else:
        await catalog.cancel(tenant, first.job.id, TRACE)
    second = await catalog.accept(new(upload(tenant, title="Again")))
    assert second.created
    assert (second.job.recording_id, second.job.revision) == (first.job.recording_id, 2)
    assert (await catalog.recording(tenant, first.job.recording_id)).title == "Again"
    _, event = (await outbox(catalog, tenant, AUDIO_UPLOADED))[-1]
    assert (event.revision, event.uri) == (2, f"file:///blobs/{tenant}/{first.job.recording_id}")


async def test_the_same_file_after_its_blob_was_lost_is_a_new_recording(catalog, tenant):
    first = await catalog.accept(new(upload(tenant)))
    await catalog.record([progressed(first, "segmenter", None, "failed", code="blob_missing", detail="Gone.")])
    second = await catalog.accept(new(upload(tenant)))
    assert second.created
    assert second.job.recording_id != first.job.recording_id


async def test_the_same_file_after_erasure_is_a_new_recording(catalog, tenant):
    first = await catalog.accept(new(upload(tenant)))
    await catalog.erase(tenant, first.job.recording_id, TRACE)
    second = await catalog.accept(new(upload(tenant)))
    assert second.created
    assert second.job.recording_id != first.job.recording_id


async def test_an_idempotency_key_answers_with_the_first_job(catalog, tenant):
    first = await catalog.accept(new(upload(tenant), idempotency_key="k", request_hash="1"))
    again = await catalog.accept(new(upload(tenant, sha256="bb"), idempotency_key="k", request_hash="1"))
    assert (again.created, again.job.id) == (False, first.job.id)
    with pytest.raises(Permanent) as caught:
        await catalog.accept(new(upload(tenant), idempotency_key="k", request_hash="2"))
    assert (caught.value.code, caught.value.status) == ("idempotency_key_reused", 422)
    elsewhere = await catalog.accept(new(upload(tenant + "x"), idempotency_key="k", request_hash="2"))
    assert elsewhere.created


async def test_an_imported_transcript_completes_by_being_indexed(catalog, tenant):
    of = upload(tenant, uri="", sha256="")
    segments = tuple(transcribed(tenant, of.recording_id, index) for index in range(3))
    result = await catalog.accept(new(of, source_key=None, segments=segments))
    assert [event for _, event in await outbox(catalog, tenant, AUDIO_TRANSCRIPTS)] == list(segments)
    [(_, cut)] = await outbox(catalog, tenant, RECORDINGS_PROGRESS)
    assert isinstance(cut, StageProgressed)
    assert (cut.stage, cut.segments_total, cut.end_ms) == ("segmenter", 3, 30_000)
    assert not await outbox(catalog, tenant, AUDIO_UPLOADED)
    assert await catalog.transcript(tenant, of.recording_id) == list(segments)
    await catalog.record([cut, *(progressed(result, "indexer", index) for index in range(3))])
    assert (await catalog.job(tenant, result.job.id)).state == "completed"


async def test_a_cancelled_import_can_be_tried_again_after_its_rows_are_gone(catalog, tenant):
    of = upload(tenant, uri="", sha256="")
    segments = (transcribed(tenant, of.recording_id, 0),)
    result = await catalog.accept(new(of, source_key=None, segments=segments))
    await catalog.cancel(tenant, result.job.id, TRACE)
    await catalog.forget(tenant, of.recording_id, revision=1)
    await catalog.retry(tenant, result.job.id, TRACE)
    [segment] = await catalog.transcript(tenant, of.recording_id)
    assert (segment.revision, segment.text) == (2, segments[0].text)


async def test_the_same_transcript_twice_is_one_recording(catalog, tenant):
    results = []
    for _ in range(2):
        of = upload(tenant, uri="", sha256="")
        segments = (transcribed(tenant, of.recording_id, 0),)
        results.append(await catalog.accept(new(of, source_key=None, segments=segments)))
    assert [result.created for result in results] == [True, False]


async def test_adopting_twice_changes_nothing(catalog, tenant):
    of = upload(tenant, title="Theirs")
    await catalog.adopt(of, "key", TRACE)
    await catalog.adopt(of.model_copy(update={"title": "Other"}), "key", TRACE)
    assert (await catalog.recording(tenant, of.recording_id)).title == "Theirs"
    assert (await catalog.job(tenant, of.recording_id)).state == "pending"
    assert not await outbox(catalog, tenant)


async def test_adopting_what_was_erased_changes_nothing(catalog, tenant):
    of = upload(tenant)
    await catalog.adopt(of, "key", TRACE)
    await catalog.erase(tenant, of.recording_id, TRACE)
    await catalog.adopt(of, "key", TRACE)
    assert await catalog.recording(tenant, of.recording_id) is None


async def test_an_id_that_another_tenant_has_is_not_adopted(catalog, tenant):
    """Keys of the log do not name the tenant: its deletions would reach the other's transcripts."""
    mine = upload(tenant)
    await catalog.adopt(mine, f"{tenant}/talk", TRACE)
    theirs = mine.model_copy(update={"tenant": f"{tenant}x"})
    with pytest.raises(Permanent) as caught:
        await catalog.adopt(theirs, f"{tenant}x/talk", TRACE)
    assert caught.value.code == "bad_recording_id"
    assert await catalog.recording(theirs.tenant, theirs.recording_id) is None


@pytest.mark.parametrize("bad", ["", "../x", "A" * 36, "nul\x00"])
async def test_an_id_that_is_no_uuid_is_not_adopted(catalog, tenant, bad):
    with pytest.raises(Permanent) as caught:
        await catalog.adopt(AudioUploaded(tenant=tenant, recording_id=bad, uri="x"), "key", TRACE)
    assert caught.value.code == "bad_recording_id"


async def test_recordings_are_listed_newest_first_page_by_page(catalog, tenant):
    made = [(await accepted(catalog, tenant)).job.recording_id for _ in range(5)]
    first = await catalog.recordings(tenant, limit=3)
    rest = await catalog.recordings(tenant, before=(first[-1].created_at, first[-1].id))
    assert [recording.id for recording in first + rest] == made[::-1]
    assert await catalog.recordings(tenant, collection="other") == []


async def test_retry_publishes_the_audio_under_the_next_revision(catalog, tenant):
    first = await accepted(catalog, tenant)
    with pytest.raises(Permanent) as caught:
        await catalog.retry(tenant, first.job.id, TRACE)
    assert (caught.value.code, caught.value.status) == ("not_retryable", 409)
    await catalog.record([progressed(first, "segmenter", None, "failed")])
    again = await catalog.retry(tenant, first.job.id, TRACE)
    assert (again.revision, again.state) == (2, "pending")
    assert [event.revision for _, event in await outbox(catalog, tenant, AUDIO_UPLOADED)] == [1, 2]
    with pytest.raises(Permanent):  # the first attempt is no longer the latest
        await catalog.retry(tenant, first.job.id, TRACE)


async def test_cancelling_is_seen_at_the_gate_and_said_on_the_log(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id
    assert (await catalog.cancel(tenant, first.job.id, TRACE)).state == "cancelled"
    assert await catalog.standings([(tenant, recording_id)]) == {(tenant, recording_id): Standing("cancelled", 1)}
    [(_, event)] = await outbox(catalog, tenant, RECORDINGS_ERASED)
    assert event == RecordingErased(tenant=tenant, recording_id=recording_id, reason="cancelled")
    with pytest.raises(Permanent) as caught:
        await catalog.cancel(tenant, first.job.id, TRACE)
    assert (caught.value.code, caught.value.status) == ("not_cancellable", 409)
    await catalog.record([total(first, 0)])
    assert (await catalog.job(tenant, first.job.id)).state == "cancelled"


async def test_erasing_forgets_everything_but_the_tombstone(catalog, tenant):
    first = await catalog.accept(new(upload(tenant), idempotency_key="k", request_hash="1"))
    recording_id = first.job.recording_id
    secret = transcribed(tenant, recording_id, 0, text="secret words")
    await catalog.store([StoredSegment(secret, f"{tenant}/transcripts/x")])
    await catalog.record([progressed(first, "transcriber", 0)])
    await catalog.erase(tenant, recording_id, TRACE)
    assert await catalog.recording(tenant, recording_id) is None
    assert await catalog.job(tenant, first.job.id) is None
    assert await catalog.recordings(tenant) == []
    assert await catalog.transcript(tenant, recording_id) == []
    assert await catalog.highest(tenant, recording_id, 0) is None
    assert (await catalog.standings([(tenant, recording_id)]))[(tenant, recording_id)].state == "erased"
    assert [row.topic for row, _ in await outbox(catalog, tenant)] == [RECORDINGS_ERASED.name]
    assert await catalog.stored(tenant, recording_id) == [(1, 0, f"{tenant}/transcripts/x")]
    assert not _anywhere(catalog, tenant, "secret", "A talk", "aa" * 32)
    with pytest.raises(UnknownRecording):
        await catalog.erase(tenant, recording_id, TRACE)


def _anywhere(catalog: Catalog, tenant: str, *words: str) -> list[str]:
    """Tables in which a tenant's rows still hold one of the words."""
    found = []
    with catalog._db.engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            if "tenant" in table.c:
                rows = connection.execute(sa.select(table).where(table.c.tenant == tenant)).all()
                found += [table.name for row in rows if any(word in str(row) for word in words)]
    return found


async def test_what_comes_late_for_an_erased_recording_leaves_no_trace(catalog, tenant):
    first = await accepted(catalog, tenant)
    recording_id = first.job.recording_id
    await catalog.erase(tenant, recording_id, TRACE)
    await catalog.store([StoredSegment(transcribed(tenant, recording_id, 0, text="late"), None)])
    await catalog.record([progressed(first, "indexer", 0), total(first, 1)])
    assert await catalog.stored(tenant, recording_id) == []
    assert not _anywhere(catalog, tenant, "late")
    assert [row.topic for row, _ in await outbox(catalog, tenant)] == [RECORDINGS_ERASED.name]


async def test_the_source_of_an_erased_recording_is_known_until_it_is_gone(catalog, tenant):
    mine, shares = upload(tenant), upload(tenant)
    for of in (mine, shares):
        await catalog.adopt(of, f"{tenant}/inbox/x.wav", TRACE)
    assert await catalog.in_use(tenant, [f"{tenant}/inbox/x.wav", f"{tenant}/recordings/{mine.recording_id}/1/0"]) == {
        f"{tenant}/inbox/x.wav",
        f"{tenant}/recordings/{mine.recording_id}/1/0",
    }
    await catalog.erase(tenant, mine.recording_id, TRACE)
    assert await catalog.source_left(tenant, mine.recording_id) is None
    await catalog.erase(tenant, shares.recording_id, TRACE)
    assert await catalog.source_left(tenant, mine.recording_id) == f"{tenant}/inbox/x.wav"
    assert await catalog.in_use(tenant, [f"{tenant}/inbox/x.wav"]) == set()
    await catalog.source_gone(tenant, mine.recording_id)
    assert await catalog.source_left(tenant, mine.recording_id) is None


async def test_no_method_shows_or_changes_another_tenants_rows(catalog, tenant):
    mine, other = await accepted(catalog, tenant), tenant + "x"
    recording_id, job_id = mine.job.recording_id, mine.job.id
    await catalog.store([StoredSegment(transcribed(tenant, recording_id, 0), None)])
    before = await catalog.job(tenant, job_id)
    assert await catalog.recording(other, recording_id) is None
    assert await catalog.recordings(other) == []
    assert await catalog.job(other, job_id) is None
    assert await catalog.job(other, recording_id) is None
    assert await catalog.standings([(other, recording_id)]) == {}
    assert await catalog.transcript(other, recording_id) == []
    assert await catalog.excerpts(other, {recording_id: [0]}) == {}
    assert await catalog.highest(other, recording_id, 0) is None
    assert await catalog.stored(other, recording_id) == []
    assert await catalog.in_use(other, [f"{other}/recordings/{recording_id}/source"]) == set()
    for refused in (catalog.retry, catalog.cancel, catalog.erase):
        with pytest.raises(UnknownRecording):
            await refused(other, job_id if refused != catalog.erase else recording_id, TRACE)
    with pytest.raises(UnknownRecording):
        await catalog.record([total(mine, 0).model_copy(update={"tenant": other})])
    await catalog.forget(other, recording_id)
    with pytest.raises(Permanent):
        await catalog.adopt(upload(other, recording_id=recording_id, title="Theirs"), "k", TRACE)
    assert await catalog.job(tenant, job_id) == before
    assert len(await catalog.transcript(tenant, recording_id)) == 1


async def test_values_no_database_holds_are_refused_not_retried(catalog, tenant):
    with pytest.raises(Permanent):
        await accepted(catalog, tenant, size_bytes=2**70)
    with pytest.raises(Permanent):
        await accepted(catalog, tenant, title="\ud800")


async def test_the_migrations_make_the_tables_of_the_code(catalog):
    with catalog._db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


async def test_many_may_migrate_at_once(tmp_path):
    catalogs = [Catalog(f"sqlite:///{tmp_path}/new/catalog.sqlite", Codec()) for _ in range(4)]
    await asyncio.gather(*(catalog.migrate() for catalog in catalogs))
    for catalog in catalogs:
        await catalog.ready()
        await catalog.close()


async def test_a_catalog_without_tables_is_not_ready(tmp_path):
    catalog = Catalog(f"sqlite:///{tmp_path}/empty.sqlite", Codec())
    with pytest.raises(Unavailable, match="version none"):
        await catalog.ready()
    with pytest.raises(Unavailable):
        await catalog.recordings("default")
    await catalog.close()


async def test_a_server_that_does_not_answer_is_unavailable():
    catalog = Catalog("postgresql+psycopg://nobody@127.0.0.1:1/none", Codec())
    with pytest.raises(Unavailable) as caught:
        await catalog.ready()
    assert caught.value.dependency == "catalog"
    await catalog.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://"])
def test_a_url_of_nothing_known_is_refused(url):
    with pytest.raises(Misconfigured):
        Catalog(url, Codec())
