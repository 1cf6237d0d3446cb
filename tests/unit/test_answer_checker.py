"""What is left of an answer once it is checked, however it comes in pieces."""

from __future__ import annotations

import random
from typing import Any

import pytest

from earshot.kernel.events import Word
from earshot.query.answering.checker import MARK, Checker, Sentence, unmarked
from earshot.query.answering.evidence import Evidence

SAID = ("We ship on Friday, I think.", "Don't forget the twenty-five buttons, all of them.", "我们星期五发货。")


def evidence(number: int, text: str) -> Evidence:
    words = tuple(Word(text=word, start_ms=at * 400, end_ms=at * 400 + 400) for at, word in enumerate(text.split()))
    nothing: Any = None
    return Evidence(number, nothing, nothing, words, 0, len(words), ())


def checked(text: str, size: int = 1_000_000) -> Checker:
    """The answer, fed in pieces of this size; what it gives and what it keeps must be the same."""
    checker = Checker([evidence(number, said) for number, said in enumerate(SAID, 1)])
    given = [item for at in range(0, len(text), size) for item in checker.feed(text[at : at + size])]
    given += checker.finish()
    assert "".join(item for item in given if isinstance(item, str)) == checker.text
    assert [item for item in given if isinstance(item, Sentence)] == checker.sentences
    for sentence in checker.sentences:
        assert checker.text[sentence.start : sentence.end] == sentence.text
    return checker


@pytest.mark.parametrize(
    ("answer", "shown", "dropped"),
    [
        ("It ships [1].", "It ships [1].", []),
        ("It ships [9].", "It ships.", [9]),
        ("It ships [1, 9; 2].", "It ships [1][2].", [9]),
        ("It ships [1-3]. [4]", "It ships [1][2][3].", [4]),
        ("It ships 【2】 and [excerpt 1] [^1].", "It ships [2] and [1] [1].", []),
        ("Nothing [inaudible] was [a] said [12345].", "Nothing [inaudible] was [a] said [12345].", []),
        ("[7][8] So it is.", "So it is.", [7, 8]),
        ("See [here](https://evil.example/?q=secret) now.", "See [here] now.", []),
        ("![x](https://evil.example/a.png) ok [1](javascript:alert) (really)", "![x] ok [1] (really)", []),
        ("It ends in [1", "It ends in [1", []),
    ],
)
def test_only_what_was_retrieved_may_be_cited_or_pointed_at(answer, shown, dropped):
    checker = checked(answer)
    assert (checker.text, checker.dropped) == (shown, dropped)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('Ada: "we ship on friday"', True),
        ("Ada: “We ship … I think”", True),
        ("Ada: „ship on Friday“ and «don't forget»", True),
        ('Ada: "twenty five buttons"', True),
        ('Ada: "星期五"', True),
        ('Ada: "we ship on Monday"', False),
        ('Ada: "friday on ship we"', False),
        ('Ada: "we ship ... we"', False),
        ('Ada: "think. Don\'t forget"', False),
        ('Ada: "hip on fri"', False),
    ],
)
def test_a_quotation_that_nobody_said_is_marked(answer, said):
    checker = checked(answer)
    assert (MARK in checker.text) is not said
    assert bool(checker.unfounded) is not said


def test_inches_and_open_ends_are_no_quotations():
    checker = checked('The screen has 5" and a "beginning without an end\nand so on.')
    assert MARK not in checker.text
    assert [sentence.quotations for sentence in checker.sentences] == [(), ()]


def test_sentences_keep_what_they_rest_on():
    checker = checked("Dr. No ships at 3.5 percent [1]. Nobody knows. [2] - e.g. this\n- a point [1][3]\nThe end")
    assert [(sentence.text, sentence.citations) for sentence in checker.sentences] == [
        ("Dr. No ships at 3.5 percent [1].", (1,)),
        ("Nobody knows. [2]", (2,)),
        ("- e.g. this", ()),
        ("- a point [1][3]", (1, 3)),
        ("The end", ()),
    ]
    assert checker.cited == [1, 2, 3]


def test_pieces_of_any_length_give_the_same_answer():
    chance = random.Random(7)
    signs = [
        '"',
        "“",
        "”",
        "[1]",
        "[9]",
        "[",
        "]",
        "(",
        ")",
        "(http://x)",
        " ",
        ". ",
        "\n",
        "we ship on friday",
        "a",
        "…",
    ]
    for _ in range(300):
        answer = "".join(chance.choice(signs) for _ in range(chance.randrange(30)))
        whole = checked(answer)
        for size in (1, 2, 5):
            pieces = checked(answer, size)
            assert (pieces.text, pieces.sentences, pieces.dropped) == (whole.text, whole.sentences, whole.dropped), (
                answer
            )


def test_a_text_without_marks_is_taken_as_it_is():
    plain = unmarked('a "title" [1]\nof 【2】 «two» lines')
    assert checked(plain).text == plain
    assert checked(plain).dropped == []
