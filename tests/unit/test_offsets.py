"""What may be committed: never past a record that is delivered and not acknowledged, and all of it in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from earshot.streams.offsets import Offsets

P = "topic-0"


class CommitMachine(RuleBasedStateMachine):
    """A partition with gaps, a consumer that crashes, rewinds, is revoked, and stages that acknowledge in any order.

    ``done`` is what was acknowledged at least once, by anybody; what lies below the commit must all be in it.
    """

    @initialize(gaps=st.lists(st.integers(1, 3), min_size=1, max_size=25))
    def start(self, gaps: list[int]) -> None:
        self.log = [sum(gaps[: n + 1]) - 1 for n in range(len(gaps))]
        self.broker: int | None = None
        self.done: set[int] = set()
        self.generation = 1
        self.copies: list[tuple[int, int]] = []
        self.offsets: Offsets[str] = Offsets()
        self.position = 0

    @precondition(lambda self: any(offset >= self.position for offset in self.log))
    @rule()
    def deliver(self) -> None:
        offset = next(offset for offset in self.log if offset >= self.position)
        self.position = offset + 1
        self.offsets.delivered(P, offset, self.generation)
        self.copies.append((offset, self.generation))

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.copies))
        self.copies.remove(copy)
        self.done.add(copy[0])
        assert self.offsets.acked(P, *copy) in (True, False)

    @rule(confirmed=st.booleans())
    def commit(self, confirmed: bool) -> None:
        offset = self.offsets.next_commit(P)
        if offset is None:
            return
        assert offset > (self.broker or 0), "commits only rise"
        assert all(earlier in self.done for earlier in self.log if earlier < offset), "nothing unfinished is passed"
        if confirmed:
            self.broker = offset
            self.offsets.committed(P, offset)

    @rule()
    def seek_to_committed(self) -> None:
        self.offsets.rewind()
        self.offsets.committed(P, self.broker)
        self.position = self.broker or 0

    @rule(stale_acks=st.booleans())
    def revoke_and_assign(self, stale_acks: bool) -> None:
        self.offsets.forget([P])
        self.generation += 1
        self.offsets.committed(P, self.broker)
        self.position = self.broker or 0
        if not stale_acks:
            self.copies.clear()

    @precondition(lambda self: len(self.log) > 1)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        """A record that somebody has finished, or that nobody has seen yet, disappears from the log."""
        in_work = {offset for offset, _ in self.copies}
        gone = data.draw(st.sampled_from(self.log))
        if gone not in in_work:
            self.log.remove(gone)

    @invariant()
    def everything_finished_means_everything_committed(self) -> None:
        if not hasattr(self, "log"):
            return
        current = [copy for copy in self.copies if copy[1] == self.generation]
        delivered_all = all(offset < self.position for offset in self.log)
        known = self.offsets.next_commit(P)
        if delivered_all and not current and self.log and known is not None:
            assert known > max((offset for offset in self.log if offset in self.done), default=-1)


TestCommits = CommitMachine.TestCase


@given(st.lists(st.integers(0, 1000), unique=True, min_size=1), st.randoms())
def test_all_acknowledged_commits_the_end(offsets: list[int], random: object) -> None:
    book: Offsets[str] = Offsets()
    for offset in sorted(offsets):
        book.delivered(P, offset, 1)
    shuffled = list(offsets)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for offset in shuffled:
        assert (book.next_commit(P) or 0) <= min(set(offsets)), "held by the lowest in flight"
        if offset != min(offsets):
            assert book.acked(P, offset, 1)
    assert book.acked(P, min(offsets), 1)
    assert book.next_commit(P) == max(offsets) + 1


def test_a_slow_first_record_holds_the_commit() -> None:
    book: Offsets[str] = Offsets()
    for offset in range(5):
        book.delivered(P, offset, 1)
    for offset in range(1, 5):
        book.acked(P, offset, 1)
    assert book.next_commit(P) is None
    book.acked(P, 0, 1)
    assert book.next_commit(P) == 5


def test_gaps_of_compaction_hold_nothing() -> None:
    book: Offsets[str] = Offsets()
    for offset in (7, 90, 1000):
        book.delivered(P, offset, 1)
        book.acked(P, offset, 1)
    assert book.next_commit(P) == 1001


def test_an_unconfirmed_commit_is_asked_for_again() -> None:
    book: Offsets[str] = Offsets()
    book.delivered(P, 0, 1)
    book.acked(P, 0, 1)
    assert book.next_commit(P) == book.next_commit(P) == 1
    book.committed(P, 1)
    assert book.next_commit(P) is None


def test_acknowledgements_of_an_older_generation_count_for_nothing() -> None:
    book: Offsets[str] = Offsets()
    book.delivered(P, 0, 1)
    book.delivered(P, 0, 2)
    assert not book.acked(P, 0, 1)
    assert book.next_commit(P) is None
    book.forget([P])
    assert not book.acked(P, 0, 2)


def test_a_record_in_flight_that_compaction_removed_holds_nothing_after_a_rewind() -> None:
    book: Offsets[str] = Offsets()
    book.delivered(P, 3, 1)
    book.rewind()
    book.delivered(P, 4, 1)
    book.acked(P, 4, 1)
    assert book.next_commit(P) == 5


def test_a_log_that_ends_before_the_commit_is_committed_anew() -> None:
    """It was made again, or cut: with the old commit kept, what comes in up to there would be skipped one day."""
    book: Offsets[str] = Offsets()
    book.committed(P, 100)
    assert book.delivered(P, 0, 1) == 100
    assert book.delivered(P, 1, 1) == 1
    assert book.next_commit(P) is None
    book.acked(P, 0, 1)
    assert book.next_commit(P) == 1
    book.acked(P, 1, 1)
    assert book.next_commit(P) == 2


def test_a_delivery_says_which_was_to_be_expected() -> None:
    book: Offsets[str] = Offsets()
    assert book.delivered(P, 7, 1) is None
    assert book.delivered(P, 12, 1) == 8
    book.rewind()
    book.committed(P, 3)
    assert book.delivered(P, 3, 1) == 3


def test_what_comes_again_after_the_position_went_back_is_not_taken_for_a_log_that_ended() -> None:
    """The first copies were acknowledged and committed before the second ones came."""
    book: Offsets[str] = Offsets()
    for offset in (0, 1, 2):
        book.delivered(P, offset, 1)
    book.rewind()
    for offset in (0, 1, 2):
        book.acked(P, offset, 1)
    book.committed(P, 3)
    assert [book.delivered(P, offset, 1) for offset in (0, 1)] == [None, 1]
    book.acked(P, 0, 1)
    assert book.next_commit(P) is None
    book.delivered(P, 2, 1)
    book.delivered(P, 3, 1)
    for offset in (1, 2, 3):
        book.acked(P, offset, 1)
    assert book.next_commit(P) == 4
