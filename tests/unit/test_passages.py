"""Cutting segments into passages."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.embedder.passages import Cut, cut
from earshot.kernel.events import Engine, SegmentTranscribed, Word

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
times = st.integers(0, 40_000)
words = st.builds(
    lambda text, start, length, speaker: Word(text=text, start_ms=start, end_ms=start + length, speaker=speaker),
    texts, times, st.integers(0, 5000), st.sampled_from([None, "A", "B"]),
)  # fmt: skip


def segment(said: list[Word] | None = None, text: str | None = None, **fields: object) -> SegmentTranscribed:
    said = said or []
    spoken = " ".join(word.text for word in said) if text is None else text
    about = {"recording_id": "r", "index": 0, "start_ms": 1000, "end_ms": 31_000, "engine": Engine(name="test")}
    return SegmentTranscribed.model_validate(about | {"text": spoken, "words": said} | fields)


def spoken(text: str, *, pauses: dict[str, int] | None = None) -> list[Word]:
    """Words of 200 ms with 50 ms between; a word named in ``pauses`` is followed by a longer one."""
    made, at = [], 1000
    for word in text.split():
        made.append(Word(text=word, start_ms=at, end_ms=at + 200))
        at += 250 + (pauses or {}).get(word, 0)
    return made


def ends(cuts: list[Cut]) -> list[str]:
    return [piece.text.split()[-1] for piece in cuts]


@settings(deadline=None)
@given(st.lists(words, max_size=120), st.integers(1, 40), st.integers(0, 40))
def test_every_word_is_in_a_passage_in_order_and_in_time(said: list[Word], most: int, shared: int) -> None:
    """Whatever the words and the sizes: nothing lost, nothing moved, no passage too long or outside its segment."""
    said = [word.model_copy(update={"text": f"{at}:{word.text}"}) for at, word in enumerate(said)]
    whole = segment(said)
    cuts = cut(whole, most, shared)
    assert cuts == cut(whole, most, shared)
    reached = 0
    for piece in cuts:
        places = [int(word.split(":")[0]) for word in piece.text.split()]
        assert places == list(range(places[0], places[-1] + 1))
        assert len(places) <= most
        assert places[0] <= reached <= places[-1]
        assert whole.start_ms <= piece.start_ms <= piece.end_ms <= whole.end_ms
        reached = places[-1] + 1
    assert reached == len(said)


@settings(deadline=None)
@given(st.text(max_size=400), st.integers(1, 20), st.integers(0, 10))
def test_a_text_without_words_is_spread_over_its_segment(text: str, most: int, shared: int) -> None:
    """All of it is in some passage; passages begin with the segment, end with it, and never go back in time."""
    cuts = cut(segment(text=text), most, shared)
    assert bool(cuts) == bool(text.split())
    found = {word for piece in cuts for word in piece.text.split()}
    assert {word for word in text.split() if len(word) <= 40} <= found
    assert [piece.start_ms for piece in cuts] == sorted(piece.start_ms for piece in cuts)
    if cuts:
        assert (cuts[0].start_ms, cuts[-1].end_ms) == (1000, 31_000)


def test_passages_end_with_sentences() -> None:
    said = spoken(
        "We came here. We saw all of it, and it was good. Then we went home again. Nobody knows why. So it is."
    )
    assert ends(cut(segment(said), 14, 0)) == ["good.", "is."]
    assert ends(cut(segment(said), 20, 0)) == ["again.", "is."]


def test_without_punctuation_passages_end_at_the_longest_pause() -> None:
    """As with an engine that gives none."""
    said = spoken("one two three four five six seven eight nine ten", pauses={"four": 600, "seven": 300})
    assert ends(cut(segment(said), 8, 0)) == ["four", "ten"]


def test_a_comma_is_better_than_a_short_pause() -> None:
    said = spoken("one two three four, five six seven eight nine ten", pauses={"six": 300})
    assert ends(cut(segment(said), 8, 0)) == ["four,", "ten"]


def test_another_speaker_begins_another_passage() -> None:
    said = [word.model_copy(update={"speaker": "A" if at < 6 else "B"}) for at, word in enumerate(spoken("w " * 12))]
    cuts = cut(segment(said), 9, 0)
    assert [piece.speakers for piece in cuts] == [("A",), ("B",)]


def test_neighbours_share_words() -> None:
    said = spoken(" ".join(f"w{at}" for at in range(60)))
    cuts = cut(segment(said), 20, 5)
    for one, next_one in pairwise(cuts):
        assert one.text.split()[-5:] == next_one.text.split()[:5]
    assert all(len(piece.text.split()) <= 20 for piece in cuts)


def test_a_script_without_spaces_keeps_none() -> None:
    """Words that stand together in the text stand together in the passage; a line without words is cut."""
    said = [
        Word(text=word, start_ms=1000 + at, end_ms=1001 + at) for at, word in enumerate(["今日", "は", "晴れ", "です"])
    ]
    assert [piece.text for piece in cut(segment(said, text="今日は晴れです"), 10, 0)] == ["今日は晴れです"]
    long = "あ" * 100
    assert "".join(piece.text for piece in cut(segment(text=long), 1, 0)) == long


def test_silence_has_no_passages() -> None:
    assert cut(segment(text="  "), 10, 2) == []
