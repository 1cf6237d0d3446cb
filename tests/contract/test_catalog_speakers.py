"""What the catalog keeps of speakers, on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from earshot.kernel.errors import UnknownRecording
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports import Heartbeat, StageCount
from earshot.kernel.topics import RECORDINGS_PROGRESS
from tests.fakes_catalog import accepted, outbox, progressed, total
from tests.fakes_speakers import FakeDiarizer, found, turn


async def keep(catalog, tenant: str, recording: str, *revisions: int) -> None:
    for revision in revisions:
        await catalog.store_turns(found(recording, turn(f"S{revision}", 0, 1000), tenant=tenant, revision=revision))


async def kept(catalog, tenant: str, recording: str) -> list[int]:
    voices = await catalog.voices(tenant, [recording])
    return [event.revision for event in voices[recording].found] if recording in voices else []


async def test_turns_are_kept_by_revision_and_read_for_many_recordings_at_once(catalog, tenant):
    one, two, three = [(await accepted(catalog, tenant)).job.recording_id for _ in range(3)]
    await keep(catalog, tenant, one, 1, 2)
    hostile = found(two, turn("a'\u2028\"; DROP", 0, 5), tenant=tenant, exclusive=[turn("b", 1, 2)])
    await catalog.store_turns(hostile)
    await catalog.store_turns(hostile)
    voices = await catalog.voices(tenant, [one, two, three])
    assert set(voices) == {one, two}
    assert voices[two].found == (hostile,)
    assert [event.revision for event in voices[one].found] == [1, 2]
    assert await catalog.voices(f"{tenant}-other", [one, two]) == {}
    assert await catalog.voices(tenant, []) == {}


async def test_turns_are_forgotten_by_attempt_and_what_still_serves_stays(catalog, tenant):
    recording = (await accepted(catalog, tenant)).job.recording_id
    await keep(catalog, tenant, recording, 1, 2, 3)
    await catalog.forget_turns(tenant, recording, revision=3)
    assert await kept(catalog, tenant, recording) == [1, 2]
    await catalog.forget_turns(tenant, recording, up_to=5)
    assert await kept(catalog, tenant, recording) == [2]
    await catalog.forget_turns(f"{tenant}-other", recording)
    await catalog.forget_turns(tenant, recording)
    assert await kept(catalog, tenant, recording) == []


async def test_names_are_a_tenants_own_and_found_by_name(catalog, tenant):
    recording = (await accepted(catalog, tenant)).job.recording_id
    await catalog.name_speakers(tenant, recording, {"S0": "Ada", "S1": "Bob", "S2": "Ada"})
    await catalog.name_speakers(tenant, recording, {"S1": "O'Brien", "S2": None, "S9": None})
    assert await catalog.speakers_named(tenant, "Ada", 10) == [(recording, "S0")]
    assert await catalog.speakers_named(tenant, "O'Brien", 10) == [(recording, "S1")]
    assert await catalog.speakers_named(f"{tenant}-other", "Ada", 10) == []
    assert (await catalog.voices(tenant, [recording]))[recording].named(["S0", "S1", "S2"]) == ["Ada", "O'Brien", "S2"]
    await catalog.name_speakers(tenant, recording, {"S2": "Ada"})
    assert len(await catalog.speakers_named(tenant, "Ada", 1)) == 1


async def test_an_erasure_takes_turns_and_names_and_nothing_comes_back(catalog, tenant):
    recording = (await accepted(catalog, tenant)).job.recording_id
    await keep(catalog, tenant, recording, 1)
    await catalog.name_speakers(tenant, recording, {"S1": "Ada"})
    await catalog.erase(tenant, recording, {})
    await keep(catalog, tenant, recording, 1)
    with pytest.raises(UnknownRecording):
        await catalog.name_speakers(tenant, recording, {"S1": "Ada"})
    assert await catalog.voices(tenant, [recording]) == {}
    assert await catalog.speakers_named(tenant, "Ada", 10) == []


async def test_turns_of_a_cancelled_attempt_are_left_out(catalog, tenant):
    job = (await accepted(catalog, tenant)).job
    await catalog.cancel(tenant, job.id, {})
    await keep(catalog, tenant, job.recording_id, 1)
    assert await kept(catalog, tenant, job.recording_id) == []
    await catalog.retry(tenant, job.id, {})
    await keep(catalog, tenant, job.recording_id, 2)
    assert await kept(catalog, tenant, job.recording_id) == [2]


async def beat(catalog, info: dict, at: datetime | None = None) -> None:
    await catalog.beat(Heartbeat(SPEAKER_STAGE, "w", "running", "", at or datetime.now(UTC), info))


async def test_a_job_waits_for_a_diarizer_that_is_on_when_it_is_made(catalog, tenant):
    """One that is off, is starting, or has not been heard of for a minute is not waited for."""
    on = {"engine": FakeDiarizer.engine.model_dump()}
    try:
        for info, at in (({"off": "no"}, None), ({}, None), (on, datetime.now(UTC) - timedelta(minutes=2))):
            await beat(catalog, info, at)
            job = await accepted(catalog, tenant)
            await catalog.record([total(job, 0)])
            assert (await catalog.job(tenant, job.job.id)).state == "completed"
        await beat(catalog, on)
        job = await accepted(catalog, tenant)
        assert StageCount(SPEAKER_STAGE, 0, 0) in (await catalog.job(tenant, job.job.id)).stages
        said = [event for _, event in await outbox(catalog, tenant, RECORDINGS_PROGRESS)]
        assert [(event.stage, event.index, event.state) for event in said] == [(SPEAKER_STAGE, None, "pending")]
        await catalog.record(said)
        await catalog.record([total(job, 0)])
        assert (await catalog.job(tenant, job.job.id)).state == "running"
        await catalog.record([progressed(job, SPEAKER_STAGE, None)])
        assert (await catalog.job(tenant, job.job.id)).state == "completed"
    finally:
        await beat(catalog, {}, datetime.now(UTC) - timedelta(minutes=5))
