"""Turns laid over words and passages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.kernel.events import Engine, SegmentTranscribed, Turn, Word
from earshot.kernel.speakers import LEAST_MS, TOLERANCE_MS, Timeline, Voices
from tests.fakes_speakers import found, turn

CALL = Path(__file__).resolve().parents[3] / "shared" / "audio" / "two_speakers.rttm"
TURNS = st.lists(
    st.builds(
        lambda speaker, start, length: turn(speaker, start, start + length),
        st.sampled_from("ABC"), st.integers(0, 5000), st.integers(0, 2000),
    ),
    max_size=12,
)  # fmt: skip


def segment(*words: tuple[str, int, int], revision: int = 1, text: str = "") -> SegmentTranscribed:
    spoken = [Word(text=text, start_ms=start, end_ms=end, confidence=None, speaker=None) for text, start, end in words]
    return SegmentTranscribed(
        recording_id="r", revision=revision, index=0, start_ms=0, end_ms=10_000,
        text=text or " ".join(word.text for word in spoken), words=spoken, engine=Engine(name="test"),
    )  # fmt: skip


def slow_at(turns: list[Turn], ms: float) -> set[str | None]:
    """Who may be said to speak at a moment, by looking at every turn."""
    real = [turn for turn in turns if turn.end_ms > turn.start_ms]
    speaking = [turn for turn in real if turn.start_ms <= ms < turn.end_ms]
    if speaking:
        latest = max(turn.start_ms for turn in speaking)
        return {turn.speaker for turn in speaking if turn.start_ms == latest}
    distances = {turn: min(abs(turn.start_ms - ms), abs(turn.end_ms - ms)) for turn in real}
    nearest = min(distances.values(), default=TOLERANCE_MS + 1)
    if nearest > TOLERANCE_MS:
        return {None}
    return {turn.speaker for turn, distance in distances.items() if distance == nearest}


@settings(deadline=None)
@given(TURNS, st.floats(0, 8000))
def test_a_moment_belongs_to_whoever_began_last_or_is_nearest(turns, ms):
    assert Timeline(turns).at(ms) in slow_at(turns, ms)


@settings(max_examples=30, deadline=None)
@given(TURNS, st.integers(0, 6000), st.integers(0, 1500), st.randoms())
def test_a_stretch_has_everybody_who_says_more_than_a_word_in_it(turns, start, length, random):
    """Counted millisecond by millisecond; the order in which turns come in does not matter."""
    end = start + length
    spoken = dict.fromkeys("ABC", 0)
    for ms in range(start, end):
        for speaker in {each.speaker for each in turns if each.start_ms <= ms < each.end_ms}:
            spoken[speaker] += 1
    wanted = {speaker for speaker, spent in spoken.items() if spent >= LEAST_MS}
    heard = Timeline(turns).between(start, end)
    assert set(heard) == wanted or (not wanted and len(heard) <= 1)
    assert len(set(heard)) == len(heard)
    random.shuffle(turns)
    assert Timeline(turns).between(start, end) == heard


def test_speakers_of_a_stretch_come_in_the_order_they_speak():
    turns = [turn("B", 0, 2000), turn("A", 1000, 4000), turn("C", 3900, 9000)]
    assert Timeline(turns).between(0, 8000) == ("B", "A", "C")
    assert Timeline(turns).between(3000, 4050) == ("A",)


def test_words_go_by_the_turns_without_overlap_where_there_are_some():
    turns = (turn("A", 0, 5000), turn("B", 1000, 2000))
    said = segment(("well", 100, 300), ("hm", 1400, 1600), ("so", 3000, 3200))
    by_turns = Voices([found("r", *turns)]).label(said)
    assert [word.speaker for word in by_turns.words] == ["A", "B", "A"]
    exclusive = Voices([found("r", *turns, exclusive=[turn("A", 0, 5000)])])
    labelled = exclusive.label(said)
    assert ([word.speaker for word in labelled.words], labelled.speaker) == (["A", "A", "A"], "A")
    assert exclusive.who(1, 900, 2100, ()) == ("A", "B")


def test_a_word_far_from_every_turn_is_nobodys():
    voices = Voices([found("r", turn("A", 0, 1000))])
    labelled = voices.label(segment(("a", 0, 400), ("b", 1300, 1500), ("c", 1500, 1700)))
    assert [word.speaker for word in labelled.words] == ["A", "A", None]
    assert labelled.speaker is None


def test_without_turns_what_a_transcript_says_itself_stays():
    said = segment(("a", 0, 400)).model_copy(update={"speaker": "Ann"})
    assert Voices().label(said) is said
    assert Voices().who(1, 0, 400, ("Ann",)) == ("Ann",)
    assert Voices([], {"Ann": "Dr. Ann"}).shown(said).speaker == "Dr. Ann"


def test_turns_serve_their_own_revision_and_later_ones_without():
    voices = Voices([found("r", turn("new", 0, 1000), revision=3), found("r", turn("old", 0, 1000), revision=1)])
    assert [voices.who(revision, 0, 1000, ("?",)) for revision in (1, 2, 3, 9)] == [
        ("old",),
        ("old",),
        ("new",),
        ("new",),
    ]
    assert Voices([found("r", revision=2)]).who(1, 0, 1000, ("?",)) == ("?",)
    assert Voices([found("r", revision=2)]).who(2, 0, 1000, ("?",)) == ()


def test_a_segment_without_words_has_a_speaker_when_only_one_speaks():
    one, two = turn("A", 0, 10_000), turn("B", 4000, 10_000)
    silent = segment(text="some words that nobody timed")
    assert Voices([found("r", one)]).label(silent).speaker == "A"
    assert Voices([found("r", one, two)]).label(silent).speaker is None
    assert Voices([found("r", one, two)]).label(silent).words == []


def test_names_stand_for_labels_and_two_labels_may_have_one():
    voices = Voices([found("r", turn("A", 0, 1000), turn("B", 1000, 2000))], {"A": "Ada", "B": "Ada"})
    shown = voices.shown(segment(("a", 0, 900), ("b", 1000, 1900)))
    assert [word.speaker for word in shown.words] == ["Ada", "Ada"]
    assert voices.named(["A", "B", "C"]) == ["Ada", "C"]


@pytest.mark.skipif(not CALL.exists(), reason="the phone call does not come with the repository")
def test_a_real_phone_call_is_told_apart_word_for_word():
    """Made-up words, one every 200 ms: each has the speaker of the reference wherever only one speaks."""
    lines = [line.split() for line in CALL.read_text().splitlines()]
    turns = [
        turn(line[7], round(float(line[3]) * 1000), round((float(line[3]) + float(line[4])) * 1000)) for line in lines
    ]
    end = max(turn.end_ms for turn in turns)
    said = segment(*(("w", ms, ms + 200) for ms in range(0, end, 200)))
    labelled = Voices([found("r", *turns)]).label(said)
    clear = 0
    for word in labelled.words:
        middle = (word.start_ms + word.end_ms) / 2
        speaking = {turn.speaker for turn in turns if turn.start_ms <= middle < turn.end_ms}
        if len(speaking) == 1:
            clear += 1
            assert word.speaker in speaking
    assert clear > len(said.words) / 2
    assert set(Timeline(turns).between(0, end)) == {turn.speaker for turn in turns}
