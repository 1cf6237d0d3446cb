"""The promises on the real services: ``kill -9`` of every stage at every point; erase and cancel at any moment."""

from __future__ import annotations

import random
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from earshot.processes import STAGES
from tests.faults.real import Flow, Speech, make_speech
from tests.faults.real_finds import dead_letters, left_of_erased, see
from tests.faults.real_oracle import complaints

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


class Rounds:
    """Rounds of uploads and erasures in which stages die, and what must be true after them."""

    def __init__(self, flow: Flow, chance: random.Random) -> None:
        self.flow, self.chance = flow, chance
        self.kept: dict[str, Speech] = {}
        self.erased: set[str] = set()
        self._added = 0

    async def upload(self, speech: Speech) -> str:
        """Upload into a collection of its own, so that it is a new recording."""
        self._added += 1
        accepted = await self.flow.add(speech, f"c{self.chance.randrange(2**32)}-{self._added}")
        self.kept[accepted["recording_id"]] = speech
        return str(accepted["recording_id"])

    async def erase_one(self) -> None:
        """Erase a recording: any."""
        victim = self.chance.choice(sorted(self.kept))
        answer = await self.flow.http.delete(f"/recordings/{victim}")
        assert answer.status_code == 204, answer.text
        del self.kept[victim]
        self.erased.add(victim)

    async def all_die(self, points: dict[str, str], new: list[Speech]) -> None:
        """Let each stage die once at its point while recordings pass, with work in flight."""
        died_before = len(self.flow.deaths)
        for stage, point in points.items():
            self.flow.arm(stage, point, self.chance.randint(1, 4 if point == "in_work" else 2))
        for speech in new:
            await self.upload(speech)
        await self.erase_one()

        async def everyone() -> bool:
            return all(self.flow.obeyed(stage) for stage in points)

        for _ in range(5):  # what comes in one batch passes a point once: more work until everyone has died
            await self.flow.drained()
            if await everyone():
                break
            await self.upload(self.chance.choice(new))
            await self.erase_one()
        assert await everyone(), points
        deaths = self.flow.deaths[died_before:]
        assert {death.name for death in deaths} == set(points), deaths
        assert len(deaths) == len(points), deaths
        for death in deaths:
            assert death.code == -signal.SIGKILL, death
            assert death.behind > 0, f"the fault hit an idle stage: {death}"

    async def complaints(self) -> list[str]:
        """What is wrong with anything that was ever uploaded."""
        seen = await see(self.flow, self.kept)
        found = [
            f"{each}: {what}" for each, speech in self.kept.items() for what in complaints(speech.texts, seen[each])
        ]
        for each in self.erased:
            found += [f"{each} was erased: {what}" for what in await left_of_erased(self.flow, each)]
        return found + await dead_letters(self.flow)


async def test_every_stage_killed_at_a_point_loses_and_doubles_nothing(flow: Flow) -> None:
    chance = random.Random(1)
    rounds = Rounds(flow, chance)
    first = await make_speech(flow.folder, 10)
    await rounds.upload(first)
    turn = 2 if flow.settings.embedded else 0  # both transports together: every stage at every point
    for number in (turn, turn + 1):
        new = [await make_speech(flow.folder, 20 + number * 2 + each) for each in range(2)]
        await rounds.all_die({stage: POINTS[(number + at) % 4] for at, stage in enumerate(STAGES)}, new)
    assert await rounds.complaints() == [], flow.last_words()
