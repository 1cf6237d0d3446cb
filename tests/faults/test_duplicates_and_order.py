"""Published twice, replayed, shuffled: the end is the same, over the small pipeline and over the real stages."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from earshot.kernel.codec import Record
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, TOPICS
from tests.faults import real_finds as finds
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.real import Flow, make_speech
from tests.faults.real_rounds import Rounds
from tests.faults.system import System

SEEDS = pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.full) for seed in (2, 3)]])


@EITHER
@SEEDS
@pytest.mark.row(13, "every event published two to five times; then both topics replayed from their beginning")
async def test_what_is_published_again_changes_nothing(system: System, outcome: Outcome, seed: int) -> None:
    chance = random.Random(seed)
    events = system.segments(12)
    await system.publish(*[event for event in events for _ in range(chance.randint(2, 5))])
    outcome.hit(await system.behind("copier"))
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    before = sorted(system.shelf.passages())
    for topic in (AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS):
        await system.put(topic, *await system.records(topic))
        outcome.faults += 1
    with outcome.recovering():
        await system.settles()
    assert sorted(system.shelf.passages()) == before
    await system.account(outcome)


@EITHER
@SEEDS
@pytest.mark.row(14, "events in any order, each one to three times: last segments first, recordings mixed")
async def test_the_order_in_which_events_come_makes_no_difference(system: System, outcome: Outcome, seed: int) -> None:
    chance = random.Random(seed)
    events = system.segments(16)
    shuffled = [event for event in events for _ in range(chance.randint(1, 3))]
    chance.shuffle(shuffled)
    assert [event.index for event in shuffled] != sorted(event.index for event in shuffled)
    await system.publish(*shuffled)
    outcome.hit(await system.behind("copier"))
    with outcome.recovering():
        system.start("copier")
        system.start("shelver")
        await system.settles()
    await system.account(outcome)


# --- the real stages, the two transports and the two stores crossed ---------------------------------------------------

KAFKA, WEAVIATE = "EARSHOT_BROKER_URL", "EARSHOT_VECTORS_URL"
STORES = [
    pytest.param(("embedded",), id="embedded-lancedb"),
    pytest.param(("embedded", WEAVIATE), id="embedded-weaviate", marks=pytest.mark.weaviate),
    pytest.param(("kafka", KAFKA), id="kafka-lancedb", marks=pytest.mark.kafka),
    pytest.param(("kafka", KAFKA, WEAVIATE), id="kafka-weaviate", marks=[pytest.mark.kafka, pytest.mark.weaviate]),
]


@pytest.fixture(params=STORES)
async def flow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Flow]:
    """A system of real stages."""
    fixtures = {KAFKA: "kafka_url", WEAVIATE: "weaviate_url"}
    urls = {name: request.getfixturevalue(fixtures[name]) for name in request.param[1:]}
    made = Flow(tmp_path_factory.mktemp("real"), urls)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def again(flow: Flow, outcome: Outcome, records: list[Record]) -> None:
    """Publish records once more, each where it lay, and return when every stage is done with them."""
    for at in range(0, len(records), 100):
        await flow.kit.log.publish([replace(record, offset=-1) for record in records[at : at + 100]])
    behind = [await flow.behind(stage) for stage in ("transcriber", "embedder", "indexer", "tracker")]
    outcome.faults += 1
    outcome.in_flight += sum(behind)
    with outcome.recovering():
        await flow.drained()


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.row(
    13, "every topic of the real stages replayed one to three times; then everything on all of them shuffled"
)
async def test_what_real_stages_are_told_again_and_in_any_order_changes_nothing(flow: Flow, outcome: Outcome) -> None:
    """An erased recording is among them, whose events come back."""
    for seed in (1, 2, 3):
        chance = random.Random(seed)
        rounds = Rounds(flow, chance)
        speech = await make_speech(flow.folder, 50 + seed)
        for _ in range(3):
            await rounds.upload(speech)
        await rounds.settle()
        await rounds.erase(chance.choice(sorted(rounds.kept)))
        await rounds.settle()
        before = await finds.see(flow, rounds.kept)
        everything: list[Record] = []
        for topic in TOPICS:
            records = await finds.records(flow, topic)
            if topic is not AUDIO_TRANSCRIPTS:
                everything += records
            else:  # a null is the last word on its key, and stays behind what it deletes
                everything += [each for each in records if (each.key or b"").decode().partition(":")[0] in rounds.kept]
            for _ in range(chance.randint(1, 3)):
                await again(flow, outcome, records)
        chance.shuffle(everything)
        await again(flow, outcome, everything)
        await rounds.settle()
        assert await finds.see(flow, rounds.kept) == before
        await rounds.account(outcome)
    assert outcome.in_flight, "it hit idle stages"
