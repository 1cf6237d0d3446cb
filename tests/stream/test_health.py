"""A worker's own HTTP, its heartbeat's facts and its metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.errors import Unavailable
from earshot.kernel.gate import Gate
from earshot.kernel.settings import Settings
from earshot.kernel.topics import all_topics
from earshot.streams.health import HealthServer
from earshot.streams.host import Host, Ports
from earshot.streams.metrics import NAMES
from earshot.streams.settings import WorkerSettings
from tests.fakes_stream import FakeAttempts, FakeHeartbeats, FakeStandings, stage_of


async def nothing(_deliveries: Any) -> AsyncIterator[Any]:
    for _ in ():
        yield _


class Dependency:
    """Something the stage needs, up or down."""

    down = ""

    async def probe(self) -> None:
        if self.down:
            raise Unavailable("vectors", self.down)


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


@pytest.fixture
def host(tmp_path: Path, dependency: Dependency) -> Host:
    settings = Settings(broker_url=f"sqlite://{tmp_path}/log.sqlite")
    kit = Kit(settings)
    ports = Ports(kit.codec, Gate(FakeStandings()), FakeAttempts(), FakeHeartbeats(), kit.log)
    stage = stage_of(nothing, probe=dependency.probe, counts=lambda: {"swept": 3})
    return Host(stage, settings, WorkerSettings(), ports)


@pytest.fixture
async def url(host: Host) -> AsyncIterator[str]:
    async with HealthServer(host, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.port}"


async def get(url: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url)


async def test_a_worker_that_runs_is_live_and_ready(url: str) -> None:
    assert (await get(f"{url}/health/live")).json() == {"stage": "copier", "state": "running"}
    ready = await get(f"{url}/health/ready")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)


async def test_a_paused_worker_is_live_but_not_ready_and_says_why(url: str, host: Host) -> None:
    with host.vitals.pause("The store is down."):
        assert (await get(f"{url}/health/live")).status_code == 200
        ready = await get(f"{url}/health/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "The store is down.")


async def test_a_worker_that_ends_or_is_in_doubt_is_live_but_not_ready(url: str, host: Host) -> None:
    host.vitals.doubt = "Nothing was delivered for 9 s: 2 records wait."
    doubted = await get(f"{url}/health/ready")
    assert (doubted.status_code, doubted.json()["reason"]) == (503, host.vitals.doubt)
    host.vitals.ending = True
    ending = await get(f"{url}/health/ready")
    assert (ending.status_code, ending.json()["reason"]) == (503, "It is ending.")
    assert (await get(f"{url}/health/live")).status_code == 200


async def test_whatever_a_worker_depends_on_is_named_when_it_is_down(tmp_path: Path) -> None:
    async def broker() -> None:
        raise Unavailable("broker", "Kafka does not answer.", next_step="Check EARSHOT_BROKER_URL.")

    settings = Settings(broker_url=f"sqlite://{tmp_path}/log.sqlite")
    kit = Kit(settings)
    own = Dependency()
    own.down = "Weaviate is gone."
    ports = Ports(kit.codec, Gate(FakeStandings()), FakeAttempts(), FakeHeartbeats(), kit.log, {"the broker": broker})
    host = Host(stage_of(nothing, probe=own.probe), settings, WorkerSettings(), ports)
    async with HealthServer(host, "127.0.0.1", 0) as server:
        ready = await get(f"http://127.0.0.1:{server.port}/health/ready")
    assert ready.status_code == 503
    assert ready.json()["reason"] == "Kafka does not answer. Check EARSHOT_BROKER_URL. Weaviate is gone."


async def test_a_worker_that_is_still_loading_its_model_is_live_and_not_ready(tmp_path: Path) -> None:
    loading, loaded = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def model() -> AsyncIterator[None]:
        loading.set()
        await loaded.wait()
        yield

    settings = Settings(broker_url=f"sqlite://{tmp_path}/log.sqlite")
    kit = Kit(settings)
    ports = Ports(kit.codec, Gate(FakeStandings()), FakeAttempts(), FakeHeartbeats(), kit.log)
    host = Host(stage_of(nothing, resources=model), settings, WorkerSettings(), ports)
    await kit.log.create({topic.name: {} for topic in all_topics()}, 1)
    async with AsyncExitStack() as stack, HealthServer(host, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.port}"
        start = asyncio.create_task(host._start(stack))
        await asyncio.wait_for(loading.wait(), 30)
        assert (await get(f"{url}/health/live")).status_code == 200
        ready = await get(f"{url}/health/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "It is loading what it works with.")
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        assert (await get(f"{url}/health/ready")).status_code == 200
    await kit.log.close()


async def test_a_dependency_that_does_not_answer_is_named(url: str, dependency: Dependency) -> None:
    dependency.down = "The vectors do not answer."
    ready = await get(f"{url}/health/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "The vectors do not answer.")


async def test_every_declared_metric_is_served(url: str, host: Host) -> None:
    host.metrics.done(2)
    text = (await get(f"{url}/metrics")).text
    assert all(name in text for name in NAMES)
    assert 'earshot_events_total{outcome="done",stage="copier"} 2.0' in text
    assert 'earshot_done_total{kind="swept",stage="copier"} 3.0' in text


async def test_other_paths_are_unknown(url: str) -> None:
    assert (await get(f"{url}/table")).status_code == 404


@pytest.mark.parametrize("nonsense", [b"\r\n\r\n", b"\x00" * 9000, b"GET"])
async def test_nonsense_is_turned_away_and_the_next_is_served(url: str, nonsense: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port or 0)
    writer.write(nonsense)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    assert b"200" not in answer
    assert json.loads((await get(f"{url}/health/live")).text)["state"] == "running"
