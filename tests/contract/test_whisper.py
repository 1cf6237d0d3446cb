"""faster-whisper with a model that truly hears six clips: right words, whatever they share a batch with."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from earshot.adapters.blobs import ObstoreBlobs
from earshot.adapters.decoder import IsolatedDecoder
from earshot.adapters.faster_whisper import FasterWhisper
from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentCut
from earshot.kernel.ports import Clip, CutSegment, Recognized
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.transcriber.app import create_stage
from tests.audio import JFK, RATE
from tests.fakes_speech import clip, in_order
from tests.tiny_whisper import BACKWARDS, MODEL, Spoken, spoken

NAME, HEARD_AS = "Dashwood", "dashwood"


def engine(batch_size: int) -> FasterWhisper:
    return FasterWhisper("tiny", str(MODEL), "cpu", "int8", 1, batch_size)


@pytest.fixture(scope="module")
def whisper() -> FasterWhisper:
    return engine(16)


def clips_of(items: list[Spoken], **wished) -> list[Clip]:
    return [replace(clip(item.samples, 1000 * place), **wished) for place, item in enumerate(items)]


def noise(seconds: float, level: float = 1500.0) -> Clip:
    return clip(np.random.default_rng(1).normal(0, level, int(seconds * RATE)).astype(np.int16))


def test_every_clip_is_heard_word_for_word_and_its_language_with_it(whisper):
    """Both languages in one call, none of them declared."""
    items = [item for one in spoken() for item in (one, one.backwards())]
    heard = whisper.recognize(clips_of(items))
    assert [result.text for result in heard] == [item.text for item in items]
    assert [result.language for result in heard] == ["en", BACKWARDS] * len(spoken())
    assert not any(result.engine.degraded or result.translated_from for result in heard)


def test_a_batch_of_different_recordings_gives_what_each_gives_alone(whisper):
    """Languages, tasks, wishes, silence and noise mixed, in three orders: texts, words and times are the same."""
    english, foreign = list(spoken()), [item.backwards() for item in spoken()]
    mixed = clips_of(english, language="en") + clips_of(foreign) + clips_of(foreign[:2], task="translate")
    mixed += [*clips_of(english[:2], hotwords=NAME), noise(3), clip(np.zeros(5 * RATE, np.int16))]
    alone = {id(item): only(whisper, item) for item in mixed}
    for seed, size in enumerate((3, 16, 64)):
        random.Random(seed).shuffle(mixed)
        together = engine(size).recognize(mixed)
        assert [nearly(result) for result in together] == [nearly(alone[id(item)]) for item in mixed]


def only(whisper: FasterWhisper, item: Clip) -> Recognized:
    (result,) = whisper.recognize([item])
    return result


def nearly(result: Recognized) -> tuple:
    """All of a result; how sure it is, to three places."""
    words = [(word.text, word.start_ms, word.end_ms, round(word.confidence, 3)) for word in result.words]
    return result.text, words, result.language, result.translated_from, result.engine


@pytest.mark.parametrize("item", spoken(), ids=lambda item: item.name)
def test_words_are_where_another_engine_finds_them(whisper, item):
    """pocketsphinx, told the text, aligns it too: half of the words start within 0.25 s, nine of ten within 0.5 s.

    A pause between two words may go to either, so a word may lie further off.
    """
    (heard,) = whisper.recognize([clip(item.samples, start_ms=60_000)])
    assert [word.text for word in heard.words] == item.text.split()
    assert in_order(heard.words, 60_000, 60_000 + len(item.samples) * 1000 // RATE)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(heard.words))
    apart = sorted(abs(word.start_ms - 60_000 - start) for word, start in zip(heard.words, aligned(item), strict=True))
    assert apart[len(apart) // 2] <= 250, apart
    assert apart[len(apart) * 9 // 10 - 1] <= 500, apart


def aligned(item: Spoken) -> list[int]:
    """When each word starts, by pocketsphinx."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL", bestpath=False)
    if decoder.lookup_word(HEARD_AS) is None:
        decoder.add_word(HEARD_AS, "D AE SH W UH D", True)
    decoder.set_align_text(item.text)
    decoder.start_utt()
    decoder.process_raw(item.samples.tobytes(), full_utt=True)
    decoder.end_utt()
    return [found.start_frame * 10 for found in decoder.seg() if found.word[0] not in "<["]


@pytest.mark.parametrize("wished", [{"hotwords": f"Ferrars {NAME}"}, {"prompt": f"and {NAME}"}, {"hotwords": "man"}])
def test_hotwords_and_a_prompt_are_listened_to(whisper, wished):
    (item,) = [item for item in spoken() if HEARD_AS in item.text]
    (heard,) = whisper.recognize(clips_of([item], **wished))
    expected = item.text.replace(HEARD_AS, NAME) if NAME in str(wished) else item.text
    assert heard.text == expected


def test_speech_is_translated_into_english_and_says_from_what(whisper):
    foreign = [item.backwards() for item in spoken()]
    for declared in ("", BACKWARDS):
        heard = whisper.recognize(clips_of(foreign, task="translate", language=declared))
        assert [result.text for result in heard] == [item.text for item in spoken()]
        assert {(result.language, result.translated_from) for result in heard} == {("en", BACKWARDS)}


def test_english_that_is_to_be_translated_is_a_transcript(whisper):
    (heard,) = whisper.recognize(clips_of([spoken()[1]], task="translate"))
    assert (heard.text, heard.language, heard.translated_from) == (spoken()[1].text, "en", "")


def test_a_model_that_was_not_trained_to_translate_says_that_it_did_not():
    turbo = FasterWhisper("large-v3-turbo", str(MODEL), "cpu", "int8", 1)
    (heard,) = turbo.recognize(clips_of([spoken()[1].backwards()], task="translate"))
    assert (heard.language, heard.translated_from, heard.engine.degraded) == (BACKWARDS, "", True)
    assert "EARSHOT_TRANSCRIBER__MODEL" in heard.engine.reason


def test_a_language_that_nobody_knows_is_detected_and_that_is_said(whisper):
    (heard,) = whisper.recognize(clips_of([spoken()[1]], language="tlh"))
    assert (heard.text, heard.language, heard.engine.degraded) == (spoken()[1].text, "en", True)


@pytest.mark.parametrize("samples", [1, 159, 1000, RATE, 29 * RATE])
def test_silence_of_any_length_has_no_words(whisper, samples):
    (heard,) = whisper.recognize([clip(np.zeros(samples, np.int16))])
    assert (heard.text, heard.words) == ("", [])


def test_noise_has_no_words(whisper):
    assert [result.text for result in whisper.recognize([noise(1), noise(3)])] == ["", ""]


def test_words_to_expect_may_be_more_than_the_model_can_take_in(whisper):
    (heard,) = whisper.recognize(clips_of([spoken()[1]], hotwords="xyz " * 250, prompt="é" * 1000))
    assert heard.engine == whisper.engine


async def test_the_stage_transcribes_what_the_decoder_cut(tmp_path, monkeypatch):
    """Three recordings, one batch, the engine in a process of its own, the real decoder, catalog and store."""
    monkeypatch.setenv("EARSHOT_TRANSCRIBER__MODEL", str(MODEL))
    monkeypatch.setenv("EARSHOT_TRANSCRIBER__DEVICE", "cpu")
    kit = Kit(Settings(data=tmp_path))
    await kit.catalog.migrate()
    stage = create_stage(kit)
    batch = [await delivery(kit.blobs, number) for number in range(3)]
    async with stage.resources():
        outputs = [output async for output in stage.work(batch)]
    await kit.catalog.close()
    events = [output.event for output in outputs if output.topic == AUDIO_TRANSCRIPTS]
    (said,) = {event.text for event in events}
    assert said == next(item.text for item in spoken() if item.name == JFK.name)
    assert [event.recording_id for event in events] == [item.event.recording_id for item in batch]
    assert not any(event.engine.degraded for event in events)


async def delivery(blobs: ObstoreBlobs, number: int) -> Delivery[SegmentCut]:
    """A segment of a recording of its own."""
    (piece,) = [piece async for piece in IsolatedDecoder().cut(JFK) if isinstance(piece, CutSegment)]
    recording = f"6f3c1c1e-0000-4000-8000-{number:012d}"
    key = f"t/recordings/{recording}/1/segments/000000.flac"
    await blobs.put(key, piece.flac)
    event = SegmentCut(
        tenant="t", recording_id=recording, index=0, start_ms=0, end_ms=piece.end_ms,
        uri=blobs.uri(key), sha256=piece.sha256,
    )  # fmt: skip
    return Delivery(event, Record("audio.segments", b"k", b"v"))
