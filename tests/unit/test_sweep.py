"""A tenant leaves with everything, what is past its time goes, and the neighbours keep every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from earshot.eraser.remains import look_for_recording, look_for_tenant
from earshot.eraser.sweep import LEASE, Pace, Sweeper
from earshot.kernel.codec import Record
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports import CollectionSettings
from earshot.kernel.ports.retention import TenantLeaves
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, DAY_MS
from tests.fakes_catalog import TRACE, accepted, new_catalog, progressed, total, upload
from tests.house import TENANT, House
from tests.waiting import eventually

OTHER = "other"


@pytest.fixture
async def house(tmp_path) -> AsyncIterator[House]:
    catalog = await new_catalog(tmp_path)
    yield House(catalog)
    await catalog.close()


def sweeper(house: House, batch: int = 2, days: float = 0, owner: str = "one") -> Sweeper:
    pace = Pace(batch, look_s=0.01, retention_s=0, segment_audio=timedelta(days=7))
    later = datetime.now(UTC) + timedelta(days=days)
    return Sweeper(house.catalog, house.blobs, house.vectors, owner, pace, lambda: later)


async def filled(house: House, tenant: str, number: int, **fields: str) -> list[str]:
    made = []
    for _ in range(number):
        first = await accepted(house.catalog, tenant, **fields)
        made.append(first.job.recording_id)
        await house.fill(made[-1], 1, tenant=tenant)
        await house.catalog.record([total(first, 2), progressed(first, "indexer", 0), progressed(first, "indexer", 1)])
    return made


async def everything_of(house: House, tenant: str) -> tuple:
    """All that a tenant has, in every store."""
    blobs = {key: value for key, value in house.blobs.stored.items() if key.startswith(f"{tenant}/")}
    passages = {model: dict(held.get(tenant, {})) for model, held in house.vectors.passages.items()}
    recordings = await house.catalog.recordings(tenant)
    transcripts = [await house.catalog.transcript(tenant, recording.id) for recording in recordings]
    last = [house.last_revisions(recording.id) for recording in recordings]
    settings = await house.catalog.collection_settings(tenant, "course")
    return blobs, passages, recordings, transcripts, last, settings, await house.catalog.rows_of(tenant)


async def until_left(house: House, sweeping: Sweeper, tenant: str = TENANT) -> None:
    """Sweeper, relay and eraser in turns, until the tenant has left."""
    done = 0
    for _ in range(50):
        await sweeping.round()
        await house.publish()
        done = await house.erase_published(done)
        if (await house.catalog.tenant_erasure(tenant)).since is None:
            return
    raise AssertionError("the tenant is still there")


async def test_erasing_a_tenant_leaves_nothing_of_it_and_every_byte_of_another(house):
    await filled(house, TENANT, 5, collection="course")
    await filled(house, OTHER, 2, collection="course")
    await house.catalog.configure_collection(TENANT, "course", CollectionSettings(hotwords="secret"))
    await house.catalog.configure_collection(OTHER, "course", CollectionSettings(hotwords="theirs"))
    await house.blobs.put(f"{TENANT}/left/over", b"x")
    await house.publish()
    before = await everything_of(house, OTHER)
    await house.catalog.erase_tenant(TENANT)
    sweeping = sweeper(house)
    await until_left(house, sweeping)
    assert sweeping.counts["tenants_erased"] == 1
    assert not [key for key in house.blobs.stored if key.startswith(f"{TENANT}/")]
    assert not any(held.get(TENANT) for held in house.vectors.passages.values())
    assert await house.catalog.rows_of(TENANT) == {}
    report = await look_for_tenant(house.kit, TENANT, 60)
    assert report.clean
    places = {find.place for find in report.found}
    assert {"audio.transcripts", "recordings.completed", "recordings.erased"} <= places
    assert await everything_of(house, OTHER) == before


async def test_a_tenant_is_not_gone_before_the_last_of_its_recordings_is(house):
    await filled(house, TENANT, 3)
    await house.catalog.erase_tenant(TENANT)
    sweeping = sweeper(house)
    for _ in range(5):
        await sweeping.round()
    assert (await house.catalog.tenant_erasure(TENANT)).left == 3
    assert await house.publish() == 2  # a batch, and no more before that is done
    with pytest.raises(TenantLeaves):
        await accepted(house.catalog, TENANT)


@pytest.mark.parametrize("broken", ["blobs", "vectors"])
async def test_a_store_that_fails_at_the_end_is_made_good_in_the_next_round(house, broken):
    await filled(house, TENANT, 1)
    await house.catalog.erase_tenant(TENANT)
    sweeping = sweeper(house)
    await sweeping.round()
    await house.publish()
    await house.erase_published()
    await house.blobs.put(f"{TENANT}/left/over", b"x")
    forget = house.vectors.forget

    async def down(*_: object) -> None:
        raise Unavailable(broken, "It is down.")

    if broken == "blobs":
        house.blobs.failure = Unavailable("blobs", "It is down.")
    else:
        house.vectors.forget = down
    with pytest.raises(Unavailable):
        await sweeping.round()
    assert (await house.catalog.tenant_erasure(TENANT)).since is not None
    house.blobs.failure, house.vectors.forget = None, forget
    await sweeper(house).round()  # another process, as after a crash
    assert (await house.catalog.tenant_erasure(TENANT)).since is None
    assert (await look_for_tenant(house.kit, TENANT, 60)).clean


async def test_late_and_repeated_events_change_nothing_after_a_tenant_left(house):
    await filled(house, TENANT, 2)
    foreign = upload(TENANT)
    await house.catalog.adopt(foreign, f"{TENANT}/recordings/{foreign.recording_id}/source", TRACE)
    await house.catalog.erase_tenant(TENANT)
    await until_left(house, sweeper(house))
    await house.catalog.adopt(foreign, f"{TENANT}/recordings/{foreign.recording_id}/source", TRACE)
    await house.erase_published()
    assert await house.catalog.recordings(TENANT) == []
    assert (await house.catalog.standings({(TENANT, foreign.recording_id)}))[
        TENANT, foreign.recording_id
    ].state == "erased"
    assert (await look_for_tenant(house.kit, TENANT, 60)).clean


async def test_only_one_worker_sweeps_at_a_time(house):
    await filled(house, TENANT, 1)
    await house.catalog.erase_tenant(TENANT)
    assert await house.catalog.acquire(LEASE, "another", 60)
    await sweeper(house).round()
    assert await house.publish() == 0
    await house.catalog.release(LEASE, "another")
    await sweeper(house).round()
    assert await house.publish() == 1


async def test_a_recording_past_its_time_goes_the_same_way(house):
    [old] = await filled(house, TENANT, 1, collection="short")
    [kept] = await filled(house, OTHER, 1, collection="short")
    await house.catalog.configure_collection(TENANT, "short", CollectionSettings(retain_days=3))
    await house.publish()
    await sweeper(house, days=2.9).round()
    assert await house.publish() == 0
    sweeping = sweeper(house, days=3.1)
    await sweeping.round()
    await house.publish()
    await house.erase_published()
    assert sweeping.counts["expired"] == 1
    assert (await look_for_recording(house.kit, TENANT, old, 60)).clean
    assert not [key for key in house.blobs.stored if old in key]
    assert await house.catalog.recording(OTHER, kept) is not None


async def test_the_audio_of_segments_goes_and_the_original_stays(house):
    [recording_id] = await filled(house, TENANT, 1)
    folder = f"{TENANT}/recordings/{recording_id}/"
    before = {key for key in house.blobs.stored if key.startswith(folder)}
    await sweeper(house, days=6.9).round()
    assert {key for key in house.blobs.stored if key.startswith(folder)} == before
    sweeping = sweeper(house, days=7.1)
    await sweeping.round()
    await sweeping.round()
    assert {key for key in house.blobs.stored if key.startswith(folder)} == {f"{folder}source"}
    assert sweeping.counts["segment_audio_dropped"] == 1
    assert len(await house.catalog.transcript(TENANT, recording_id)) == 2


async def test_it_goes_on_after_what_failed(house):
    await filled(house, TENANT, 1)
    await house.catalog.erase_tenant(TENANT)
    leaving = house.catalog.leaving
    tries = 0

    async def fails_twice() -> list[str]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise (Unavailable("catalog", "It is down."), KeyError("a bug"))[tries - 1]
        return await leaving()

    house.catalog.leaving = fails_twice
    async with sweeper(house).running():
        await eventually(lambda: tries > 3)
        await eventually(house.publish)


async def test_what_is_found_is_named_with_its_place_and_its_time(house):
    [recording_id] = await filled(house, TENANT, 1)
    await house.publish()
    live = await look_for_recording(house.kit, TENANT, recording_id, 60)
    assert not live.clean
    places = {find.place for find in live.found if find.wrong}
    assert places == {"catalog", "blobs", "index one", "index two", "audio.transcripts"}
    await house.catalog.erase(TENANT, recording_id, TRACE)
    await house.publish()
    await house.erase_published()
    value = house.codec.encode(AUDIO_UPLOADED, upload(TENANT, recording_id=recording_id))
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    await house.log.publish(
        [
            Record("audio.embeddings.dlq", f"{recording_id}:7".encode(), b"broken", timestamp_ms=now_ms),
            Record("audio.uploaded.dlq", b"a foreign key", value, timestamp_ms=now_ms - DAY_MS),
            Record(AUDIO_EMBEDDINGS.name, b"another:1", b"x", timestamp_ms=now_ms + DAY_MS),
        ]
    )
    gone = await look_for_recording(house.kit, TENANT, recording_id, 60)
    assert gone.clean
    until = {find.place: find.until for find in gone.found}
    assert {"audio.embeddings.dlq", "audio.uploaded.dlq", "recordings.completed", "recordings.erased"} <= set(until)
    assert "audio.embeddings" not in until
    assert gone.last_bytes == until["audio.embeddings.dlq"]
    assert until["audio.embeddings.dlq"] - until["audio.uploaded.dlq"] == timedelta(days=1)
    assert abs(gone.last_bytes - datetime.now(UTC) - timedelta(days=31)) < timedelta(hours=1)


async def test_a_transcript_that_came_back_is_found(house):
    """The look must not be content with the catalog's word."""
    [recording_id] = await filled(house, TENANT, 1)
    await house.catalog.erase(TENANT, recording_id, TRACE)
    await house.publish()
    await house.erase_published()
    assert (await look_for_recording(house.kit, TENANT, recording_id, 60)).clean
    await house.log.publish([Record(AUDIO_TRANSCRIPTS.name, f"{recording_id}:1".encode(), b"said again")])
    await house.blobs.put(f"{TENANT}/recordings/{recording_id}/1/segments/000000.flac", b"x")
    report = await look_for_recording(house.kit, TENANT, recording_id, 60)
    assert [str(find) for find in report.found if find.wrong] == [
        "blobs: 1 objects",
        "audio.transcripts: 1 transcripts",
    ]


async def test_a_log_too_long_to_be_read_in_time_is_said_not_hidden(house):
    [recording_id] = await filled(house, TENANT, 1)
    await house.catalog.erase(TENANT, recording_id, TRACE)
    await house.publish()
    await house.erase_published()

    async def for_ever(*_: object, **__: object) -> AsyncIterator[Record]:
        await asyncio.Event().wait()
        yield Record("t", None, None)

    house.log.tail = for_ever
    house.settings = house.settings.model_copy(update={"broker_url": "kafka://127.0.0.1:1"})
    report = await look_for_recording(house.kit, TENANT, recording_id, 0.05)
    assert not report.complete
    assert abs(report.last_bytes - report.gone_at - timedelta(days=31)) < timedelta(hours=1)
