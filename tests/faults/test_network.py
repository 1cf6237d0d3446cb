"""A proxy between everybody and the broker loses answers and commits: one copy in the log, nothing lost. Kafka only."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from earshot.adapters.kafka_log import KafkaLog
from earshot.kernel.codec import Record
from earshot.kernel.errors import Unavailable
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, Topic
from tests.fakes_stream import record_of
from tests.faults.brokers import crew, works
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.processes import free_ports
from tests.proxy import OFFSET_COMMIT, PRODUCE, Fate, First, KafkaProxy, let_pass
from tests.servers import KafkaServer
from tests.waiting import eventually

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def hidden_broker(have: Callable[[Callable[[], KafkaServer]], KafkaServer]) -> Iterator[KafkaServer]:
    """A broker that tells its clients to find it where the proxy is."""
    [port] = free_ports(1)
    with have(lambda: KafkaServer(advertised_port=port)) as server:
        yield server


@pytest.fixture
async def proxy(hidden_broker: KafkaServer) -> AsyncIterator[KafkaProxy]:
    """Everything to and from the broker goes through it."""
    made = await KafkaProxy(hidden_broker.port).start(hidden_broker.ports[0])
    yield made
    await made.close()


@pytest.fixture
async def behind(hidden_broker: KafkaServer, proxy: KafkaProxy, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline that reaches its broker through the proxy alone."""
    made = System(hidden_broker.url, tmp_path)
    await made.prepare()
    yield made
    await made.close()


async def copies(system: System, topic: Topic) -> int:
    """How many records of a topic have the key of another."""
    keys = [record.key for record in await system.records(topic)]
    return len(keys) - len(set(keys))


@pytest.mark.row(9, "connection cut after the broker has the record, before its answer; five times each producer")
async def test_a_record_whose_acknowledgement_is_lost_is_in_the_log_once(
    behind: System, proxy: KafkaProxy, outcome: Outcome
) -> None:
    """Both ways of sending: the log that the relay uses, and a stage's own producer."""
    system = behind
    proxy.rule = First(Fate.CUT_AFTER, PRODUCE, times=5)
    await system.publish(*system.segments(12))
    outcome.hit(in_flight=12, faults=len(proxy.hit))
    assert (len(proxy.hit), await copies(system, AUDIO_SEGMENTS)) == (5, 0)

    proxy.rule = cut = First(Fate.CUT_AFTER, PRODUCE, times=5, client="faust")
    system.start("copier")
    system.start("shelver")
    await eventually(lambda: len(proxy.hit) > 5, within=60)
    outcome.hit(await system.behind("copier"), faults=5)
    with outcome.recovering():
        await eventually(lambda: cut.times == 0)
        await system.settles()
    assert await copies(system, AUDIO_TRANSCRIPTS) == 0
    await system.account(outcome)


@pytest.mark.full
@pytest.mark.row(9, "no send gets through until it is given up; the caller, as the relay, publishes again")
async def test_what_was_given_up_is_not_sent_behind_the_callers_back(
    behind: System, proxy: KafkaProxy, outcome: Outcome
) -> None:
    """An idempotent producer of aiokafka never gives up by itself; each one left behind would send it once more."""
    system = behind
    log = KafkaLog(system.settings.broker, request_s=1)
    fresh = system.segments(6)
    records = [replace(record_of(event, -1), topic=system.settings.topic(AUDIO_SEGMENTS.name)) for event in fresh]
    proxy.rule = First(Fate.CUT_BEFORE, PRODUCE, times=float("inf"))
    for _ in range(3):
        with pytest.raises(Unavailable):
            await log.publish(records)
    outcome.hit(len(records), faults=3)
    proxy.rule = let_pass
    with outcome.recovering():
        await eventually(lambda: again(log, records))
    system.expect(*fresh)
    await log.close()
    crew(system)
    await works(system)
    await system.settles()
    assert await copies(system, AUDIO_SEGMENTS) == 0
    await system.account(outcome)


async def again(log: KafkaLog, records: list[Record]) -> bool:
    await log.publish(records)
    return True


HOW = [
    (Fate.CUT_BEFORE, 3),
    *(pytest.param(fate, 10, marks=pytest.mark.full) for fate in Fate if fate is not Fate.PASS),
]


@pytest.mark.parametrize(("fate", "times"), HOW)
@pytest.mark.row(25, "commits lost on their way, or their answers; three and ten in a row")
async def test_offsets_that_could_not_be_committed_are_committed_later(
    behind: System, proxy: KafkaProxy, outcome: Outcome, fate: Fate, times: int
) -> None:
    system = behind
    proxy.rule = First(fate, OFFSET_COMMIT, times=times)
    worker = system.start("copier")
    await system.publish(*system.segments(20))
    await eventually(lambda: proxy.hit, within=60)
    outcome.hit(20 if fate is Fate.CUT_AFTER else await system.behind("copier"))  # of those the broker knows, not we
    with outcome.recovering():
        await eventually(lambda: len(proxy.hit) == times, within=90)
        system.start("shelver")
        await system.settles(within=90)
    outcome.faults = len(proxy.hit)
    assert worker.alive, worker.log()
    await works(system)
    await system.settles()
    await system.account(outcome)


@pytest.mark.full
@pytest.mark.row(25, "no commit gets through until the worker is killed; the next one is let through")
async def test_what_was_never_committed_is_done_again(behind: System, proxy: KafkaProxy, outcome: Outcome) -> None:
    system = behind
    proxy.rule = First(Fate.CUT_BEFORE, OFFSET_COMMIT, times=float("inf"))
    victim = system.start("copier")
    await system.publish(*system.segments(20))
    await eventually(lambda: _sent(system, 20), within=60)
    await eventually(lambda: proxy.hit)
    outcome.hit(await system.behind("copier"))
    assert await system.behind("copier") == 20
    victim.signal(signal.SIGKILL)
    await victim.ended()
    proxy.rule = First(Fate.PASS, OFFSET_COMMIT)
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    assert await copies(system, AUDIO_TRANSCRIPTS) == 20  # all of it again, which is what not committed means
    await system.account(outcome)


async def _sent(system: System, number: int) -> Any:
    return len(await system.records(AUDIO_TRANSCRIPTS)) >= number
