"""Which engine is chosen and why, and that the fallback hears exactly what the bare engine hears."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from earshot.adapters import engine_process, engines, flac, known_models
from earshot.adapters.engines import EngineSettings, Spec, chain
from earshot.adapters.faster_whisper import words_of
from earshot.adapters.pocketsphinx import PocketSphinx, _word
from earshot.adapters.simulated import Simulated
from earshot.kernel.errors import LimitExceeded, Misconfigured, NotAudio, Unavailable
from earshot.kernel.ports import Clip
from tests.audio import RATE, silence
from tests.fakes_speech import clip, encoded, in_order, sentence, sha256, tone

SENTENCES = ("0880", "0930")
CLIP = Clip(b"", 5000, 9000)
times = st.floats(-1, 10, allow_nan=False)


def settings(**fields) -> EngineSettings:
    return EngineSettings(**({"hub": "off"} | fields), _env_file=None)


@pytest.fixture(scope="module")
def fallback() -> PocketSphinx:
    return PocketSphinx("as asked")


def bare(samples) -> tuple[str, list[float]]:
    """What pocketsphinx alone says, and how sure it is: its documented loop, a decoder that has heard nothing yet."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16000, loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr, [min(item.prob, 1.0) for item in decoder.seg() if item.word[0] not in "<["]


def test_the_fallback_hears_what_the_bare_engine_hears_in_any_order(fallback):
    """One decoder serves all clips; nothing of one may be left when the next is heard, not even in how sure it is."""
    alone = [bare(sentence(name)) for name in SENTENCES]
    clips = [clip(sentence(name)) for name in SENTENCES]
    heard = fallback.recognize([*clips, clips[0]])
    assert [(item.text, [word.confidence for word in item.words]) for item in heard] == [*alone, alone[0]]


@pytest.mark.parametrize(("language", "known"), [("", True), ("en", True), ("en-GB", True), ("de", False)])
def test_speech_declared_in_a_language_the_fallback_does_not_know_says_so(fallback, language, known):
    (heard,) = fallback.recognize([clip(sentence("0880")[:RATE], language=language)])
    assert heard.engine.degraded
    assert ("English only" not in heard.engine.reason) == known
    assert heard.engine.reason.endswith("as asked")
    assert heard.language == ("en" if known else language)


def test_the_fallback_says_which_wishes_it_does_not_listen_to(fallback):
    plain = clip(sentence("0880")[:RATE])
    wished = replace(plain, hotwords="Dashwood", prompt="A novel.", task="translate", language="de")
    plain, wished = (only.engine.reason for only in fallback.recognize([plain, wished]))
    assert plain == "as asked"
    assert "pocketsphinx does not listen to hotwords, a prompt, translation." in wished


def test_the_fallback_is_named_with_a_digest_of_its_weights(fallback):
    assert (fallback.engine.name, fallback.engine.model, fallback.engine.device) == ("pocketsphinx", "en-us", "cpu")
    assert len(fallback.engine.digest) == 64


@pytest.mark.parametrize("samples", [1, 100, 1000])
def test_a_moment_without_speech_is_an_empty_text(fallback, samples):
    assert fallback.recognize([clip(silence(1)[:samples])])[0].words == []


@pytest.mark.parametrize("word", ["<s>", "</s>", "<sil>", "[NOISE]", "[SPEECH]", "++BREATH++"])
def test_what_is_no_word_is_left_out(word):
    assert _word(SimpleNamespace(word=word), CLIP) is None


@given(times, times, st.floats(0, 1.5))
def test_a_word_of_the_fallback_lies_inside_its_clip(start, length, probability):
    first = max(int(start * 100), 0)
    segment = SimpleNamespace(
        word="read(2)", start_frame=first, end_frame=first + max(int(length * 100), 0), prob=probability
    )
    word = _word(segment, CLIP)
    assert word.text == "read"
    assert in_order([word], CLIP.start_ms, CLIP.end_ms)
    assert 0 <= word.confidence <= 1


@given(st.lists(st.tuples(st.sampled_from([" word", "", " "]), times, times, st.floats(-0.5, 1.5))), times, times)
def test_words_of_faster_whisper_lie_in_order_inside_their_clip(heard, start, end):
    """Also where it measured no times for some of the words: those are spread, and none is lost."""
    words = [SimpleNamespace(word=w, start=s, end=e, probability=p) for w, s, e, p in heard]
    measured = SimpleNamespace(words=words, text="".join(w for w, *_ in heard), start=0, end=1)
    partly = SimpleNamespace(words=words[:1], text="word word word", start=start, end=end)
    found = words_of([measured, partly, SimpleNamespace(words=None, text="", start=3, end=3)], CLIP)
    assert in_order(found, CLIP.start_ms, CLIP.end_ms)
    assert len(found) == sum(1 for w, *_ in heard if w.strip()) + 3
    assert all(word.text == "word" and 0 <= (word.confidence or 0) <= 1 for word in found)


def model_in(folder):
    """What looks like a model, and cannot be loaded."""
    folder.mkdir(exist_ok=True)
    for name in known_models.NEEDED:
        (folder / name).write_bytes(b"{}")
    return folder


def names(**fields) -> list[str]:
    return [str(spec) for spec in chain(settings(**fields))]


def test_the_chain_suits_the_device():
    assert names(device="cpu") == names(device="cpu", engine="faster-whisper") == ["base on cpu", "pocketsphinx"]
    big = ["large-v3 on cuda", "turbo on cuda", "medium on cuda"]
    assert names(device="cuda") == [*big, "base on cpu", "pocketsphinx"]


def test_one_engine_or_one_model_may_be_asked_for():
    assert names(device="cpu", model="small") == ["small on cpu", "pocketsphinx"]
    assert names(device="cuda", model="owner/name") == ["owner/name on cuda", "pocketsphinx"]
    assert names(engine="pocketsphinx") == ["pocketsphinx"]
    assert names(engine="simulated") == ["simulated"]
    assert names(engine="a.b:C", device="cpu") == ["a.b:C on cpu"]
    assert names(engine="remote", remote_url="http://127.0.0.1:1/v1") == ["remote"]


def test_a_chain_is_written_with_commas_from_best_to_last_resort():
    said = "large-v3@cuda, remote ,a.b:C@cuda,/models/mine@cpu,small,pocketsphinx"
    found = chain(settings(chain=said, device="cpu", remote_url="http://127.0.0.1:1/v1"))
    assert [(spec.name, spec.device) for spec in found] == [
        ("large-v3", "cuda"),
        ("remote", "remote"),
        ("a.b:C", "cuda"),
        ("/models/mine", "cpu"),
        ("small", "cpu"),
        ("pocketsphinx", "cpu"),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"chain": "base", "engine": "pocketsphinx"},
        {"chain": "base", "model": "tiny"},
        {"chain": "remote"},
        {"engine": "remote"},
        {"engine": "whisper.cpp"},
        {"chain": ","},
    ],
)
def test_what_contradicts_itself_is_refused_at_the_start(fields):
    with pytest.raises(ValidationError):
        settings(**fields)


@pytest.mark.parametrize("engine", ["auto", "faster-whisper"])
async def test_without_a_model_the_fallback_says_why_and_how_to_get_the_real_one(engine, tmp_path):
    async with engines.recognizer(settings(engine=engine, model_dir=tmp_path, device="cpu")) as started:
        assert (started.engine.name, started.engine.degraded) == ("pocketsphinx", True)
        reason = started.engine.reason
    assert "base on cpu does not do the work" in reason
    assert "`earshot models pull base`" in reason
    assert "Traceback" not in reason
    assert "\n" not in reason


def test_a_model_at_hand_is_used_with_what_suits_the_device(tmp_path):
    model_in(tmp_path / "base")
    plan = engines._plan(settings(model_dir=tmp_path), Spec("base", "cpu"), alone=False, download=False)
    assert plan.target.endswith(":FasterWhisper")
    assert (plan.arguments["folder"], plan.arguments["compute_type"]) == (str(tmp_path / "base"), "int8")
    assert engines._faster_whisper(settings(), Spec("base", "cuda"), tmp_path).arguments["compute_type"] == "float16"


async def test_a_card_that_is_not_there_is_said(tmp_path):
    """Where one was asked for, or where there should be one."""
    model_in(tmp_path / "base")
    async with engines.recognizer(settings(chain="base@cuda,pocketsphinx", model_dir=tmp_path)) as started:
        assert started.engine.name == "pocketsphinx"
        assert re.search("no CUDA device|cannot load", started.engine.reason)


async def test_a_model_that_cannot_be_loaded_is_left_for_the_fallback_with_the_next_step(tmp_path):
    model_in(tmp_path)
    async with engines.recognizer(settings(model_dir=tmp_path, device="cpu")) as started:
        assert started.engine.name == "pocketsphinx"
        assert re.search(r"cannot load.*EARSHOT_TRANSCRIBER__", started.engine.reason)


async def test_alone_a_model_that_cannot_be_loaded_stops_the_worker(tmp_path):
    model_in(tmp_path)
    with pytest.raises(Misconfigured, match=r"cannot load.*EARSHOT_TRANSCRIBER__"):
        async with engines.recognizer(settings(chain="base@cpu", model_dir=tmp_path)):
            pass


def test_a_download_is_left_to_the_background_while_segments_wait(tmp_path):
    with pytest.raises(Unavailable, match="fetched in the background"):
        engines._plan(settings(model_dir=tmp_path), Spec("base", "cpu"), alone=False, download=False)


def test_the_simulated_engine_says_that_its_words_are_made_up():
    engine = Simulated(0.0)
    one, same, other = engine.recognize([clip(tone()), clip(tone(), 1000), clip(tone(hertz=500))])
    assert one.text == same.text != other.text
    assert one.engine.degraded
    assert "Nothing was recognised" in one.engine.reason
    assert in_order(same.words, 1000, 2000)


def test_a_call_may_take_longer_the_more_audio_it_has():
    assert engine_process.deadline(60, 5.0) == engine_process.BASE_DEADLINE_S + 300


def test_the_digest_is_of_the_samples():
    assert flac.digest(encoded(tone())) == sha256(tone())


def test_a_segment_that_never_ends_is_refused():
    with pytest.raises(LimitExceeded):
        flac.samples(encoded(silence(flac.MAX_SECONDS + 1)))
    with pytest.raises(NotAudio):
        flac.samples(encoded(tone())[:60])
