"""The promises on the real services: ``kill -9`` of every stage at every point; erase and cancel at any moment."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from earshot.processes import STAGES
from tests.faults.guarantees import Outcome
from tests.faults.real import Flow, make_speech
from tests.faults.real_oracle import Seen, complaints
from tests.faults.real_rounds import Rounds, fates

pytestmark = pytest.mark.asyncio(loop_scope="module")
POINTS = ("after_fetch", "in_work", "after_send", "after_ack")
ON_KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.weaviate])


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["embedded", ON_KAFKA])
async def flow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Flow]:
    """One system for each transport, which stays up."""
    urls = {}
    if request.param == "kafka":
        urls["EARSHOT_BROKER_URL"] = request.getfixturevalue("kafka_url")
        urls["EARSHOT_VECTORS_URL"] = request.getfixturevalue("weaviate_url")
    made = Flow(tmp_path_factory.mktemp("real"), urls)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


def rotated(number: int) -> dict[str, str]:
    """A point for each stage; four numbers in a row give every stage every point."""
    return {stage: POINTS[(number + at) % len(POINTS)] for at, stage in enumerate(STAGES)}


KILLED = pytest.mark.row(1, "`kill -9` of every stage with work in flight, each at one of the four points")
WITHDRAWN = pytest.mark.row(1, "the same while recordings are erased, cancelled and retried at random moments")


@KILLED
async def test_every_stage_killed_at_a_point_loses_and_doubles_nothing(flow: Flow, outcome: Outcome) -> None:
    rounds = Rounds(flow, random.Random(1))
    await rounds.upload(await make_speech(flow.folder, 10))
    new = [await make_speech(flow.folder, 20 + each) for each in range(2)]
    await rounds.all_die(rotated(1 if flow.settings.embedded else 3), new, outcome)
    with outcome.recovering():
        await flow.drained()
    await rounds.settle()
    await rounds.account(outcome)


async def test_what_is_erased_or_cancelled_on_its_way_leaves_nothing_behind(flow: Flow) -> None:
    rounds = Rounds(flow, random.Random(2))
    await rounds.withdraw(fates(rounds.chance, 8), [await make_speech(flow.folder, 30 + each) for each in range(4)])
    assert rounds.met["cancelled"], "no cancellation met a job that had not ended"
    await rounds.settle()


@KILLED
@pytest.mark.full
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", range(len(POINTS)))
async def test_every_stage_killed_twenty_times_at_a_point(flow: Flow, outcome: Outcome, number: int) -> None:
    rounds = Rounds(flow, chance := seeded())
    await rounds.upload(await make_speech(flow.folder, chance.randrange(2**31)))
    for _ in range(20):
        new = [await make_speech(flow.folder, chance.randrange(2**31)) for _ in range(2)]
        await rounds.all_die(rotated(number), new, outcome)
        with outcome.recovering():
            await flow.drained()
        await rounds.settle()
    await rounds.account(outcome)


@WITHDRAWN
@pytest.mark.full
@pytest.mark.timeout(3000)
async def test_erased_or_cancelled_twenty_times_while_stages_die(flow: Flow, outcome: Outcome) -> None:
    rounds = Rounds(flow, chance := seeded())
    died_before = len(flow.deaths)
    for _ in range(20):
        for stage, point in rotated(chance.randrange(len(POINTS))).items():
            flow.arm(stage, point, chance.randint(1, 6))
        new = [await make_speech(flow.folder, chance.randrange(2**31)) for _ in range(3)]
        await rounds.withdraw(fates(chance, 8), new)
        with outcome.recovering():
            await flow.drained()
        await rounds.settle()
    flow.disarm()
    deaths = flow.deaths[died_before:]
    outcome.hit(sum(death.behind for death in deaths), faults=len(deaths))
    await rounds.account(outcome)


def seeded() -> random.Random:
    """Chance with a seed of its own, shown when the test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


# --- the checker itself -----------------------------------------------------------------------------------------------


async def test_the_oracle_sees_a_lost_and_a_doubled_passage_in_the_real_stores(flow: Flow) -> None:
    rounds = Rounds(flow, random.Random(3))
    recording_id = await rounds.upload(await make_speech(flow.folder, 40))
    await rounds.settle()
    await rounds.plant_loss(recording_id, segment=1)
    found = await rounds.complaints()
    assert len(found) > 1
    assert all("not indexed: (1, 1, " in what or "are counted" in what for what in found), found
    await rounds.plant_double(recording_id, segment=1)
    assert [what for what in await rounds.complaints() if "without cause: (1, 1, 77, " in what]
    await rounds.erase(recording_id)


GOOD = Seen("completed", 1, [(0, "a")], {0: "a"}, [(1, 0, 0, "a")], [(1, 0, 0, "a")], 1)


@pytest.mark.parametrize(
    ("wrong", "because"),
    [
        ({}, ""),
        ({"state": "failed"}, "its job is failed"),
        ({"transcript": []}, "its transcript has"),
        ({"transcript": [(0, "a"), (0, "a")]}, "its transcript has"),
        ({"published": {}}, "audio.transcripts holds"),
        ({"published": {0: "b"}}, "audio.transcripts holds"),
        ({"embedded": [], "indexed": [], "counted": 0}, "audio.embeddings lacks"),
        ({"indexed": []}, "not indexed"),
        ({"indexed": [(1, 0, 0, "a")] * 2}, "indexed without cause"),
        ({"indexed": [(1, 0, 0, "a"), (2, 0, 0, "a")]}, "another revision"),
        ({"counted": 2}, "2 passages are counted, 1 were made"),
    ],
)
async def test_the_oracle_catches_each_kind_of_loss(wrong: dict[str, object], because: str) -> None:
    found = complaints(["a"], dataclasses.replace(GOOD, **wrong))  # type: ignore[arg-type]
    assert bool(found) == bool(wrong)
    assert any(because in what for what in found) or not wrong
