"""A rolling update of every process while recordings keep coming in: nothing lost, nothing doubled, nothing refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from earshot.processes import PROCESSES, STAGES
from tests.faults.guarantees import Outcome
from tests.faults.real import PATIENCE_S, Flow, Speech, make_speech
from tests.faults.real_rounds import Rounds
from tests.processes import answers, free_ports
from tests.waiting import eventually

ON_KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.weaviate])
BACKLOG = 12
"""Records not committed anywhere, beyond which the uploads wait: a load that the machine can carry."""


STARTED = '"event": "started"'
"""What a process logs when it works."""


class Rolling(Flow):
    """A system whose processes can be replaced; the members of its groups are dynamic, as in a Deployment."""

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        super().__init__(folder, urls)
        self.static = False
        self._former = [self.http]

    async def close(self) -> None:
        await super().close()
        for http in self._former:
            await http.aclose()

    async def replace(self, name: str, *, overlap: bool) -> float:
        """Ask a process to end, after or before another one works in its place; seconds in which it drained."""
        old = self._processes.pop(name)
        try:
            if overlap:
                await self._start_another(name)
            began = time.monotonic()
            old.terminate()
            await eventually(lambda: old.poll() is not None, within=PATIENCE_S)
            took = time.monotonic() - began
            assert old.returncode == 0, f"{name} ended with {old.returncode}\n{self.last_words()}"
            if not overlap:
                await self._start_another(name)
        finally:
            old.kill()
            old.wait()
        return took

    async def _start_another(self, name: str) -> None:
        """Start a process and return when it works; the web on another port, to which its clients go from now on."""
        if name != "web":
            before = self._starts(name)
            self._spawn(name)
            await eventually(lambda: self._starts(name) > before, within=PATIENCE_S)
            return
        (self._port,) = free_ports(1)
        self._spawn(name)
        await eventually(lambda: answers(self._port), within=PATIENCE_S)
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=30)
        self._former.append(self.http)

    def _starts(self, name: str) -> int:
        return (self.folder / f"{name}.log").read_text(errors="replace").count(STARTED)


@pytest.fixture(params=["embedded", ON_KAFKA])
async def flow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rolling]:
    """A system of real stages."""
    urls = {}
    if request.param == "kafka":
        urls["EARSHOT_BROKER_URL"] = request.getfixturevalue("kafka_url")
        urls["EARSHOT_VECTORS_URL"] = request.getfixturevalue("weaviate_url")
    made = Rolling(tmp_path_factory.mktemp("rolling"), urls)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


class Load:
    """Recordings that keep coming in, each once whatever happens to the door, and now and then an erasure."""

    def __init__(self, rounds: Rounds, speech: Speech) -> None:
        self._rounds, self._flow, self._speech = rounds, rounds.flow, speech
        self.retried = 0

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task.done():
            self._task.result()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        for number in count(1):
            await self._upload()
            if number % 4 == 0:
                await self._erase(self._rounds.chance.choice(sorted(self._rounds.kept)))
            await self._flow.sure(self._room, every=0.2)

    async def _room(self) -> bool:
        return sum([await self._flow.behind(stage) for stage in STAGES]) <= BACKLOG

    async def _erase(self, recording_id: str) -> None:
        for _ in self._tries():
            try:
                await self._rounds.erase(recording_id)
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
                continue
            return

    async def _upload(self) -> None:
        """Upload; a door that is being replaced on its port is asked again, under the same key."""
        key, content = uuid4().hex, await asyncio.to_thread(self._speech.path.read_bytes)
        for _ in self._tries():
            try:
                answer = await self._flow.http.post(
                    "/ingest",
                    files={"file": (self._speech.path.name, content)},
                    data={"collection": key},
                    headers={"Idempotency-Key": key},
                )
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == httpx.codes.ACCEPTED, answer.text
            self._rounds.kept[answer.json()["recording_id"]] = self._speech
            return

    def _tries(self) -> Iterator[None]:
        yield None
        while True:
            self.retried += 1
            yield None


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.row(19, "rolling update of web, relay and every stage while recordings keep coming in")
async def test_every_process_is_replaced_under_load_and_nothing_is_lost(flow: Rolling, outcome: Outcome) -> None:
    """On Kafka the new process starts first, and two are there at once; the embedded log has one a stage."""
    overlap = not flow.settings.embedded
    rounds = Rounds(flow, random.Random(7))
    drained: dict[str, float] = {}
    async with Load(rounds, await make_speech(flow.folder, 60)) as load:
        await goes_through(rounds)
        for name in PROCESSES:
            if name in STAGES:
                outcome.hit(await flow.sure(lambda stage=name: flow.behind(stage), every=0.02))
            drained[name] = round(await flow.replace(name, overlap=overlap), 2)
            outcome.recovery_s.append(drained[name])
        await goes_through(rounds)
    if overlap:
        assert load.retried == 0, "the door refused an upload"
    print(f"drained in seconds: {drained}; uploads tried again: {load.retried}")
    await rounds.settle()
    await rounds.account(outcome)


async def goes_through(rounds: Rounds) -> None:
    """Return when a recording that came after this call is done."""
    before = set(rounds.kept)

    async def done() -> bool:
        new = [each for each in rounds.kept if each not in before][:1]
        return bool(new) and (await rounds.flow.job(new[0]))["state"] == "completed"

    await rounds.flow.sure(done)
