"""The diarizer over fakes: what it publishes, keeps and gives back; and what it does while it is off."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.diarizers import DiarizerEngineSettings, DiarizerProcess, find, longest
from earshot.adapters.wiring import Kit
from earshot.diarizer.app import create_stage
from earshot.diarizer.diarize import Terms, diarize, lease_name, pass_over, speaker_count
from earshot.diarizer.known import forget, result_key
from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import (
    BlobMismatch,
    EngineRejected,
    LimitExceeded,
    Misconfigured,
    Transient,
    Unavailable,
    UnitCrashed,
)
from earshot.kernel.events import AudioUploaded, SpeakersFound, StageProgressed
from earshot.kernel.gate import Verdict
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports.speakers import SpeakerCount
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Stale
from earshot.kernel.topics import AUDIO_SPEAKERS, AUDIO_UPLOADED, RECORDINGS_PROGRESS
from earshot.streams.faust_app import build_app
from earshot.streams.settings import WorkerSettings
from tests.fakes_catalog import FakeLeases, accepted, new_catalog, progressed
from tests.fakes_media import FakeBlobs
from tests.fakes_speakers import FakeDiarizer, diarized, turn
from tests.fakes_stream import Bench, record_of

RECORDING = "11111111-1111-4111-8111-111111111111"
KEY = f"acme/recordings/{RECORDING}/source"
AUDIO = b"the whole recording"
TERMS = Terms(10_000, "me", 30.0, SpeakerCount(at_most=8))


def delivery(**fields: Any) -> Delivery[AudioUploaded]:
    about: dict[str, Any] = {"tenant": "acme", "recording_id": RECORDING, "revision": 2}
    about |= {"uri": f"{FakeBlobs.base}/{KEY}", "sha256": hashlib.sha256(AUDIO).hexdigest()}
    return Delivery(AudioUploaded(**(about | fields)), Record("audio.uploaded", RECORDING.encode(), b""))


@pytest.fixture
async def blobs() -> FakeBlobs:
    stored = FakeBlobs()
    await stored.put(KEY, AUDIO)
    return stored


async def run(blobs: FakeBlobs, diarizer: FakeDiarizer, leases: FakeLeases | None = None, **fields: Any) -> list[Any]:
    work = diarize([delivery(**fields)], blobs, diarizer, leases or FakeLeases(), TERMS)
    return [(output.topic, output.event) async for output in work]


async def test_the_turns_of_a_recording_are_published_with_what_made_them(blobs):
    """And nothing is said of their being done: that is for the indexer, where they can be searched."""
    diarizer = FakeDiarizer()
    [(topic, event)] = await run(blobs, diarizer)
    assert topic is AUDIO_SPEAKERS
    assert isinstance(event, SpeakersFound)
    assert (event.tenant, event.recording_id, event.revision) == ("acme", RECORDING, 2)
    assert (event.turns, event.engine) == (diarized().turns, FakeDiarizer.engine)
    assert diarizer.asked == [TERMS.count]


async def test_what_was_found_once_is_not_looked_for_again(blobs):
    """Not by another attempt; but by another model, or with another number of speakers, it is."""
    await run(blobs, FakeDiarizer())
    again = FakeDiarizer(diarized(turn("SPEAKER_00", 0, 1)))
    [(_, event)] = await run(blobs, again, revision=3)
    assert (again.asked, event.turns, event.revision) == ([], diarized().turns, 3)
    await run(blobs, again, metadata={"num_speakers": "2"})
    assert again.asked == [SpeakerCount(2)]
    other = FakeDiarizer()
    other.engine = other.engine.model_copy(update={"digest": "e" * 64})
    await run(blobs, other)
    assert other.asked == [TERMS.count]


async def test_what_is_kept_lies_in_the_recordings_own_folder_and_goes_with_it(blobs):
    await run(blobs, FakeDiarizer())
    [kept] = [key for key in blobs.stored if key != KEY]
    assert kept.startswith(f"acme/recordings/{RECORDING}/speakers/")
    assert [output async for output in forget([Stale(delivery(), Verdict.CANCELLED)], blobs)] == []
    assert kept in blobs.stored
    assert [output async for output in forget([Stale(delivery(), Verdict.ERASED)], blobs)] == []
    assert set(blobs.stored) == {KEY}


async def test_kept_turns_that_cannot_be_read_are_found_again(blobs):
    diarizer = FakeDiarizer()
    key = result_key(delivery().event, diarizer, TERMS.count)
    assert key is not None
    await blobs.put(key, b'{"turns": 7}')
    await run(blobs, diarizer)
    assert len(diarizer.asked) == 1
    assert json.loads(blobs.stored[key][0])["duration_ms"] == 10_000


async def test_audio_without_a_hash_is_listened_to_each_time(blobs):
    diarizer = FakeDiarizer()
    await run(blobs, diarizer, sha256="")
    await run(blobs, diarizer, sha256="")
    assert (len(diarizer.asked), set(blobs.stored)) == (2, {KEY})


async def test_only_one_worker_listens_to_the_same_audio_with_the_same_model(blobs):
    """Also when two recordings of a tenant are the same audio; another tenant's is another."""
    leases, diarizer = FakeLeases(), FakeDiarizer()
    name = lease_name(delivery().event, diarizer)
    assert await leases.acquire(name, "another worker", 60)
    with pytest.raises(Transient, match="Another worker"):
        await run(blobs, diarizer, leases)
    assert diarizer.asked == []
    same = delivery(recording_id="22222222-2222-4222-8222-222222222222").event
    assert lease_name(same, diarizer) == name
    assert lease_name(same.model_copy(update={"tenant": "other"}), diarizer) != name
    assert lease_name(same.model_copy(update={"sha256": ""}), diarizer) != name


async def test_what_is_not_what_was_announced_is_never_listened_to(blobs):
    diarizer = FakeDiarizer()
    with pytest.raises(BlobMismatch):
        await run(blobs, diarizer, sha256="0" * 64)
    blobs.stored[KEY] = (AUDIO * 1000, blobs.stored[KEY][1])
    with pytest.raises(LimitExceeded):
        await run(blobs, diarizer)
    assert diarizer.asked == []


@pytest.mark.parametrize(
    ("metadata", "count"),
    [
        ({}, TERMS.count),
        ({"num_speakers": "3"}, SpeakerCount(3)),
        ({"min_speakers": "2", "max_speakers": "4"}, SpeakerCount(0, 2, 4)),
        ({"min_speakers": "2"}, SpeakerCount(0, 2, 0)),
        ({"min_speakers": "5", "max_speakers": "2"}, TERMS.count),
        ({"num_speakers": "many"}, SpeakerCount()),
        ({"num_speakers": "101"}, TERMS.count),
        ({"num_speakers": "-1", "max_speakers": "9" * 400}, SpeakerCount()),
        ({"num_speakers": "٣"}, SpeakerCount(3)),
    ],
)
def test_how_many_speak_is_taken_from_the_upload_where_it_makes_sense(metadata, count):
    assert speaker_count(delivery(metadata=metadata).event, TERMS.count) == count


async def test_an_engine_that_dies_three_times_gives_the_recording_up_and_its_job_says_so(tmp_path, monkeypatch):
    """Through the host: counted, dead-lettered with the reason, and a failed line for its stage."""
    bench, event = await _bench(
        tmp_path, FakeDiarizer(UnitCrashed("The diarizer died of signal SIGKILL.")), monkeypatch
    )
    await bench.process(record_of(event, 0, AUDIO_UPLOADED))
    (letter,) = bench.producer.of("audio.uploaded.dlq")
    assert letter.header("earshot-stage") == SPEAKER_STAGE
    (said,) = [
        Codec().decode(RECORDINGS_PROGRESS, each.value or b"") for each in bench.producer.of("recordings.progress")
    ]
    assert isinstance(said, StageProgressed)
    assert (said.stage, said.index, said.state, said.code) == (SPEAKER_STAGE, None, "failed", "unit_crashed")
    assert bench.acked == [0]


async def test_what_the_engine_cannot_handle_does_not_block_the_next(tmp_path, monkeypatch):
    bench, event = await _bench(tmp_path, FakeDiarizer(EngineRejected("Nothing it can do."), diarized()), monkeypatch)
    await bench.process(record_of(event, 0, AUDIO_UPLOADED))
    await bench.process(record_of(event, 1, AUDIO_UPLOADED))
    assert len(bench.producer.of("audio.uploaded.dlq")) == 1
    assert len(bench.producer.of("audio.speakers")) == 1
    assert bench.acked == [0, 1]


async def _bench(
    tmp_path: Path, diarizer: FakeDiarizer, monkeypatch: pytest.MonkeyPatch
) -> tuple[Bench, AudioUploaded]:
    """The stage as it is wired, with another engine in its place."""
    monkeypatch.setenv("EARSHOT_DIARIZER__ENGINE", "off")
    kit = Kit(Settings(_env_file=None, data=tmp_path))
    stage, leases, blobs = create_stage(kit), FakeLeases(), FakeBlobs()
    await blobs.put(KEY, AUDIO)
    event = delivery(revision=1).event

    def work(batch: Any) -> Any:
        return diarize(batch, blobs, diarizer, leases, TERMS)

    return Bench(replace_work(stage, work)), event


def replace_work(stage: Any, work: Any) -> Any:
    return type(stage)(**{**vars(stage), "work": work})


async def test_while_it_is_off_only_those_who_wait_for_it_are_told(tmp_path):
    catalog = await new_catalog(tmp_path)
    try:
        waits, never = await accepted(catalog), await accepted(catalog)
        await catalog.record([progressed(waits, SPEAKER_STAGE, None, "pending")])
        batch = [delivery(tenant="default", recording_id=each.job.recording_id, revision=1) for each in (waits, never)]
        [output] = [output async for output in pass_over(batch, catalog, "It is switched off.")]
        said = output.event
        assert isinstance(said, StageProgressed)
        assert (said.recording_id, said.state, said.code) == (waits.job.recording_id, "done", "diarization_off")
        assert said.detail == "Diarization is off. It is switched off."
    finally:
        await catalog.close()


async def test_it_is_off_for_a_reason_that_says_how_to_turn_it_on():
    async with DiarizerProcess(DiarizerEngineSettings(_env_file=None, engine="off")) as diarizer:
        assert diarizer.off == "It is switched off. Set EARSHOT_DIARIZER__ENGINE to auto."


@pytest.mark.parametrize("installed", [False, True])
async def test_without_the_extra_or_the_model_it_is_off_or_refuses_to_start(installed, tmp_path, monkeypatch):
    """auto is off and says so; asked for by name, what is missing stops it, or makes it wait."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("EARSHOT_TRANSCRIBER__HUB", "off")
    if installed:
        (tmp_path / "pyannote").mkdir()
        (tmp_path / "pyannote" / "audio.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
    asked = DiarizerEngineSettings(_env_file=None, engine="pyannote", model="nobody/nothing")
    async with DiarizerProcess(asked.model_copy(update={"engine": "auto"})) as diarizer:
        assert "earshot[diarization]" in diarizer.off or "EARSHOT_DIARIZER__MODEL" in diarizer.off
    with pytest.raises((Misconfigured, Unavailable)):
        find(asked)


def test_the_log_waits_as_long_as_the_longest_recording_may_take(tmp_path, monkeypatch):
    """Nothing is fetched meanwhile, and a consumer that does not fetch is taken for dead."""
    monkeypatch.setenv("EARSHOT_DIARIZER__ENGINE", "off")
    settings = Settings(_env_file=None, data=tmp_path)
    stage = create_stage(Kit(settings))
    assert stage.deadline_s == longest(DiarizerEngineSettings(_env_file=None)) > 4 * 3600

    async def arrive(*_: Any) -> None:
        return None

    app = build_app(stage, settings, WorkerSettings(_env_file=None), tmp_path, arrive)
    assert app.conf.broker_max_poll_interval > 3 * stage.deadline_s
