"""Corrections of transcripts and the revisions they leave, on every database."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from earshot.adapters.catalog import Catalog
from earshot.adapters.catalog.tables import now
from earshot.kernel.errors import Permanent, UnknownRecording
from earshot.kernel.events import Quality, RecordingErased, SegmentTranscribed, StageProgressed
from earshot.kernel.gate import Standing, Verdict, judge, judge_shown, visible
from earshot.kernel.ports import Accepted, StoredSegment
from earshot.kernel.ports.editing import Revision
from earshot.kernel.ports.reprocessing import Selection
from earshot.kernel.topics import (
    AUDIO_TRANSCRIPTS,
    AUDIO_UPLOADED,
    RECORDINGS_COMPLETED,
    RECORDINGS_ERASED,
    RECORDINGS_PROGRESS,
)
from tests.fakes_catalog import TRACE, accepted, new, outbox, progressed, total, transcribed, upload

THEN = datetime(2026, 3, 1, 9, tzinfo=UTC)


async def spoken(catalog: Catalog, tenant: str, segments: int = 2, **fields: object) -> Accepted:
    """A recording that went all the way."""
    one = await accepted(catalog, tenant, **fields)
    job = one.job
    said = [transcribed(tenant, job.recording_id, at, job.revision) for at in range(segments)]
    await catalog.store([StoredSegment(segment, f"{tenant}/cached/{segment.index}") for segment in said])
    await indexed(catalog, one, segments)
    return one


async def indexed(catalog: Catalog, one: Accepted, segments: int = 2) -> None:
    await catalog.record([total(one, segments), *(progressed(one, "indexer", at) for at in range(segments))])


async def said(catalog: Catalog, tenant: str, one: Accepted, revision: int | None = None) -> list[str]:
    if revision is None:
        return [segment.text for segment in await catalog.transcript(tenant, one.job.recording_id)]
    return [segment.text for segment in await catalog.words(tenant, one.job.recording_id, revision) or []]


async def corrected(catalog: Catalog, tenant: str, one: Accepted, text: str, *, base: int, index: int = 0) -> Accepted:
    segment = transcribed(tenant, one.job.recording_id, index, base, text=text)
    return await catalog.edit(tenant, one.job.recording_id, [segment], base, TRACE)


async def standing(catalog: Catalog, tenant: str, one: Accepted) -> Standing:
    [found] = (await catalog.standings({(tenant, one.job.recording_id)})).values()
    return found


async def refused(catalog: Catalog, tenant: str, one: Accepted, base: int) -> tuple[str, int]:
    with pytest.raises(Permanent) as error:
        await corrected(catalog, tenant, one, "no", base=base)
    return error.value.code, error.value.status


async def test_a_correction_is_a_higher_revision_of_every_segment_in_the_outbox(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "right", base=1)
    assert (edit.created, edit.job.revision, edit.job.state) == (True, 2, "pending")
    events = [event for _, event in await outbox(catalog, tenant, AUDIO_TRANSCRIPTS)]
    assert [(e.index, e.revision, e.text) for e in events if isinstance(e, SegmentTranscribed)] == [
        (0, 2, "right"),
        (1, 2, "segment 1 revision 1"),
    ]
    assert len(await outbox(catalog, tenant, AUDIO_UPLOADED)) == 1, "nothing is transcribed again"
    assert await said(catalog, tenant, one) == ["right", "segment 1 revision 1"]
    keys = {key for revision, _, key in await catalog.stored(tenant, one.job.recording_id) if revision == 2}
    assert keys == {f"{tenant}/cached/0", f"{tenant}/cached/1"}, "cached transcripts stay in use"


async def test_what_was_found_stays_found_until_the_correction_is_indexed(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "right", base=1)
    during = await standing(catalog, tenant, one)
    assert (visible(during, 1), visible(during, 2)) == (True, True)
    await indexed(catalog, edit)
    after = await standing(catalog, tenant, one)
    assert (visible(after, 1), visible(after, 2)) == (False, True)
    swept = [event for _, event in await outbox(catalog, tenant, RECORDINGS_ERASED)]
    assert [(e.revision, e.reason) for e in swept if isinstance(e, RecordingErased)] == [(1, "superseded")]
    assert {event.revision for _, event in await outbox(catalog, tenant, RECORDINGS_COMPLETED)} == {1, 2}


async def test_earlier_revisions_stay_readable_when_the_eraser_has_swept_them(catalog, tenant):
    one = await spoken(catalog, tenant)
    first = await corrected(catalog, tenant, one, "right", base=1)
    await indexed(catalog, first)
    second = await corrected(catalog, tenant, one, "right, too", base=2, index=1)
    await indexed(catalog, second)
    await catalog.forget(tenant, one.job.recording_id, up_to=2)
    assert await said(catalog, tenant, one, 1) == ["segment 0 revision 1", "segment 1 revision 1"]
    assert await said(catalog, tenant, one, 2) == ["right", "segment 1 revision 1"]
    assert await said(catalog, tenant, one, 3) == await said(catalog, tenant, one) == ["right", "right, too"]
    assert {segment.revision for segment in await catalog.words(tenant, one.job.recording_id, 1) or []} == {1}
    assert await catalog.words(tenant, one.job.recording_id, 4) is None
    listed = await catalog.revisions(tenant, one.job.recording_id)
    assert [(r.revision, r.kind, r.changed, r.current) for r in listed] == [
        (3, "edited", (1,), True),
        (2, "edited", (0,), False),
        (1, "transcribed", None, False),
    ]


async def test_the_original_comes_back_as_a_revision_of_its_own(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "wrong after all", base=1)
    await indexed(catalog, edit)
    await catalog.forget(tenant, one.job.recording_id, up_to=1)
    back = await catalog.restore(tenant, one.job.recording_id, 1, 2, TRACE)
    assert (back.created, back.job.revision) == (True, 3)
    assert await said(catalog, tenant, one) == ["segment 0 revision 1", "segment 1 revision 1"]
    newest = (await catalog.revisions(tenant, one.job.recording_id))[0]
    assert newest == Revision(3, "restored", None, 1, True, newest.created_at)
    same = await catalog.restore(tenant, one.job.recording_id, 3, None, TRACE)
    assert (same.created, same.job.revision) == (False, 3)
    with pytest.raises(Permanent) as unknown:
        await catalog.restore(tenant, one.job.recording_id, 9, None, TRACE)
    assert (unknown.value.code, unknown.value.status) == ("unknown_revision", 404)


async def test_whoever_saw_other_words_is_refused_and_changes_nothing(catalog, tenant):
    one = await spoken(catalog, tenant)
    await corrected(catalog, tenant, one, "first", base=1)
    assert await refused(catalog, tenant, one, base=1) == ("revision_changed", 412)
    assert await said(catalog, tenant, one) == ["first", "segment 1 revision 1"]
    assert await catalog.current_revision(tenant, one.job.recording_id) == 2


async def test_what_is_being_transcribed_or_failed_cannot_be_corrected(catalog, tenant):
    fresh = await accepted(catalog, tenant)
    assert await refused(catalog, tenant, fresh, base=1) == ("not_editable", 409)
    lost = progressed(fresh, "transcriber", 0, "failed", code="engine_rejected", detail="No.")
    await catalog.record([total(fresh, 1), lost])
    assert await refused(catalog, tenant, fresh, base=1) == ("not_editable", 409)
    done = await spoken(catalog, tenant)
    await catalog.reprocess(tenant, Selection(now() + timedelta(seconds=1), collection="default"), 10, TRACE)
    assert await refused(catalog, tenant, done, base=2) == ("not_editable", 409)


async def test_a_correction_of_a_correction_takes_its_place_before_it_is_indexed(catalog, tenant):
    one = await spoken(catalog, tenant)
    first = await corrected(catalog, tenant, one, "first", base=1)
    second = await corrected(catalog, tenant, one, "second", base=2, index=1)
    assert await said(catalog, tenant, one) == ["first", "second"]
    overtaken = await catalog.job(tenant, first.job.id)
    assert overtaken is not None
    assert overtaken.state == "cancelled"
    during = await standing(catalog, tenant, one)
    assert [visible(during, revision) for revision in (1, 2, 3)] == [True, False, True]
    assert judge_shown(during, 2) is Verdict.OVERTAKEN
    await indexed(catalog, first)
    assert (await standing(catalog, tenant, one)).visible_from == 1, "its late progress changes nothing"
    await indexed(catalog, second)
    assert (await standing(catalog, tenant, one)).visible_from == 3
    assert await said(catalog, tenant, one, 2) == ["first", "segment 1 revision 1"]


async def test_a_late_transcript_of_the_old_revision_never_beats_the_correction(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "right", base=1)
    assert judge(await standing(catalog, tenant, one), 1) is Verdict.OVERTAKEN
    await catalog.store([StoredSegment(transcribed(tenant, one.job.recording_id, 0, 1, text="late"), None)])
    assert (await said(catalog, tenant, one))[0] == "right"
    best = await catalog.highest(tenant, one.job.recording_id, 0)
    assert best is not None
    assert (best.revision, best.text) == (2, "right"), "what an overtaken transcriber publishes again"
    await indexed(catalog, edit)
    assert judge_shown(await standing(catalog, tenant, one), 1) is Verdict.OVERTAKEN
    assert (await said(catalog, tenant, one, 1))[0] == "segment 0 revision 1"


async def test_a_cancelled_correction_leaves_the_words_before_and_retrying_brings_it_again(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "right", base=1)
    await catalog.cancel(tenant, edit.job.id, TRACE)
    await catalog.forget(tenant, one.job.recording_id, revision=2)
    assert await said(catalog, tenant, one) == ["segment 0 revision 1", "segment 1 revision 1"]
    assert await catalog.current_revision(tenant, one.job.recording_id) == 1
    again = await catalog.retry(tenant, edit.job.id, TRACE)
    assert again.revision == 3
    assert await said(catalog, tenant, one) == ["right", "segment 1 revision 1"]
    assert await outbox(catalog, tenant, AUDIO_UPLOADED) == [], "nothing is transcribed again"
    other = await corrected(catalog, tenant, one, "righter", base=3)
    assert other.job.revision == 4


async def test_a_correction_that_could_not_be_indexed_is_tried_again_with_its_words(catalog, tenant):
    one = await spoken(catalog, tenant)
    edit = await corrected(catalog, tenant, one, "right", base=1)
    lost = progressed(edit, "embedder", 0, "failed", code="rejected", detail="No.")
    await catalog.record([total(edit, 2), lost, progressed(edit, "indexer", 1)])
    during = await standing(catalog, tenant, one)
    assert (visible(during, 1), visible(during, 2)) == (True, True)
    again = await catalog.retry(tenant, edit.job.id, TRACE)
    events = [event for _, event in await outbox(catalog, tenant, AUDIO_TRANSCRIPTS)]
    assert [e.text for e in events if isinstance(e, SegmentTranscribed) and e.revision == again.revision] == [
        "right",
        "segment 1 revision 1",
    ]


async def test_how_long_it_is_and_how_it_sounds_stays_known(catalog, tenant):
    one = await accepted(catalog, tenant)
    await catalog.store([StoredSegment(transcribed(tenant, one.job.recording_id, 0), None)])
    measured = Quality(loudness_lufs=-20.0, snr_db=30.0)
    cut = total(one, 1).model_copy(update={"quality": measured, "end_ms": 12_345})
    await catalog.record([cut, progressed(one, "indexer", 0)])
    edit = await corrected(catalog, tenant, one, "right", base=1)
    told = [event for _, event in await outbox(catalog, tenant, RECORDINGS_PROGRESS)]
    await catalog.record([e for e in told if isinstance(e, StageProgressed) and e.revision == 2])
    recording = await catalog.recording(tenant, one.job.recording_id)
    assert recording is not None
    assert (recording.duration_ms, recording.quality) == (12_345, measured)
    job = await catalog.job(tenant, edit.job.id)
    assert job is not None
    assert (job.segments_total, job.state) == (1, "running")


async def test_an_imported_transcript_is_corrected_likewise(catalog, tenant):
    of = upload(tenant, recorded_at=THEN)
    segments = tuple(transcribed(tenant, of.recording_id, at, text=f"cue {at}") for at in range(2))
    one = await catalog.accept(new(of, segments=segments))
    await indexed(catalog, one)
    await corrected(catalog, tenant, one, "right", base=1)
    assert await said(catalog, tenant, one) == ["right", "cue 1"]
    assert await said(catalog, tenant, one, 1) == ["cue 0", "cue 1"]


async def test_titles_tags_and_metadata_change_without_a_revision(catalog, tenant):
    one = await spoken(catalog, tenant)
    wishes = {"title": "A better title", "tags": ["exam", "Exam", "100% sure", "exam"], "metadata": {"a": "b"}}
    after = await catalog.describe(tenant, one.job.recording_id, wishes, TRACE)
    assert (after.title, after.tags, after.metadata) == ("A better title", ("100% sure", "Exam", "exam"), {"a": "b"})
    assert (after.revision, await catalog.recording(tenant, one.job.recording_id)) == (1, after)
    other = await spoken(catalog, tenant)
    await catalog.describe(tenant, other.job.recording_id, {"tags": ["exams", "100 sure"]}, TRACE)
    for tags, found in (
        (["exam"], 1), (["EXAM"], 0), (["exam", "Exam"], 1), (["exam", "exams"], 0), (["100%"], 0), (["exams"], 1),
    ):  # fmt: skip
        assert len(await catalog.recordings(tenant, tags=tags)) == found, tags
    assert (await catalog.describe(tenant, one.job.recording_id, {"tags": []}, TRACE)).tags == ()


async def test_another_date_goes_into_the_index_as_a_revision_with_the_same_words(catalog, tenant):
    one = await spoken(catalog, tenant)
    after = await catalog.describe(tenant, one.job.recording_id, {"recorded_at": THEN}, TRACE)
    assert (after.recorded_at, after.revision) == (THEN, 2)
    events = [event for _, event in await outbox(catalog, tenant, AUDIO_TRANSCRIPTS)]
    assert [(e.revision, e.recorded_at, e.text) for e in events if isinstance(e, SegmentTranscribed)] == [
        (2, THEN, "segment 0 revision 1"),
        (2, THEN, "segment 1 revision 1"),
    ]
    same = await catalog.describe(tenant, one.job.recording_id, {"recorded_at": THEN, "title": "T"}, TRACE)
    assert (same.title, same.revision) == ("T", 2)
    fresh = await accepted(catalog, tenant)
    with pytest.raises(Permanent) as early:
        await catalog.describe(tenant, fresh.job.recording_id, {"title": "no", "recorded_at": THEN}, TRACE)
    assert early.value.code == "not_editable"
    untouched = await catalog.recording(tenant, fresh.job.recording_id)
    assert untouched is not None
    assert (untouched.title, untouched.recorded_at) == ("A talk", None)


async def test_corrected_words_are_not_transcribed_over_unless_that_is_wished(catalog, tenant):
    one = await spoken(catalog, tenant)
    await indexed(catalog, await corrected(catalog, tenant, one, "right", base=1))
    soon = now() + timedelta(seconds=1)
    assert await catalog.matching(tenant, Selection(soon, collection="default")) == 0
    assert await catalog.matching(tenant, Selection(soon, collection="default", edited=True)) == 1
    await indexed(catalog, await catalog.restore(tenant, one.job.recording_id, 1, None, TRACE))
    assert await catalog.matching(tenant, Selection(soon, collection="default")) == 1, "the original is nobody's words"
    [job] = await catalog.reprocess(tenant, Selection(soon, collection="default"), 10, TRACE)
    anew = transcribed(tenant, one.job.recording_id, 0, job.revision, text="heard anew")
    await catalog.store([StoredSegment(anew, None)])
    await indexed(catalog, Accepted(job, created=True), 1)
    await catalog.forget(tenant, one.job.recording_id, up_to=job.revision - 1)
    assert await said(catalog, tenant, one) == ["heard anew"]
    assert await said(catalog, tenant, one, 2) == ["right", "segment 1 revision 1"]
    back = await catalog.restore(tenant, one.job.recording_id, 2, None, TRACE)
    assert back.job.revision == job.revision + 1
    kinds = [(each.revision, each.kind) for each in await catalog.revisions(tenant, one.job.recording_id)]
    assert kinds == [(5, "restored"), (4, "transcribed"), (3, "restored"), (2, "edited"), (1, "transcribed")]


async def test_an_erased_recording_keeps_none_of_its_revisions(catalog, tenant):
    one = await spoken(catalog, tenant)
    await corrected(catalog, tenant, one, "right", base=1)
    await catalog.describe(tenant, one.job.recording_id, {"tags": ["secret"]}, TRACE)
    await catalog.erase(tenant, one.job.recording_id, TRACE)
    left = await catalog.rows_of(tenant)
    assert not {"revisions", "revision_segments"} & left.keys(), json.dumps(left)
    for question in (catalog.current_revision, catalog.revisions):
        with pytest.raises(UnknownRecording):
            await question(tenant, one.job.recording_id)
    with pytest.raises(UnknownRecording):
        await corrected(catalog, tenant, one, "late", base=2)
    assert await catalog.words(tenant, one.job.recording_id, 1) is None
    assert await catalog.recordings(tenant, tags=["secret"]) == []


async def test_another_tenant_reads_and_changes_nothing(catalog, tenant):
    one = await spoken(catalog, tenant)
    await corrected(catalog, tenant, one, "right", base=1)
    other = f"{tenant}-other"
    await spoken(catalog, other)
    assert await catalog.words(other, one.job.recording_id, 1) is None
    with pytest.raises(UnknownRecording):
        await catalog.restore(other, one.job.recording_id, 1, None, TRACE)
    with pytest.raises(UnknownRecording):
        await catalog.describe(other, one.job.recording_id, {"title": "mine"}, TRACE)
