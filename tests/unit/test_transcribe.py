"""The transcriber over fakes: the cache, the order of writes, what is refused, what is taken back."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from earshot.adapters import flac
from earshot.adapters.wiring import Kit
from earshot.kernel.claims import segment_key
from earshot.kernel.codec import Record
from earshot.kernel.errors import BlobMismatch, BlobMissing, ForeignUri, LimitExceeded, NotAudio
from earshot.kernel.events import SegmentCut, SegmentTranscribed
from earshot.kernel.gate import Verdict
from earshot.kernel.ports import StoredSegment, doubted
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Stale
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, LANES, RECORDINGS_PROGRESS
from earshot.transcriber import cache
from earshot.transcriber.app import create_stage
from earshot.transcriber.recut import cut_again
from earshot.transcriber.retract import retract
from earshot.transcriber.transcribe import MAX_BYTES, transcribe
from tests.fakes_media import FakeBlobs
from tests.fakes_speech import ENGINE, FakeRecognizer, FakeTranscripts, encoded, in_order, sha256, tone

RECORDING = "6f3c1c1e-0000-4000-8000-000000000001"


class World:
    """The verb with everything it works on."""

    def __init__(self) -> None:
        self.blobs, self.transcripts, self.recognizer = FakeBlobs(), FakeTranscripts(), FakeRecognizer()

    def segment(self, index=0, samples=None, **fields) -> Delivery[SegmentCut]:
        """A delivery whose audio is in the store."""
        samples = tone() if samples is None else samples
        about = {"tenant": "t", "recording_id": RECORDING, "revision": 1, "language": "", "sha256": sha256(samples)}
        about |= {"index": index, "start_ms": index * 1000, "end_ms": index * 1000 + 1000} | fields
        key = f"{about['tenant']}/recordings/{RECORDING}/{index}.flac"
        self.blobs.stored[key] = (encoded(samples), None)
        event = SegmentCut(**({"uri": self.blobs.uri(key)} | about))
        return Delivery(event, Record("audio.segments", b"k", b"v"))

    def run(self, *batch):
        return transcribe(batch, self.blobs, self.transcripts, self.recognizer, flac.digest)

    async def events(self, *batch) -> list[SegmentTranscribed]:
        return [out.event async for out in self.run(*batch) if out.topic == AUDIO_TRANSCRIPTS]

    async def retracted(self, verdict, *batch):
        stale = [Stale(delivery, verdict) for delivery in batch]
        if verdict is not Verdict.OVERTAKEN:  # as the catalog does before anybody hears of it
            self.transcripts.hidden |= {(item.event.recording_id, item.event.revision) for item in batch}
        return [out async for out in retract(stale, self.blobs, self.transcripts, self.recognizer)]

    def cached(self) -> list[str]:
        return [key for key in self.blobs.stored if "/transcripts/" in key]


@pytest.fixture
def world():
    return World()


async def test_each_segment_has_a_transcript_and_progress_caused_by_it(world):
    batch = [world.segment(0), world.segment(1, tone(hertz=500))]
    outputs = [out async for out in world.run(*batch)]
    assert [(out.topic, out.cause) for out in outputs] == [
        (topic, delivery) for delivery in batch for topic in (AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS)
    ]
    assert [out.key for out in outputs[::2]] == [f"{RECORDING}:0", f"{RECORDING}:1"]
    assert outputs[1].event.stage == "transcriber"
    assert outputs[0].event.engine == ENGINE
    assert in_order(outputs[2].event.words, 1000, 2000)


async def test_a_batch_is_one_call_of_the_engine(world):
    await world.events(world.segment(0), world.segment(1, tone(hertz=500)))
    assert [len(call) for call in world.recognizer.calls] == [2]


async def test_the_engine_is_told_what_is_wished_and_the_event_says_what_was_spoken(world):
    class Translating(FakeRecognizer):
        def _recognize(self, clip):
            return replace(super()._recognize(clip), language="en", translated_from="de")

    world.recognizer = Translating()
    wished = {"task": "translate", "hotwords": "Dashwood", "prompt": "A novel."}
    first = await world.events(world.segment(language="de", **wished))
    ((clip,),) = world.recognizer.calls
    assert (clip.language, clip.task, clip.hotwords, clip.prompt) == ("de", *wished.values())
    again = await world.events(world.segment(language="de", **wished))
    assert [(event.language, event.translated_from) for event in first + again] == [("en", "de")] * 2


async def test_one_bad_segment_of_a_batch_is_its_error_and_the_engine_is_not_asked(world):
    """However many are fetched at once, what comes out is the error itself."""
    batch = [world.segment(index, tone(hertz=300 + index)) for index in range(20)]
    batch[7] = world.segment(7, uri="memory:///blobs/t/recordings/none.flac")
    with pytest.raises(BlobMissing):
        await world.events(*batch)
    assert not world.recognizer.calls


async def test_the_transcript_is_in_the_catalog_before_its_event_leaves(world):
    outputs = world.run(world.segment())
    first = await anext(outputs)
    (stored,) = world.transcripts.rows.values()
    assert stored == StoredSegment(first.event, world.cached()[0])


async def test_costly_work_is_done_once(world):
    first = await world.events(world.segment())
    assert await world.events(world.segment()) == first
    assert len(world.recognizer.calls) == 1


async def test_the_same_samples_elsewhere_have_the_same_words_at_their_own_times(world):
    early, late = await world.events(world.segment(0), world.segment(5))
    (later,) = await world.events(world.segment(9))
    assert early.text == late.text == later.text
    assert sum(map(len, world.recognizer.calls)) == 1
    for event in (early, late, later):
        assert in_order(event.words, event.start_ms, event.end_ms)
        assert event.words[0].start_ms == event.start_ms


WISHES = {"task": {"task": "translate"}, "hotwords": {"hotwords": "Dashwood"}, "prompt": {"prompt": "A novel."}}


@pytest.mark.parametrize("what", ["options", "engine", "device", "language", "tenant", *WISHES])
async def test_whatever_changes_the_text_is_part_of_the_key(world, what):
    await world.events(world.segment())
    if what == "options":
        world.recognizer.options = {"beam_size": 1}
    if what in ("engine", "device"):
        changed = {"digest": "e"} if what == "engine" else {"device": "cuda"}
        world.recognizer.engine = ENGINE.model_copy(update=changed)
    fields = ({"language": {"language": "de"}, "tenant": {"tenant": "u"}} | WISHES).get(what, {})
    await world.events(world.segment(**fields))
    assert len(world.recognizer.calls) == 2
    assert len(world.cached()) == 2


async def test_who_stores_first_is_right(world):
    """Two workers at once: both events have the text of the one that came first."""

    class Late(FakeBlobs):
        async def put(self, key, data, *, create_only=False):
            if create_only and key not in self.stored:
                await super().put(key, data.replace(b"mine", b"theirs"))
            return await super().put(key, data, create_only=create_only)

    world.blobs, world.recognizer = Late(), FakeRecognizer("mine")
    (event,) = await world.events(world.segment())
    assert event.text == "theirs"


async def test_a_cached_transcript_that_cannot_be_read_is_made_again(world):
    (first,) = await world.events(world.segment())
    world.blobs.stored[world.cached()[0]] = (b'{"text": 1', None)
    assert await world.events(world.segment()) == [first]
    assert await world.events(world.segment()) == [first]
    assert len(world.recognizer.calls) == 2


async def test_nothing_understood_is_a_result(world):
    world.recognizer = FakeRecognizer("")
    (event,) = await world.events(world.segment())
    assert (event.text, event.words) == ("", [])


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"sha256": "0" * 64}, BlobMismatch),
        ({"sha256": "../../u/secrets"}, BlobMismatch),
        ({"uri": "memory:///blobs/t/recordings/none.flac"}, BlobMissing),
        ({"uri": "memory:///blobs/u/recordings/theirs.flac"}, ForeignUri),
        ({"uri": "file:///etc/passwd"}, ForeignUri),
    ],
)
async def test_a_segment_that_is_not_what_it_says_is_refused_before_the_engine_hears_it(world, fields, error):
    with pytest.raises(error):
        await world.events(world.segment(**fields))
    assert not world.recognizer.calls
    assert not world.transcripts.rows


async def test_audio_that_does_not_decode_or_is_too_large_is_refused(world):
    delivery = world.segment()
    key = world.blobs.key("t", delivery.event.uri)
    for content, error in ((b"RIFF", NotAudio), (bytes(MAX_BYTES + 1), LimitExceeded)):
        world.blobs.stored[key] = (content, None)
        with pytest.raises(error):
            await world.events(delivery)


async def test_erased_work_leaves_nothing_and_deletes_the_key(world):
    delivery = world.segment()
    await world.events(delivery)
    (out,) = await world.retracted(Verdict.ERASED, delivery)
    assert (out.topic, out.key, out.event) == (AUDIO_TRANSCRIPTS, f"{RECORDING}:0", None)
    assert not world.cached()


async def test_cancelled_work_gives_way_to_the_attempt_before(world):
    """A cached transcript that another attempt uses stays; the last one's goes with it."""
    before, cancelled = world.segment(), world.segment(revision=2)
    (first,) = await world.events(before)
    await world.events(cancelled)
    (out,) = await world.retracted(Verdict.CANCELLED, cancelled)
    assert out.event == first
    assert world.cached()
    (out,) = await world.retracted(Verdict.CANCELLED, before)
    assert out.event is None
    assert not world.cached()


async def test_overtaken_work_is_followed_by_the_higher_revision_and_never_deletes(world):
    overtaken, higher = world.segment(), world.segment(revision=2)
    await world.events(overtaken)
    assert await world.retracted(Verdict.OVERTAKEN, overtaken) == []
    (last,) = await world.events(higher)
    (out,) = await world.retracted(Verdict.OVERTAKEN, overtaken)
    assert out.event == last
    assert len(world.transcripts.rows) == 2


class Chain(FakeRecognizer):
    """Hears the first clip of a batch with the engine it announced, and the others with the next."""

    async def recognize(self, clips):
        first, *rest = clips
        heard = await super().recognize([first])
        self.engine = ENGINE.model_copy(update={"model": "two", "degraded": True, "reason": "one is gone."})
        self.options = {"of": "two"}
        return [*heard, *(await super().recognize(rest) if rest else [])]


async def test_a_transcript_lies_under_the_key_of_the_engine_that_made_it(world):
    """Also where the engine changed in the middle of a batch: nobody finds it under the name of another."""
    world.recognizer = Chain()
    batch = [world.segment(0), world.segment(1, tone(hertz=500))]
    first, second = await world.events(*batch)
    assert [event.engine.model for event in (first, second)] == ["one", "two"]
    assert {row.cache_key for row in world.transcripts.rows.values()} == set(world.cached())
    world.recognizer = FakeRecognizer()  # one is back
    assert await world.events(batch[0]) == [first]
    assert world.recognizer.calls == []
    (again,) = await world.events(batch[1])
    assert (again.engine.model, len(world.recognizer.calls)) == ("one", 1)


async def test_a_cached_transcript_stands_as_its_engine_stands_now(world):
    """Made as a fallback, it is none when its engine is the first choice; and the other way round."""
    fallback = ENGINE.model_copy(update={"degraded": True, "reason": "The better one is gone."})
    world.recognizer.engine = fallback
    (event,) = await world.events(world.segment())
    assert event.engine == fallback
    world.recognizer.engine = ENGINE
    (event,) = await world.events(world.segment())
    assert event.engine == ENGINE
    world.recognizer.engine = fallback
    (event,) = await world.events(world.segment())
    assert event.engine == fallback
    assert len(world.recognizer.calls) == 1


async def test_what_an_engine_holds_against_a_result_is_cached_with_it(world):
    class Doubting(FakeRecognizer):
        def _recognize(self, clip):
            heard = super()._recognize(clip)
            return replace(heard, engine=doubted(self.engine, "Taken for Dutch."), note="Taken for Dutch.")

    world.recognizer = Doubting()
    first = await world.events(world.segment())
    assert await world.events(world.segment()) == first
    assert (first[0].engine.degraded, first[0].engine.reason) == (True, "Taken for Dutch.")


async def test_erased_work_is_forgotten_whichever_engine_made_it(world):
    delivery = world.segment()
    for model in ("one", "two"):
        world.recognizer.engine = ENGINE.model_copy(update={"model": model})
        await world.events(delivery)
    assert len(world.cached()) == 2
    await world.retracted(Verdict.ERASED, delivery)
    assert not world.cached()


def test_an_engine_with_a_strange_name_has_a_key_like_any_other(world):
    world.recognizer.engine = ENGINE.model_copy(update={"name": "../nvidia/parakeet v2"})
    assert cache.cache_key(world.segment().event, world.recognizer).count("/") == 4


async def test_the_stage_hears_all_lanes_one_segment_at_a_time_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_TRANSCRIBER__ENGINE", "simulated")
    stage = create_stage(Kit(Settings(data=tmp_path)))
    assert set(stage.sources) == set(LANES.values())
    assert stage.costly
    assert stage.batch.max_events == 1
    assert stage.deadline_s > 300
    assert stage.info() == {"chain": [{"engine": "simulated", "state": "standing by", "reason": ""}]}
    async with stage.resources():
        assert stage.info()["engine"]["name"] == "simulated"
        assert [link["state"] for link in stage.info()["chain"]] == ["working"]


def test_a_cache_key_lies_in_the_tenants_folder_and_says_nothing_of_the_language(world):
    event = world.segment(language="x/../..").event
    key = cache.cache_key(event, world.recognizer)
    assert key.startswith(f"t/transcripts/{event.sha256[:2]}/{event.sha256}/fake-")
    assert key.count("/") == 4


class Original:
    """A recording whose original says the same as its segments did; the decoder that cuts them again."""

    def __init__(self, world: World, source_key: str | None = "t/recordings/x/source") -> None:
        self.world, self.source_key = world, source_key
        world.blobs.stored["t/recordings/x/source"] = (b"the whole", None)
        self.spans: list[tuple[int, int]] = []

    async def recording(self, _tenant: str, _recording_id: str):
        return SimpleNamespace(source_key=self.source_key)

    async def span(self, _path, start_ms: int, end_ms: int) -> bytes:
        self.spans.append((start_ms, end_ms))
        return encoded(tone(hertz=440 + start_ms))

    async def again(self, segment: SegmentCut) -> bytes | None:
        return await cut_again(segment, self, self.world.blobs, self, flac.digest)

    async def texts(self, *batch) -> list[str]:
        run = transcribe(
            batch, self.world.blobs, self.world.transcripts, self.world.recognizer, flac.digest, self.again
        )
        return [out.event.text async for out in run if out.topic == AUDIO_TRANSCRIPTS]


def dropped(world: World, index: int) -> Delivery[SegmentCut]:
    """A segment as the segmenter cut it, whose audio was dropped since."""
    samples = tone(hertz=440 + index * 1000)
    delivery = world.segment(index, samples)
    del world.blobs.stored[world.blobs.key("t", delivery.event.uri)]
    uri = world.blobs.uri(segment_key("t", RECORDING, 1, index))
    return replace(delivery, event=delivery.event.model_copy(update={"uri": uri}))


async def test_a_segment_whose_audio_was_dropped_is_cut_again_from_the_original():
    world = World()
    original = Original(world)
    kept, gone = world.segment(0), dropped(world, 1)
    assert len(await original.texts(kept, gone)) == 2
    assert original.spans == [(1000, 2000)]
    assert [clip.start_ms for clip in world.recognizer.calls[0]] == [0, 1000]
    assert not [key for key in world.blobs.stored if "/segments/" in key]  # used once, not stored


async def test_a_decoder_that_has_changed_since_is_no_reason_to_give_up():
    world = World()
    original = Original(world)
    gone = dropped(world, 1)
    gone = replace(gone, event=gone.event.model_copy(update={"sha256": "0" * 64}))
    assert len(await original.texts(gone)) == 1


@pytest.mark.parametrize("why", ["a foreign segment", "too long", "no audio", "no original"])
async def test_what_cannot_be_cut_again_is_missing(why):
    world = World()
    original = Original(world, None if why == "no audio" else "t/recordings/x/source")
    gone = dropped(world, 1)
    if why == "a foreign segment":
        uri = world.blobs.uri(f"t/recordings/{RECORDING}/elsewhere.flac")
        gone = replace(gone, event=gone.event.model_copy(update={"uri": uri}))
    if why == "too long":
        gone = replace(gone, event=gone.event.model_copy(update={"end_ms": 90_000}))
    if why == "no original":
        del world.blobs.stored["t/recordings/x/source"]
    with pytest.raises(BlobMissing):
        await original.texts(gone)
    assert original.spans == []
