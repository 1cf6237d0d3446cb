"""The universal oracle: what must be true after any fault, once everything has settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.pipeline import passages_of

Segment = tuple[str, int]
Lag = Mapping[tuple[str, int], tuple[int, int]]


@dataclass
class Expected:
    """What was published and acknowledged.

    Attributes:
        texts: what each segment says, of all that must arrive.
        poison: values that must be dead-lettered, nothing else may.
    """

    texts: dict[Segment, str] = field(default_factory=dict)
    poison: list[bytes | None] = field(default_factory=list)


def complaints(
    expected: Expected, shelf: Sequence[tuple[str, int, str]], letters: Sequence[bytes | None], lags: Mapping[str, Lag]
) -> list[str]:
    """Everything that is wrong: lost, doubled or strange passages, wrong dead letters, offsets short of their end."""
    return [*_passages(expected, shelf), *_letters(expected, letters), *_offsets(lags)]


def _passages(expected: Expected, shelf: Sequence[tuple[str, int, str]]) -> list[str]:
    want = Counter(
        (recording, index, text) for (recording, index), said in expected.texts.items() for text in passages_of(said)
    )
    have = Counter(shelf)
    lost = [f"lost: {item}" for item in (want - have)]
    extra = [f"{'doubled' if item in want else 'strange'}: {item}" for item in (have - want)]
    return lost + extra


def _letters(expected: Expected, letters: Sequence[bytes | None]) -> list[str]:
    missing = set(expected.poison) - set(letters)
    strange = set(letters) - set(expected.poison)
    return [f"poison not dead-lettered: {value!r}" for value in missing] + [
        f"dead-lettered, but no poison: {value!r}" for value in strange
    ]


def _offsets(lags: Mapping[str, Lag]) -> list[str]:
    return [
        f"{stage} committed {done} of {end} on {topic}/{partition}"
        for stage, lag in lags.items()
        for (topic, partition), (done, end) in lag.items()
        if done != end
    ]
