"""The segmenter over fakes, and once over the real decoder and a real folder."""

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from earshot.adapters.blobs import ObstoreBlobs
from earshot.adapters.decoder import IsolatedDecoder
from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.errors import (
    BlobMismatch,
    BlobMissing,
    ForeignUri,
    LimitExceeded,
    Misconfigured,
    NotAudio,
    Transient,
    UnitCrashed,
)
from earshot.kernel.events import AudioUploaded, Quality
from earshot.kernel.gate import Verdict
from earshot.kernel.ports import CollectionSettings, CutEnd, CutSegment
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Stale
from earshot.kernel.topics import LANES, RECORDINGS_PROGRESS
from earshot.segmenter.app import create_stage
from earshot.segmenter.discard import discard
from earshot.segmenter.segment import Terms, lease_name, segment
from tests.audio import silence, speech, wav
from tests.fakes_catalog import FakeCollections, FakeLeases
from tests.fakes_media import FakeBlobs, FakeDecoder
from tests.fakes_mos import FakeMos
from tests.waiting import eventually

RECORDING = "11111111-1111-4111-8111-111111111111"
KEY = f"acme/recordings/{RECORDING}/source"
FOLDER = f"acme/recordings/{RECORDING}/2/segments/"
DATA = b"what was uploaded" * 500


def piece(index):
    return CutSegment(index, index * 1000, index * 1000 + 900, b"flac %d" % index, f"{index:064x}", index * 1000 + 950)


SCRIPT = [piece(0), piece(1), CutEnd(2500, 2)]


def upload(blobs, **fields):
    about = {"tenant": "acme", "recording_id": RECORDING, "revision": 2, "uri": blobs.uri(KEY), "collection": "talks",
             "language": "de", "recorded_at": datetime(2026, 1, 2, tzinfo=UTC)}  # fmt: skip
    return Delivery(AudioUploaded(**(about | fields)), Record("audio.uploaded", RECORDING.encode(), b"value"))


@pytest.fixture
async def blobs():
    store = FakeBlobs()
    await store.put(KEY, DATA)
    return store


async def run(delivery, blobs, decoder, max_bytes=10**6, leases=None, lease_s=60, collections=None, mos=None):
    terms = Terms(max_bytes, "me", lease_s)
    cut = segment([delivery], blobs, decoder, leases or FakeLeases(), terms, collections or FakeCollections(), mos)
    return [output async for output in cut]


@pytest.mark.parametrize(("priority", "later"), [("high", "normal"), ("normal", "low"), ("low", "low")])
async def test_what_comes_after_the_first_ten_minutes_goes_one_lane_lower(blobs, priority, later):
    script = [replace(piece(0), start_ms=start_ms, index=n) for n, start_ms in enumerate((599_999, 600_000, 5_000_000))]
    *cuts, _ = await run(upload(blobs, priority=priority), blobs, FakeDecoder([*script, CutEnd(5_001_000, 3)]))
    assert [cut.topic for cut in cuts] == [LANES[priority], LANES[later], LANES[later]]


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
async def test_segments_go_to_the_lane_of_their_priority_then_the_total_is_said(blobs, priority):
    delivery = upload(blobs, priority=priority)
    *cuts, total = await run(delivery, blobs, FakeDecoder(SCRIPT))
    assert [cut.topic for cut in cuts] == [LANES[priority]] * 2
    assert [cut.key for cut in cuts] == [f"{RECORDING}:0", f"{RECORDING}:1"]
    first = cuts[0].event
    assert (first.tenant, first.recording_id, first.revision, first.index) == ("acme", RECORDING, 2, 0)
    assert (first.start_ms, first.end_ms, first.sha256) == (0, 900, "0" * 64)
    assert (first.collection, first.language, first.recorded_at) == ("talks", "de", delivery.event.recorded_at)
    assert first.uri == blobs.uri(f"{FOLDER}000000.flac")
    assert await blobs.get(f"{FOLDER}000001.flac") == b"flac 1"
    assert (total.topic, total.event.stage, total.event.state) == (RECORDINGS_PROGRESS, "segmenter", "done")
    said = total.event
    assert (said.segments_total, said.index, said.start_ms, said.end_ms, said.detail) == (2, None, 0, 2500, "")


async def test_the_total_says_how_the_recording_sounds_and_what_people_would_think_of_it(blobs):
    script = [*SCRIPT[:2], CutEnd(2500, 2, quality=Quality(snr_db=21.5))]
    plain = await run(upload(blobs), blobs, FakeDecoder(script))
    assert plain[-1].event.quality == Quality(snr_db=21.5)
    rated = await run(upload(blobs), blobs, FakeDecoder(script), mos=FakeMos([3.0, 4.0]))
    assert rated[-1].event.quality == Quality(snr_db=21.5, mos=3.5, mos_model="fake")
    assert plain[0].event == rated[0].event


async def test_segments_say_what_their_collection_wishes_unless_the_upload_says_otherwise(blobs):
    collections = FakeCollections()
    wishes = CollectionSettings(hotwords="Dashwood", prompt="A novel.", task="translate")
    await collections.configure_collection("acme", "talks", wishes)
    said = [
        (cut.event.task, cut.event.hotwords, cut.event.prompt)
        for delivery in (upload(blobs), upload(blobs, task="transcribe"), upload(blobs, collection="other"))
        for cut in (await run(delivery, blobs, FakeDecoder(SCRIPT), collections=collections))[:1]
    ]
    wanted = ("Dashwood", "A novel.")
    assert said == [("translate", *wanted), ("transcribe", *wanted), ("transcribe", "", "")]


async def test_a_segment_is_stored_and_published_before_the_next_is_cut(blobs):
    class Watching(FakeDecoder):
        async def cut(self, path):
            yield piece(0)
            assert [out.event.index for out in seen] == [0]
            yield CutEnd(900, 1)

    seen = []
    terms = Terms(10**6, "me", 60)
    async for output in segment([upload(blobs)], blobs, Watching(), FakeLeases(), terms, FakeCollections()):
        assert f"{FOLDER}000000.flac" in blobs.stored
        seen.append(output)
    assert len(seen) == 2


async def test_silence_has_no_segments_and_is_done(blobs):
    [total] = await run(upload(blobs), blobs, FakeDecoder([CutEnd(7000, 0)]))
    assert (total.event.segments_total, total.event.state, total.event.end_ms) == (0, "done", 7000)


async def test_damage_is_told(blobs):
    [total] = await run(upload(blobs), blobs, FakeDecoder([CutEnd(7000, 0, "it breaks off in the middle")]))
    assert "breaks off in the middle" in total.event.detail


async def test_the_announced_hash_is_checked_before_anything_is_decoded(blobs):
    decoder = FakeDecoder(SCRIPT)
    await run(upload(blobs, sha256=hashlib.sha256(DATA).hexdigest().upper()), blobs, decoder)
    assert len(decoder.paths) == 1
    with pytest.raises(BlobMismatch):
        await run(upload(blobs, sha256="0" * 64), blobs, decoder)
    assert len(decoder.paths) == 1


@pytest.mark.parametrize("error", [NotAudio("x"), LimitExceeded("x"), UnitCrashed("x")])
async def test_what_the_decoder_says_passes_through(blobs, error):
    with pytest.raises(type(error)):
        await run(upload(blobs), blobs, FakeDecoder([piece(0), error]))


async def test_a_claim_check_on_nothing_or_on_anothers_is_refused(blobs):
    await blobs.put("other/recordings/1/source", DATA)
    with pytest.raises(BlobMissing):
        await run(upload(blobs, uri=blobs.uri("acme/none/x")), blobs, FakeDecoder(SCRIPT))
    for uri in (blobs.uri("other/recordings/1/source"), "file:///etc/passwd", "https://example.org/x"):
        with pytest.raises(ForeignUri):
            await run(upload(blobs, uri=uri), blobs, FakeDecoder(SCRIPT))


async def test_what_is_too_large_is_refused_before_it_is_fetched(blobs):
    decoder = FakeDecoder(SCRIPT)
    with pytest.raises(LimitExceeded):
        await run(upload(blobs), blobs, decoder, max_bytes=len(DATA) - 1)
    assert decoder.paths == []


async def test_a_recording_that_another_worker_is_cutting_is_left_to_it(blobs):
    leases, decoder, delivery = FakeLeases(), FakeDecoder(SCRIPT), upload(blobs)
    await leases.acquire(lease_name(delivery.event), "another", 60)
    with pytest.raises(Transient, match="Another worker"):
        await run(delivery, blobs, decoder, leases=leases)
    assert decoder.paths == []
    await leases.release(lease_name(delivery.event), "another")
    assert len(await run(delivery, blobs, decoder, leases=leases)) == 3
    assert leases.held == {}


async def test_a_worker_that_lost_its_lease_stops(blobs):
    """Its segments so far stay: the one that took over makes the same."""

    class Slow(FakeDecoder):
        async def cut(self, path):
            yield piece(0)
            leases.held[lease_name(delivery.event)] = ("another", time.monotonic() + 60)
            await eventually(lambda: leases.refused)
            yield piece(1)

    leases, delivery = FakeLeases(), upload(blobs)
    with pytest.raises(Transient, match="was lost"):
        await run(delivery, blobs, Slow(), leases=leases, lease_s=0.3)
    assert f"{FOLDER}000001.flac" not in blobs.stored
    assert leases.held[lease_name(delivery.event)][0] == "another"


async def test_what_was_erased_meanwhile_is_discarded_and_nothing_else(blobs):
    await run(upload(blobs), blobs, FakeDecoder(SCRIPT))
    await blobs.put(f"acme/recordings/{RECORDING}/1/segments/000000.flac", b"of another revision")
    assert [out async for out in discard([Stale(upload(blobs), Verdict.ERASED)], blobs)] == []
    assert sorted(blobs.stored) == [f"acme/recordings/{RECORDING}/1/segments/000000.flac", KEY]


async def test_speech_in_a_folder_becomes_the_same_segments_every_time(tmp_path):
    """The real decoder: two sentences, a long silence, three sentences."""
    import numpy as np

    blobs = ObstoreBlobs((tmp_path / "blobs").as_uri())
    voice = speech()
    await blobs.put(KEY, wav(np.concatenate([voice[:160_000], silence(20), voice[160_000:]])))
    first, again = [await run(upload(blobs), blobs, IsolatedDecoder(), 10**9) for _ in range(2)]
    assert [out.event for out in first] == [out.event for out in again]
    *cuts, total = first
    assert total.event.segments_total == len(cuts) == 2
    assert cuts[0].event.start_ms == 0
    assert 9_000 < cuts[0].event.end_ms < 11_500
    assert 29_000 < cuts[1].event.start_ms < 31_000
    assert cuts[1].event.end_ms == total.event.end_ms == (len(voice) + 320_000) // 16


async def test_the_stage_is_wired(tmp_path):
    """It reads uploads, writes to every lane, adopts foreign uploads by their own place in the store."""
    kit = Kit(Settings(data=tmp_path))
    stage = create_stage(kit)
    assert stage.name == "segmenter"
    assert {topic.name for topic in stage.sinks} == {*(lane.name for lane in LANES.values()), "recordings.progress"}
    await stage.probe()
    with pytest.raises(ForeignUri):
        await stage.adopt(upload(FakeBlobs()))


def test_settings_that_cannot_be_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_SEGMENTER__MAX_HOURS", "-1")
    with pytest.raises(Misconfigured, match="EARSHOT_SEGMENTER__MAX_HOURS"):
        create_stage(Kit(Settings(data=tmp_path)))
