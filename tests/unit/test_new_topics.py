"""How topics are made: nothing is acknowledged that one broker alone holds, where there are three."""

from __future__ import annotations

import pytest

from earshot.kernel.settings import Settings
from earshot.processes import new_topics, topic_configurations


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, None), (2, None), (3, "2")])
def test_of_three_replicas_two_must_have_a_record(replicas: int, in_sync: str | None) -> None:
    made = new_topics(Settings(broker_url="kafka://k:9092", replication=replicas))
    assert {kept.get("min.insync.replicas") for kept in made.values()} == {in_sync}


def test_records_bear_the_time_of_their_arrival() -> None:
    """A foreign producer whose clock is wrong would have its records refused, or deleted before they are read."""
    kept = topic_configurations(Settings(broker_url="kafka://k:9092"))
    assert {each["message.timestamp.type"] for each in kept.values()} == {"LogAppendTime"}
