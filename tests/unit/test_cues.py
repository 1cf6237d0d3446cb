"""What holds for every transcript that is shown, whatever the words are."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.query.cues import Missing, as_json, as_srt, as_text, as_vtt, cues

ENGINE = Engine.model_validate({"name": "test"})
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)
SPEAKERS = st.sampled_from([None, "Ann", "<b>&\n-->"])


@st.composite
def words(draw: st.DrawFn) -> Word:
    start = draw(st.integers(0, 60_000))
    return Word(
        text=draw(TEXT),
        start_ms=start,
        end_ms=start + draw(st.integers(0, 20_000)),
        confidence=None,
        speaker=draw(SPEAKERS),
    )


@st.composite
def segments(draw: st.DrawFn) -> SegmentTranscribed:
    start = draw(st.integers(0, 100_000))
    return segment(
        draw(TEXT),
        start,
        start + draw(st.integers(0, 30_000)),
        words=draw(st.lists(words(), max_size=30)),
        speaker=draw(SPEAKERS),
    )


def segment(text: str, start_ms: int, end_ms: int, **fields: object) -> SegmentTranscribed:
    values = {"recording_id": "r", "index": 0, "text": text, "start_ms": start_ms, "end_ms": end_ms, "engine": ENGINE}
    return SegmentTranscribed.model_validate(values | fields)


def letters(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", "", text)


@given(st.lists(segments(), max_size=4))
@settings(max_examples=150, deadline=None)
def test_every_cue_fits_the_limits_in_order_and_no_word_is_lost(given_segments):
    made = cues(given_segments)
    for cue in made:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 for line in cue.lines)
        assert 0 < cue.end_ms - cue.start_ms <= 6000
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(made))
    said = "".join(letters("".join(w.text for w in s.words) if s.words else s.text) for s in given_segments)
    assert letters("".join("".join(cue.lines) for cue in made)) == said


@given(st.lists(segments(), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_subtitle_file_has_exactly_one_timing_line_a_cue(given_segments):
    count = len(cues(given_segments))
    assert len(re.findall("-->", as_srt(given_segments))) == count
    vtt = as_vtt(given_segments)
    assert len(re.findall("-->", vtt)) == count
    assert vtt.startswith("WEBVTT\n\n") or not count


def test_a_cue_begins_and_ends_with_its_words():
    said = [
        Word(text=text, start_ms=at, end_ms=at + 300, confidence=None, speaker=None)
        for text, at in [("And", 1000), ("so", 1400), ("my", 9000), ("fellow", 9400)]
    ]
    made = cues([segment("And so my fellow", 0, 11_000, words=said)])
    assert [(cue.start_ms, cue.end_ms, cue.lines) for cue in made] == [
        (1000, 1700, ("And so",)),
        (9000, 9700, ("my fellow",)),
    ]


def test_a_change_of_speaker_begins_a_cue_with_a_voice_tag():
    vtt = as_vtt([segment("Hello", 0, 900, speaker="Ann"), segment("Hi <there>", 1000, 2000, speaker="Bob & Co")])
    assert "<v Ann>Hello" in vtt
    assert "<v Bob Co>Hi &lt;there&gt;" in vtt


def test_webvtt_is_read_back_by_another_reader(tmp_path):
    webvtt = pytest.importorskip("webvtt")
    path = tmp_path / "said.vtt"
    path.write_text(as_vtt([segment("Ask not what", 0, 1500, speaker="JFK"), segment("you can do", 61_000, 62_500)]))
    read = webvtt.read(str(path))
    assert [(caption.start, caption.text, caption.voice) for caption in read] == [
        ("00:00:00.000", "Ask not what", "JFK"),
        ("00:01:01.000", "you can do", None),
    ]


def test_gaps_are_marked_where_they_are():
    gap = Missing(1000, 2000, "engine_rejected", 1)
    before, after = segment("one", 0, 1000), segment("three", 2000, 3000, index=2)
    shown = as_json("r", 1, "", 3000, [before, after], [gap])
    assert [item.get("missing", False) for item in shown["segments"]] == [False, True, False]
    assert shown["segments"][1] == {
        "index": 1,
        "start_ms": 1000,
        "end_ms": 2000,
        "missing": True,
        "error": "engine_rejected",
    }
    assert as_text([before, after], [gap]).splitlines()[1].startswith("[missing 00:00:01.000")


def test_a_translation_has_the_language_it_is_in_and_says_what_was_spoken():
    """Whatever language the upload was declared in; anything else has no such field."""
    translated = segment("one", 0, 1000, language="en", translated_from="de")
    shown = as_json("r", 1, "de", 1000, [translated])
    assert (shown["language"], shown["translated_from"]) == ("en", "de")
    plain = as_json("r", 1, "de", 1000, [segment("eins", 0, 1000, language="de")])
    assert plain["language"] == "de"
    assert "translated_from" not in plain
