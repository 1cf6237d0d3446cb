"""Corrections of words: times that still hold, speakers that stay."""

from __future__ import annotations

from itertools import pairwise

import pytest

from earshot.kernel.errors import Permanent
from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.kernel.revising import MOST_COMPARED, Correction, corrected, realigned


def word(text: str, start_ms: int, end_ms: int, speaker: str | None = None) -> Word:
    return Word(text=text, start_ms=start_ms, end_ms=end_ms, confidence=0.5, speaker=speaker)


def heard(text: str, speaker: str | None = None) -> list[Word]:
    """A word a second, each 800 ms long."""
    return [word(item, at * 1000, at * 1000 + 800, speaker) for at, item in enumerate(text.split())]


def times(words: list[Word]) -> list[tuple[str, int, int]]:
    return [(each.text, each.start_ms, each.end_ms) for each in words]


def segment(text: str, words: list[Word] | None = None, **fields: object) -> SegmentTranscribed:
    about: dict[str, object] = {"recording_id": "r", "index": 0, "start_ms": 0, "end_ms": 10_000}
    kept = heard(text) if words is None else words
    return SegmentTranscribed.model_validate(
        about | {"text": text, "words": kept, "engine": Engine(name="test")} | fields
    )


def test_a_word_that_stays_keeps_its_time_its_confidence_and_takes_the_new_spelling() -> None:
    [first, second] = realigned(heard("HELLO world"), "Hello, world!", 0, 5000)
    assert (first.text, first.start_ms, first.end_ms, first.confidence) == ("Hello,", 0, 800, 0.5)
    assert (second.text, second.start_ms, second.confidence) == ("world!", 1000, 0.5)


def test_as_many_new_words_as_they_replace_take_their_times_and_no_confidence() -> None:
    words = realigned(heard("the mighty condrion makes it"), "the mitochondrion, it makes it", 0, 6000)
    assert [each.text for each in words] == ["the", "mitochondrion,", "it", "makes", "it"]
    assert times(words)[1:3] == [("mitochondrion,", 1000, 1800), ("it", 2000, 2800)]
    assert [each.confidence for each in words] == [0.5, None, None, 0.5, 0.5]


def test_other_numbers_share_the_time_of_what_they_replace_by_length() -> None:
    one = realigned(heard("ask might a con drion now"), "ask mitochondrion now", 0, 6000)
    assert times(one) == [("ask", 0, 800), ("mitochondrion", 1000, 4800), ("now", 5000, 5800)]
    more = realigned(heard("ask mitochondrion now"), "ask ab cdef now", 0, 3000)
    assert times(more)[1:3] == [("ab", 1000, 1266), ("cdef", 1266, 1800)]


def test_words_put_in_share_the_pause_they_are_put_into() -> None:
    before = heard("one three")
    assert times(realigned(before, "one two three", 0, 5000))[1] == ("two", 800, 1000)
    assert times(realigned(before, "zero one three", 0, 5000))[0] == ("zero", 0, 0)
    assert times(realigned(before, "one three four", 0, 5000))[2] == ("four", 1800, 5000)
    assert times(realigned([], "all new", 1000, 7000)) == [("all", 1000, 4000), ("new", 4000, 7000)]


def test_words_taken_out_are_gone_and_nothing_else_moves() -> None:
    assert times(realigned(heard("uh one uh two"), "one two", 0, 4000)) == [("one", 1000, 1800), ("two", 3000, 3800)]
    assert realigned(heard("uh"), "", 0, 1000) == []


def test_who_speaks_stays_who_it_was() -> None:
    before = [word("who", 0, 500, "A"), word("calls", 500, 900, "A"), word("me", 1000, 1400, "B")]
    words = realigned(before, "who called there me now", 0, 2000)
    assert [each.speaker for each in words] == ["A", "A", "A", "B", "B"]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    before = [word("今日", 0, 1000), word("は", 1000, 1500), word("雨", 2000, 2500)]
    [after] = corrected([segment("今日は雨", before)], {0: Correction(text="今日は雪")})
    assert times(after.words) == [
        ("今", 0, 500), ("日", 500, 1000), ("は", 1000, 1500), ("雪", 2000, 2500),
    ]  # fmt: skip
    assert after.text == "今日は雪"


def test_too_much_to_compare_shares_its_time_and_ends() -> None:
    many = int(MOST_COMPARED**0.5) + 2
    before = [word(f"a{at}", at, at + 1) for at in range(many)]
    words = realigned(before, " ".join(f"b{at}" for at in range(many + 1)), 0, many)
    assert len(words) == many + 1
    assert (words[0].start_ms, words[-1].end_ms) == (0, many)
    assert all(one.start_ms <= other.start_ms for one, other in pairwise(words))


def test_a_segment_without_word_times_gets_none() -> None:
    [after] = corrected([segment("as imported", [])], {0: Correction(text="as it was")})
    assert (after.text, after.words) == ("as it was", [])


def test_what_says_the_same_already_is_no_correction() -> None:
    assert corrected([segment("the same"), segment("b", index=1)], {0: Correction(text="the same")}) == []


def test_words_may_be_sent_with_their_times_and_are_said_by_who_spoke_then() -> None:
    before = segment("a b", [word("a", 0, 800, "A"), word("b", 1000, 1800, "B")])
    [after] = corrected([before], {0: Correction(words=(word("bee", 1100, 1700),))})
    assert (after.text, times(after.words), after.words[0].speaker) == ("bee", [("bee", 1100, 1700)], "B")


@pytest.mark.parametrize(
    "words",
    [(word("late", 9000, 11_000),), (word("b", 2000, 2500), word("a", 1000, 1500)), (word("back", 900, 800),)],
)
def test_words_outside_their_segment_or_out_of_order_are_refused(words: tuple[Word, ...]) -> None:
    with pytest.raises(Permanent) as refused:
        corrected([segment("a b")], {0: Correction(words=words)})
    assert refused.value.code == "bad_words"


def test_a_segment_that_is_not_there_is_refused() -> None:
    with pytest.raises(Permanent, match="no segment 7") as refused:
        corrected([segment("a b")], {0: Correction(text="c"), 7: Correction(text="d")})
    assert refused.value.code == "unknown_segment"
