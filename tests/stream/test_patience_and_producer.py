"""Waiting with backoff, and the broker's refusals named after who acts."""

from __future__ import annotations

from typing import Any

import aiokafka.errors as kafka
import pytest
from faust.types import TP

from earshot.kernel.errors import Misconfigured, Permanent, Unavailable
from earshot.streams.faust_producer import refusal
from earshot.streams.kafka import Consumer
from earshot.streams.patience import Patience
from earshot.streams.vitals import Vitals


def test_a_backlog_is_no_reason_for_faust_to_fill_the_log() -> None:
    """Its own check asks the driver's thread, which this consumer was never given."""
    Consumer.__new__(Consumer).verify_event_path(1e9, TP("audio.segments", 0))


def test_waits_double_up_to_a_limit_with_half_of_each_left_to_chance() -> None:
    patience = Patience(Vitals(), 0.5, 30.0)
    for tries in (*range(8), 10_000):
        longest = min(30.0, 0.5 * 2.0 ** min(tries, 20))
        assert all(longest / 2 <= patience.delay_s(tries) <= longest for _ in range(50))


def test_where_it_is_known_when_a_try_makes_sense_it_is_waited_for_and_never_longer_than_the_limit() -> None:
    patience = Patience(Vitals(), 0.5, 30.0)
    assert all(10.0 <= patience.delay_s(0, after_s=10.0) <= 11.0 for _ in range(50))
    assert patience.delay_s(0, after_s=60.0) == 30.0


async def test_only_what_may_pass_is_waited_out() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    errors: list[Exception] = [Unavailable("catalog", "Down."), Permanent("No.")]

    async def call() -> None:
        raise errors.pop(0)

    with pytest.raises(Permanent):
        await Patience(Vitals(), 0.5, 30.0, sleep).until(call)
    assert len(waited) == 1


async def test_the_reason_stays_while_the_next_try_is_on_its_way_but_the_watchdog_may_judge_it() -> None:
    """A store that hangs is asked most of the time: it is no less down then."""
    vitals, seen = Vitals(), list[tuple[str, str, bool]]()
    errors: list[Exception] = [Unavailable("vectors", "Weaviate is gone.")]

    async def sleep(_seconds: float) -> None:
        return None

    async def call() -> str:
        seen.append((vitals.state, vitals.reason, vitals.paused))
        if errors:
            raise errors.pop()
        return "well"

    assert await Patience(vitals, 0.5, 30.0, sleep).until(call) == "well"
    assert seen == [("running", "", False), ("paused", "Weaviate is gone.", False)]
    assert (vitals.state, vitals.reason) == ("running", "")


def test_the_reason_of_the_innermost_pause_is_shown() -> None:
    vitals = Vitals()
    with vitals.pause("outer"):
        with vitals.pause("inner"):
            assert vitals.reason == "inner"
        assert (vitals.state, vitals.reason) == ("paused", "outer")
    assert (vitals.state, vitals.reason) == ("running", "")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (kafka.MessageSizeTooLargeError("big"), Permanent),
        (kafka.RecordListTooLargeError("big"), Permanent),
        (kafka.TopicAuthorizationFailedError("t"), Misconfigured),
        (kafka.KafkaConnectionError("gone"), Unavailable),
        (kafka.NotEnoughReplicasError("isr"), Unavailable),
        (ConnectionResetError("gone"), Unavailable),
        (Unavailable("broker", "The file is busy."), Unavailable),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_refusals_are_named_after_who_acts(error: Exception, kind: Any) -> None:
    assert isinstance(refusal("t", error), kind)


def test_the_driver_may_wrap_the_brokers_refusal() -> None:
    wrapped = RuntimeError("Error while sending")
    wrapped.__cause__ = kafka.MessageSizeTooLargeError("big")
    assert isinstance(refusal("t", wrapped), Permanent)
