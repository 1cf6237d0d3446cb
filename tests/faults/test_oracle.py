"""The checker itself: it must catch what it is there to catch."""

from __future__ import annotations

from tests.faults.oracle import Expected, complaints
from tests.faults.pipeline import passages_of

GOOD = Expected({("a", 0): "hello", ("a", 1): "world"}, [b"poison"])
SHELF = [("a", 0, text) for text in passages_of("hello")] + [("a", 1, text) for text in passages_of("world")]
LAGS = {"copier": {("t", 0): (2, 2)}}


def test_is_content_when_all_is_well() -> None:
    assert complaints(GOOD, SHELF, [b"poison"], LAGS) == []


def test_dead_letters_may_repeat_as_every_output_may() -> None:
    assert complaints(GOOD, SHELF, [b"poison", b"poison"], LAGS) == []


def test_catches_a_planted_loss() -> None:
    assert complaints(GOOD, SHELF[1:], [b"poison"], LAGS) == [f"lost: {SHELF[0]}"]


def test_catches_a_planted_duplicate() -> None:
    assert complaints(GOOD, [*SHELF, SHELF[3]], [b"poison"], LAGS) == [f"doubled: {SHELF[3]}"]


def test_catches_a_passage_nobody_published() -> None:
    assert complaints(GOOD, [*SHELF, ("b", 0, "?")], [b"poison"], LAGS) == ["strange: ('b', 0, '?')"]


def test_catches_vanished_poison_and_dead_letters_that_were_none() -> None:
    assert len(complaints(GOOD, SHELF, [b"good"], LAGS)) == 2


def test_catches_an_offset_short_of_its_end() -> None:
    assert complaints(GOOD, SHELF, [b"poison"], {"copier": {("t", 0): (1, 2)}}) == ["copier committed 1 of 2 on t/0"]
