"""Shares converge, nobody starves, room is used, the window holds: whatever tenants send, and wherever it stops."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.kernel.fairness import (
    CLASSES,
    LEAST_MS,
    PARTS,
    QUANTUM_MS,
    UNKNOWN_MS,
    Flight,
    Precedence,
    Round,
    Schedule,
    Turn,
    Waiting,
    Window,
    weight_ms,
)

NORMAL = CLASSES.index("normal")
OPEN = Window(10**12, 10**12)
MINUTE = 60_000
WEIGHTS = st.integers(LEAST_MS, 20 * MINUTE)
TENANTS = "abcd"
FEW = settings(deadline=None, max_examples=25)


@dataclass
class Desk:
    """What the catalog keeps: queues, turns, credit, work in flight. Every pick is planned anew from it."""

    window: Window
    queues: dict[tuple[int, str], deque[Waiting]] = field(default_factory=dict)
    turns: list[list[tuple[str, int]]] = field(default_factory=lambda: [[] for _ in CLASSES])
    credit: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    flying: list[Waiting] = field(default_factory=list)
    ids: count[int] = field(default_factory=count)

    def add(self, tenant: str, audio_ms: int, lane: int = NORMAL) -> None:
        waiting = Waiting(next(self.ids), tenant, lane, audio_ms)
        self.queues.setdefault((lane, tenant), deque()).append(waiting)

    def schedule(self) -> Schedule:
        in_flight = Counter[str]()
        for each in self.flying:
            in_flight[each.tenant] += each.audio_ms
        return Schedule(
            Precedence(self.credit),
            [Round(Turn(*turn) for turn in turns) for turns in self.turns],
            Flight(self.window, in_flight),
            [queue[0] for queue in self.queues.values() if queue],
            self._after,
        )

    def _after(self, taken: Waiting) -> Waiting | None:
        return next((each for each in self.queues[taken.lane, taken.tenant] if each.id > taken.id), None)

    def picks(self, most: int = 1) -> list[Waiting]:
        schedule = self.schedule()
        picked = [each for each in (schedule.next() for _ in range(most)) if each is not None]
        self.turns = [[(turn.tenant, turn.deficit_ms) for turn in ring.turns] for ring in schedule.rounds]
        self.credit = schedule.precedence.credit
        for each in picked:
            assert self.queues[each.lane, each.tenant].popleft() == each, "a tenant's own came out of order"
            self.flying.append(each)
        return picked

    def drain(self) -> list[Waiting]:
        """Everything, where there is room for everything."""
        done: list[Waiting] = []
        while picked := self.picks():
            done += picked
        return done


def sums(picked: Sequence[Waiting]) -> Counter[str]:
    total = Counter[str]()
    for each in picked:
        total[each.tenant] += each.audio_ms
    return total


@given(st.dictionaries(st.sampled_from(TENANTS), st.lists(WEIGHTS, min_size=1, max_size=15), min_size=2))
@FEW
def test_tenants_that_wait_get_the_same_seconds_whatever_they_send(queues):
    desk = Desk(OPEN)
    for tenant, weights in queues.items():
        for weight in weights:
            desk.add(tenant, weight)
    largest = max(max(weights) for weights in queues.values())
    served: list[Waiting] = []
    while all(desk.queues[NORMAL, tenant] for tenant in queues):
        served += desk.picks()
        seconds = sums(served)
        got = [seconds[tenant] for tenant in queues]
        assert max(got) - min(got) <= largest + 2 * QUANTUM_MS


@given(st.lists(WEIGHTS, min_size=1, max_size=10), st.integers(1, 4), WEIGHTS)
@FEW
def test_a_newcomer_waits_for_no_more_of_each_other_tenant_than_it_sends_itself(flood, others, mine):
    desk = Desk(OPEN)
    for number in range(others):
        for weight in flood:
            desk.add(f"t{number}", weight)
    desk.picks(len(flood) * others // 2)
    desk.add("late", mine)
    before: list[Waiting] = []
    while (picked := desk.picks()) and picked[0].tenant != "late":
        before += picked
    assert picked
    assert all(got <= mine + max(flood) + QUANTUM_MS for got in sums(before).values())


@given(st.lists(st.tuples(st.sampled_from(TENANTS), WEIGHTS, st.integers(0, 2)), max_size=25))
@FEW
def test_everything_goes_once_and_nothing_is_left(uploads):
    desk = Desk(OPEN)
    for tenant, weight, lane in uploads:
        desk.add(tenant, weight, lane)
    assert sorted(each.id for each in desk.drain()) == list(range(len(uploads)))
    assert desk.turns == [[], [], []], "who has nothing to send saves something up"


@given(st.lists(WEIGHTS, min_size=1, max_size=5), st.lists(WEIGHTS, min_size=1, max_size=5))
@FEW
def test_a_lower_class_keeps_its_part_while_a_higher_one_waits(high, low):
    desk = Desk(OPEN)
    for _ in range(20):
        for weight in high:
            desk.add("a", weight, 0)
        for weight in low:
            desk.add("b", weight, 2)
    served: list[Waiting] = []
    while desk.queues[0, "a"] and desk.queues[2, "b"]:
        served += desk.picks()
        seconds = sums(served)
        part = seconds["b"] - seconds.total() / PARTS
        assert -max(low) - max(*high, *low) / PARTS <= part <= 0, "it goes when it has earned what it sends, not before"


def test_three_classes_share_eight_one_one():
    desk = Desk(OPEN)
    for lane, _ in enumerate(CLASSES):
        for _ in range(1000):
            desk.add("a", MINUTE, lane)
    served = Counter(each.lane for each in desk.picks(1000))
    assert [served[lane] for lane, _ in enumerate(CLASSES)] == [802, 99, 99]  # a part is kept after it was earned


def test_a_class_saves_nothing_up_while_nothing_above_it_waits():
    desk = Desk(OPEN)
    for _ in range(50):
        desk.add("a", MINUTE, 2)
    desk.picks(40)
    for _ in range(20):
        desk.add("b", MINUTE, 0)
    assert [each.lane for each in desk.picks(9)] == [0] * 9


@given(
    st.integers(1, 60), st.integers(1, 60), st.lists(st.tuples(st.sampled_from(TENANTS), WEIGHTS), max_size=25),
    st.randoms(use_true_random=False),
)  # fmt: skip
@FEW
def test_no_more_is_in_flight_than_the_window_and_the_last_recording_of_each_tenant(total, share, uploads, chance):
    window = Window(total * MINUTE, min(total, share) * MINUTE)
    desk = Desk(window)
    last: dict[str, Waiting] = {}
    for tenant, weight in uploads:
        desk.add(tenant, weight)
        for each in desk.picks(chance.randint(0, 3)):
            last[each.tenant] = each
        before = Counter(sums(desk.flying))
        before.subtract(sums([each for each in last.values() if each in desk.flying]))
        assert all(each <= window.tenant_ms for each in before.values())
        assert before.total() <= window.total_ms
        chance.shuffle(desk.flying)
        del desk.flying[chance.randint(0, len(desk.flying)) :]


@given(st.integers(1, 60), st.lists(st.tuples(st.sampled_from(TENANTS), WEIGHTS), max_size=25), st.integers(0, 40))
@FEW
def test_what_has_room_goes(total, uploads, done):
    window = Window(total * MINUTE, total * MINUTE)
    desk = Desk(window)
    for tenant, weight in uploads:
        desk.add(tenant, weight)
    desk.picks(len(uploads))
    del desk.flying[:done]
    desk.picks(len(uploads))
    flight = Flight(window, sums(desk.flying))
    assert not any(queue and flight.has_room(tenant) for (_, tenant), queue in desk.queues.items())


def test_a_recording_of_a_day_keeps_nobody_else_out():
    desk = Desk(Window(30 * MINUTE, 15 * MINUTE))
    for tenant in "abc":
        desk.add(tenant, 24 * 60 * MINUTE)
    assert len(desk.drain()) == 3
    for _ in range(100):
        desk.add("d", 5 * MINUTE)
    assert sums(desk.drain())["d"] == 5 * MINUTE, "a tenant without anything in flight may send one"
    desk.flying = [each for each in desk.flying if each.tenant == "a"]
    assert sums(desk.drain())["d"] == 15 * MINUTE, "a tenant counts for no more than its share"


@given(st.lists(st.tuples(st.sampled_from(TENANTS), WEIGHTS, st.integers(0, 2)), max_size=25), st.integers(1, 40))
@FEW
def test_it_chooses_the_same_whether_it_is_stopped_between_two_choices_or_not(uploads, at_once):
    one, other = Desk(OPEN), Desk(OPEN)
    for desk in (one, other):
        for tenant, weight, lane in uploads:
            desk.add(tenant, weight, lane)
    together: list[Waiting] = []
    while picked := other.picks(at_once):
        together += picked
    assert one.drain() == together


def test_asked_twice_a_round_answers_the_same_and_a_day_takes_no_thousand_rounds():
    ring = Round([Turn("a"), Turn("b")])
    day = 24 * 60 * MINUTE
    assert [ring.choose({"a": day, "b": day + 1}) for _ in range(2)] == ["a", "a"]
    assert [turn.deficit_ms for turn in ring.turns] == [day, day]
    assert ring.choose({"c": 1}) is None


def test_what_does_not_say_how_long_it_is_counts_for_ten_minutes():
    assert (weight_ms(None), weight_ms(0), weight_ms(90_000)) == (UNKNOWN_MS, LEAST_MS, 90_000)
    assert replace(Turn("a")).deficit_ms == QUANTUM_MS
