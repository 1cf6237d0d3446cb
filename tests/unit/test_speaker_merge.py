"""Passages and turns are written by two stages at once: whatever the order of their steps, the outcome is one.

Every call of a port is a step at which the other writer may go on. Two writers are tried in every order there is, more
of them in many.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.indexer.index import index, unindex
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentEmbedded, SpeakersFound
from earshot.kernel.gate import Verdict
from earshot.kernel.stage import Delivery, Stale
from tests.fakes_speakers import FakeSpeakers, found, turn
from tests.fakes_vectors import FakeVectors

NAME = ids.index_name("fake", 2)
Writer = Callable[[FakeVectors, FakeSpeakers], Coroutine[Any, Any, None]]


@types.coroutine
def step() -> Generator[None, None, None]:
    """The other writer may go on here."""
    yield


class SteppedVectors(FakeVectors):
    """A step before every call."""

    async def prepare(self, *given: Any) -> None:
        await step()
        await super().prepare(*given)

    async def replace_many(self, *given: Any) -> None:
        await step()
        await super().replace_many(*given)

    async def indexes(self) -> list[str]:
        await step()
        return await super().indexes()

    async def passages_of(self, *given: Any) -> Any:
        await step()
        return await super().passages_of(*given)

    async def relabel(self, *given: Any) -> None:
        await step()
        await super().relabel(*given)


def passages(segment: int = 0, revision: int = 1) -> Writer:
    """A segment with two passages: in its first second and in its second one."""
    said = [
        {"id": "", "ordinal": at, "start_ms": at * 1000, "end_ms": at * 1000 + 1000, "text": "w", "vector": [1.0, 0.0]}
        for at in range(2)
    ]
    event = SegmentEmbedded.model_validate(
        {"recording_id": "r", "revision": revision, "index": segment, "start_ms": 0, "end_ms": 2000}
        | {"model": "fake", "dimensions": 2, "passages": said}
    )
    return writer(event)


def turns(revision: int = 1) -> Writer:
    """One speaker in the first second, another in the second; which, says the revision."""
    return writer(found("r", turn(f"A{revision}", 0, 1000), turn(f"B{revision}", 1000, 2000), revision=revision))


def writer(event: SegmentEmbedded | SpeakersFound) -> Writer:
    async def write(vectors: FakeVectors, speakers: FakeSpeakers) -> None:
        delivery: Delivery[Any] = Delivery(event, Record("t", b"", b""))
        assert [output async for output in index([delivery], vectors, speakers)]

    return write


def run(writers: Sequence[Writer], schedule: Iterator[int]) -> tuple[dict[str, tuple[str, ...]], list[int]]:
    """Run writers step by step; return who speaks in each passage, and how many could go on at each step."""
    vectors, speakers = SteppedVectors(), FakeSpeakers(step)
    running = [write(vectors, speakers) for write in writers]
    widths = []
    while running:
        widths.append(len(running))
        chosen = running[next(schedule) % len(running)]
        try:
            chosen.send(None)
        except StopIteration:
            running.remove(chosen)
    held = vectors.passages.get(NAME, {}).get("default", {})
    return {key: passage.speakers for key, passage in held.items()}, widths


def every_order(writers: Sequence[Writer]) -> Iterator[dict[str, tuple[str, ...]]]:
    """The outcome of every interleaving, one after the other like an odometer."""
    path: list[int] = []
    while True:
        outcome, widths = run(writers, iter([*path, *[0] * 200]))
        yield outcome
        choices = path + [0] * (len(widths) - len(path))
        while choices and choices[-1] == widths[len(choices) - 1] - 1:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1
        path = choices


def expected(segments: Sequence[tuple[int, int]], revisions: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Who speaks when nothing happens at the same time: the highest turns that are not above a passage."""
    wanted = {}
    for segment, revision in segments:
        best = max((each for each in revisions if each <= revision), default=None)
        for ordinal, who in enumerate("AB"):
            key = ids.passage_id(ids.segment_id("r", revision, segment), "fake", ordinal)
            wanted[key] = () if best is None else (f"{who}{best}",)
    return wanted


def test_passages_and_turns_meet_in_every_order_of_their_steps():
    outcomes = list(every_order([passages(), turns()]))
    assert len(outcomes) > 200
    assert all(outcome == expected([(0, 1)], [1]) for outcome in outcomes)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_turns_of_two_attempts_meet_in_any_order_of_their_steps(seed):
    """With passages of the later one there already: its own turns win, also over those that were written last."""
    chance = random.Random(seed)
    outcome, _ = run([passages(0, 2), turns(1), turns(2)], iter(lambda: chance.randrange(6), None))
    assert outcome == expected([(0, 2)], [1, 2])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2)), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True),
    st.integers(0, 2**32),
)
def test_any_number_of_writers_agree_whatever_the_order(segments, revisions, seed):
    """Segments and turns of several attempts; a lower attempt's passages go when a higher one's come."""
    writers = [*(passages(*each) for each in segments), *(turns(each) for each in revisions)]
    chance = random.Random(seed)
    outcome, _ = run(writers, iter(lambda: chance.randrange(12), None))
    wanted = expected(segments, revisions)
    assert {key: who for key, who in wanted.items() if key in outcome} == outcome
    highest = [(segment, max(rev for other, rev in segments if other == segment)) for segment, _ in segments]
    assert set(expected(highest, revisions)) <= set(outcome)


@pytest.mark.parametrize("verdict", [Verdict.ERASED, Verdict.CANCELLED, Verdict.OVERTAKEN])
async def test_turns_that_came_too_late_are_taken_back_unless_merely_overtaken(verdict):
    speakers, vectors = FakeSpeakers(), FakeVectors()
    await turns(1)(vectors, speakers)
    stale = Stale(Delivery(found("r", revision=1), Record("t", b"", b"")), verdict)
    assert [output async for output in unindex([stale], vectors, speakers)] == []
    assert bool(speakers.turns) == (verdict is Verdict.OVERTAKEN)


async def test_turns_go_to_every_index_there_is():
    vectors, speakers = FakeVectors(), FakeSpeakers()
    await passages()(vectors, speakers)
    other = vectors.passages[NAME]["default"]
    vectors.passages["Passages_other_2"] = {"default": dict(other)}
    await turns()(vectors, speakers)
    for name in (NAME, "Passages_other_2"):
        assert [each.speakers for each in vectors.passages[name]["default"].values()] == [("A1",), ("B1",)]


async def test_a_crash_between_turns_kept_and_passages_told_is_mended_when_they_come_again():
    """The event is delivered again, and does the rest."""
    vectors, speakers = FakeVectors(), FakeSpeakers()
    await passages()(vectors, speakers)
    await speakers.store_turns(found("r", turn("A1", 0, 1000), turn("B1", 1000, 2000)))
    assert all(each.speakers == () for each in vectors.passages[NAME]["default"].values())
    await turns()(vectors, speakers)
    assert [each.speakers for each in vectors.passages[NAME]["default"].values()] == [("A1",), ("B1",)]
