"""The gate: what was erased, cancelled or overtaken is undone, in every order in which two writers can meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from earshot.kernel.events import SegmentCut
from earshot.kernel.gate import Gate, Standing, Verdict, judge, visible
from tests.fakes_stream import FakeStandings

Process = Iterator[None]


@dataclass
class World:
    """One segment as the catalog and a compacted topic have it: each change of it is one step that nothing divides."""

    standing: Standing = field(default_factory=lambda: Standing("live", 1))
    cancelled: set[int] = field(default_factory=set)
    stored: set[int] = field(default_factory=set)
    last: int | None = None  # revision of the last value of the key; None: no value

    def highest(self) -> int | None:
        if self.standing.state == "erased":
            return None
        return max(self.stored - self.cancelled, default=None)

    def verdict(self, revision: int) -> Verdict:
        return judge(self.standing, revision)


def worker(world: World, revision: int, *, asks_again: bool = True, steps: int = 99) -> Process:
    """Declares (stores), writes (publishes), reads again, and undoes until what it undoes for no longer changes."""
    for _ in zip(range(steps), _work(world, revision, asks_again), strict=False):
        yield


def _work(world: World, revision: int, asks_again: bool) -> Process:
    verdict = world.verdict(revision)
    yield
    if verdict is Verdict.GO:
        if world.standing.state != "erased" and revision not in world.cancelled:
            world.stored.add(revision)
        yield
        world.last = revision
        yield
        verdict = world.verdict(revision) if asks_again else Verdict.GO
        yield
    while verdict is not Verdict.GO:
        highest = world.highest()
        yield
        if not (verdict is Verdict.OVERTAKEN and (highest is None or highest <= revision)):
            world.last = highest
            yield
        before, verdict = verdict, world.verdict(revision)
        yield
        if verdict is before:
            return


def erasing(world: World) -> Process:
    world.standing = Standing("erased", world.standing.revision)
    yield
    world.last = None
    yield
    world.stored.clear()
    yield


def retrying(world: World) -> Process:
    world.standing = Standing("live", 2)
    yield
    yield from worker(world, 2)


def cancelling(world: World) -> Process:
    world.cancelled.add(1)
    world.standing = Standing("cancelled", 1)
    yield


def clearing_up(world: World, revision: int) -> Process:
    """The eraser after a cancellation: writes, then reads again."""
    said: int | None = -1
    while True:
        highest = world.highest()
        yield
        if highest == said or (said == -1 and highest is not None and highest > revision):
            break
        world.last = said = highest
        yield
    world.stored.discard(revision)
    yield


def every_interleaving(make: Callable[[World], list[Process]]) -> Iterator[World]:
    """The outcome of each order in which the processes' steps can be taken."""
    schedules: list[list[int]] = [[]]
    while schedules:
        schedule = schedules.pop()
        world = World()
        running = dict(enumerate(make(world)))
        for choice in schedule:
            _step(running, choice)
        while running:
            choices = sorted(running)
            schedules += [[*schedule, choice] for choice in choices[1:]]
            schedule = [*schedule, choices[0]]
            _step(running, choices[0])
        yield world


def _step(running: dict[int, Process], choice: int) -> None:
    try:
        next(running[choice])
    except StopIteration:
        del running[choice]


@pytest.mark.parametrize("crash_after", [99, 0, 1, 2, 3, 4, 5])
def test_an_erasure_and_work_leave_nothing_in_any_order(crash_after):
    """The worker may also crash after any step; then its event is delivered again."""

    def processes(world: World) -> list[Process]:
        def crashing() -> Process:
            yield from worker(world, 1, steps=crash_after)
            if crash_after < 99:
                yield from worker(world, 1)

        return [crashing(), erasing(world)]

    outcomes = list(every_interleaving(processes))
    assert len(outcomes) > 20
    assert all(world.last is None and not world.stored for world in outcomes)


def test_without_reading_again_an_erasure_leaves_something():
    outcomes = every_interleaving(lambda world: [worker(world, 1, asks_again=False), erasing(world)])
    assert any(world.last is not None for world in outcomes)


def test_the_higher_of_two_revisions_wins_in_any_order():
    outcomes = list(every_interleaving(lambda world: [worker(world, 1), retrying(world)]))
    assert len(outcomes) > 100
    assert all(world.last == 2 for world in outcomes)


def test_without_reading_again_the_lower_revision_may_win():
    outcomes = every_interleaving(lambda world: [worker(world, 1, asks_again=False), retrying(world)])
    assert any(world.last == 1 for world in outcomes)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 7)), max_size=12))
@example([(0, 1), (1, 7), (3, 7), (0, 7)])
def test_an_attempt_that_is_cancelled_and_made_anew_ends_with_the_new_one(schedule):
    """Four at once: the first attempt, the cancellation and retry, the second attempt, and the eraser."""
    world = World()

    def second() -> Process:
        while world.standing.revision < 2:
            yield
        yield from worker(world, 2)

    def api() -> Process:
        yield from cancelling(world)
        world.standing = Standing("live", 2)
        yield

    def eraser() -> Process:
        while not world.cancelled:
            yield
        yield from clearing_up(world, 1)

    running = dict(enumerate([worker(world, 1), api(), second(), eraser()]))
    for choice, steps in schedule:
        for _ in range(steps):
            if choice in running:
                _step(running, choice)
    while running:
        for choice in sorted(running):
            _step(running, choice)
    assert (world.last, world.stored) == (2, {2})


@pytest.mark.parametrize(
    ("standing", "revision", "verdict", "shown"),
    [
        (None, 1, Verdict.UNKNOWN, False),
        (Standing("live", 1), 2, Verdict.UNKNOWN, False),
        (Standing("live", 2), 2, Verdict.GO, True),
        (Standing("live", 2), 1, Verdict.OVERTAKEN, True),
        (Standing("live", 2, visible_from=2), 1, Verdict.OVERTAKEN, False),
        (Standing("cancelled", 2), 2, Verdict.CANCELLED, False),
        (Standing("cancelled", 2), 1, Verdict.OVERTAKEN, True),
        (Standing("erased", 2), 1, Verdict.ERASED, False),
        (Standing("erased", 2), 2, Verdict.ERASED, False),
    ],
)
def test_what_may_be_done_and_shown(standing, revision, verdict, shown):
    assert judge(standing, revision) is verdict
    assert visible(standing, revision) is shown


async def test_the_gate_asks_once_for_a_batch_and_keeps_its_order():
    standings = FakeStandings()
    standings.known = {("a", "r1"): Standing("erased", 1), ("b", "r1"): Standing("live", 1)}
    events = [
        SegmentCut(tenant=tenant, recording_id="r1", index=0, start_ms=0, end_ms=1, uri="u", sha256="s")
        for tenant in ("b", "a", "b")
    ]
    assert await Gate(standings).verdicts(events) == [Verdict.GO, Verdict.ERASED, Verdict.GO]
    assert standings.asked == 1
