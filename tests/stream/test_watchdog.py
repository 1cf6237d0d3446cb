"""Never alive and idle, and never ended while it waits for a reason it shows."""

from __future__ import annotations

import threading
from contextvars import Context

import pytest

from earshot.streams.vitals import Vitals
from earshot.streams.watchdog import EXIT_STUCK, Watchdog, watch


class Clock:
    """A watchdog whose ticks the test counts; the event loop turns unless said otherwise."""

    def __init__(self) -> None:
        self.vitals = Vitals()
        self.watchdog = Watchdog(self.vitals, deadline_s=10, stall_s=30, silence_s=60)

    def passes(self, seconds: int, *, turning: bool = True) -> str:
        """What the watchdog says after so many seconds in which nothing else happens."""
        for _ in range(seconds):
            self.vitals.beats += turning
            if verdict := self.watchdog.tick(1.0):
                return verdict
        return ""


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_idle_worker_without_lag_is_left_alone(clock: Clock) -> None:
    assert clock.passes(1000) == ""


def test_a_unit_without_progress_past_its_deadline_is_stuck(clock: Clock) -> None:
    with clock.vitals.work():
        assert clock.passes(10) == ""
        assert "in work" in clock.passes(2)


def test_a_long_unit_that_yields_outputs_is_not_stuck(clock: Clock) -> None:
    with clock.vitals.work():
        for _ in range(20):
            assert clock.passes(9) == ""
            clock.vitals.moved()


def test_deliveries_do_not_hide_a_stuck_unit(clock: Clock) -> None:
    with clock.vitals.work():
        assert clock.passes(8) == ""
        clock.vitals.delivered()
        assert "in work" in clock.passes(4)


def test_a_batch_that_goes_on_does_not_hide_one_that_is_stuck(clock: Clock) -> None:
    def goes_on() -> None:
        with clock.vitals.work():
            assert clock.passes(4) == ""
            clock.vitals.moved()
            assert clock.passes(4) == ""

    with clock.vitals.work():
        Context().run(goes_on)
        assert "in work" in clock.passes(4)


def test_a_paused_stage_is_left_alone_and_gets_its_whole_deadline_afterwards(clock: Clock) -> None:
    clock.vitals.lag = 5
    with clock.vitals.work():
        assert clock.passes(9) == ""
        with clock.vitals.pause("The store is down."):
            assert clock.passes(1000) == ""
        assert clock.passes(10) == ""
        assert clock.passes(2) != ""


def test_an_event_loop_that_does_not_turn_is_stuck_even_while_paused(clock: Clock) -> None:
    with clock.vitals.pause("The store is down."):
        assert clock.passes(30, turning=False) == ""
        assert "event loop" in clock.passes(2, turning=False)


def test_lag_without_deliveries_is_a_dead_consumer(clock: Clock) -> None:
    clock.vitals.lag = 3
    assert clock.passes(60) == ""
    assert "3 records wait" in clock.passes(2)


def test_lag_with_deliveries_is_only_slow(clock: Clock) -> None:
    clock.vitals.lag = 3
    for _ in range(5):
        assert clock.passes(50) == ""
        clock.vitals.delivered()


def test_a_group_that_is_never_joined_is_a_dead_consumer(clock: Clock) -> None:
    clock.vitals.joining = True
    assert "never joined" in clock.passes(62)


def test_doubt_shows_after_half_the_time_and_goes_when_work_goes_on(clock: Clock) -> None:
    with clock.vitals.work():
        assert (clock.passes(5), clock.vitals.doubt) == ("", "")
        assert clock.passes(2) == ""
        assert "in work for 5 s" in clock.vitals.doubt
        clock.vitals.moved()
        assert (clock.passes(1), clock.vitals.doubt) == ("", "")


def test_the_process_is_ended_from_a_thread_of_its_own() -> None:
    vitals = Vitals()
    ended: list[int] = []
    gone = threading.Event()
    done = watch(
        Watchdog(vitals, deadline_s=10, stall_s=0.01, silence_s=10),
        tick_s=0.01,
        end=lambda code: (ended.append(code), gone.set()),
    )
    assert gone.wait(10)
    done.set()
    assert ended == [EXIT_STUCK]
