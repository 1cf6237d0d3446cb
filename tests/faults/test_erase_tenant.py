"""``kill -9`` of the eraser in the middle of a whole tenant's erasure: all of it goes, nothing of anybody else's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from earshot.adapters.wiring import Kit
from earshot.eraser.remains import look_for_tenant
from earshot.eraser.topic import TranscriptTopic
from earshot.kernel import ids
from earshot.kernel.claims import segment_key
from earshot.kernel.codec import Codec
from earshot.kernel.events import Engine, SegmentTranscribed
from earshot.kernel.ports import Accepted, CollectionSettings, IndexedPassage, NewRecording, StoredSegment
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, RECORDINGS_ERASED
from earshot.processes import prepare
from tests.fakes_catalog import TRACE, erasure, progressed, total, upload
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.processes import tied
from tests.waiting import eventually

LEAVES, STAYS = "leaves", "stays"
INDEX = "Passages_test_4"
PATIENCE_S = 120.0
QUICK = {
    "EARSHOT_ERASER__BATCH": "4",
    "EARSHOT_ERASER__LOOK_S": "0.05",
    "EARSHOT_LOG_FORMAT": "json",
    "EARSHOT_WORKER__SESSION_TIMEOUT_S": "6",
    "EARSHOT_WORKER__BROKER_HEARTBEAT_S": "0.5",
    "EARSHOT_WORKER__REBALANCE_TIMEOUT_S": "6",
    "EARSHOT_WORKER__INSTANCE_ID": "eraser",
}


class House:
    """Stores with two tenants in them, and the processes that erase one."""

    def __init__(self, broker: str, folder: Path) -> None:
        self._folder = folder
        about: dict[str, Any] = {"data": folder / "data", "broker_url": broker, "partitions": 2}
        self.settings = Settings(_env_file=None, topic_prefix=f"e{uuid4().hex[:8]}-", **about)
        self.kit = Kit(self.settings)
        self.topic = TranscriptTopic(self.kit.log, Codec(), self.settings.topic(AUDIO_TRANSCRIPTS.name))
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """``earshot worker NAME``, which does not outlive the test."""
        mine = {
            "EARSHOT_DATA": str(self.settings.data),
            "EARSHOT_BROKER_URL": self.settings.broker,
            "EARSHOT_TOPIC_PREFIX": self.settings.topic_prefix,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EARSHOT_")}
        command = [sys.executable, "-m", "earshot", "worker", name]
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(tied(command), env=environment | QUICK | mine, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    async def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        await self.kit.log.close()
        await self.kit.vectors.close()
        await self.kit.catalog.close()

    async def fill(self, tenant: str, number: int) -> list[str]:
        """Recordings of a tenant with something in every store."""
        catalog = self.kit.catalog
        await catalog.configure_collection(tenant, "talks", CollectionSettings(hotwords=f"words of {tenant}"))
        return [await self._recording(tenant, n) for n in range(number)]

    async def _recording(self, tenant: str, number: int) -> str:
        said = upload(tenant, collection="talks", title=f"talk {number}", sha256=ids.derive("audio", tenant, number))
        recording_id, source = said.recording_id, f"{tenant}/recordings/{said.recording_id}/source"
        made: Accepted = await self.kit.catalog.accept(NewRecording(said, source, TRACE))
        event = SegmentTranscribed(
            tenant=tenant, recording_id=recording_id, index=0, start_ms=0, end_ms=1000, text=f"said by {tenant}",
            engine=Engine(name="test"),
        )  # fmt: skip
        cached = f"{tenant}/transcripts/{number}.json"
        for key in (source, cached, segment_key(tenant, recording_id, 1, 0)):
            await self.kit.blobs.put(key, f"{tenant} {number}".encode())
        await self.kit.catalog.store([StoredSegment(event, cached)])
        await self.kit.catalog.record([total(made, 1), progressed(made, "indexer", 0)])
        await self.topic.set({0: event}, erasure(tenant, recording_id, 1, "erased"))
        passage = IndexedPassage(
            ids.derive(recording_id), recording_id, 1, 0, 0, 0, 1000, event.text, "talks", "en", (), None, False,
            (1.0, 0.0, 0.0, 0.0),
        )  # fmt: skip
        await self.kit.vectors.replace(INDEX, tenant, recording_id, 1, 0, [passage])
        return recording_id

    async def everything_of(self, tenant: str, recordings: list[str]) -> dict[str, Any]:
        """All that a tenant has, in every store."""
        kit, found = self.kit, dict[str, Any]()
        found["blobs"] = {key: await kit.blobs.get(key) async for key, _ in kit.blobs.list(f"{tenant}/")}
        found["recordings"] = await kit.catalog.recordings(tenant)
        found["settings"] = await kit.catalog.collection_settings(tenant, "talks")
        for each in recordings:
            found[each] = (
                await kit.catalog.transcript(tenant, each),
                [replace(one, vector=()) for one in await kit.vectors.passages_of(INDEX, tenant, each)],
            )
        topic, last = self.settings.topic(AUDIO_TRANSCRIPTS.name), {}
        async for record in kit.log.tail([topic], from_start=True, follow=False):
            if (record.key or b"").decode().partition(":")[0] in recordings:
                last[record.key] = record.value
        return found | {"last": last}

    async def left(self) -> int:
        return (await self.kit.catalog.tenant_erasure(LEAVES)).left

    async def done(self) -> bool:
        return (await self.kit.catalog.tenant_erasure(LEAVES)).since is None

    async def replay_erasures(self) -> None:
        """Every event that asked to forget a recording goes out again."""
        name = self.settings.topic(RECORDINGS_ERASED.name)
        said = [record async for record in self.kit.log.tail([name], from_start=True, follow=False)]
        await self.kit.log.publish([replace(record, offset=-1) for record in said])

    async def behind(self) -> int:
        lag = await self.kit.log.lag(
            f"{self.settings.topic_prefix}eraser", [self.settings.topic(RECORDINGS_ERASED.name)]
        )
        return sum(end - done for done, end in lag.values())


@pytest.fixture
async def house(broker: str, tmp_path: Path) -> AsyncIterator[House]:
    made = House(broker, tmp_path)
    await prepare(made.settings)
    await made.kit.vectors.prepare(INDEX, 4)
    yield made
    await made.close()


@EITHER
@pytest.mark.row(1, "`kill -9` of the eraser while it erases a whole tenant")
@pytest.mark.parametrize(
    ("recordings", "kills"), [(12, 1), pytest.param(120, 6, marks=[pytest.mark.full, pytest.mark.timeout(900)])]
)
async def test_a_killed_eraser_goes_on_where_it_was(
    house: House, outcome: Outcome, recordings: int, kills: int
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    await house.fill(LEAVES, recordings)
    kept = await house.fill(STAYS, 3)
    before = await house.everything_of(STAYS, kept)
    begun = await house.kit.catalog.erase_tenant(LEAVES)
    assert begun.left == recordings
    assert await house.kit.catalog.recordings(LEAVES) == []  # at once, before anybody did anything
    house.start("relay")
    for number in range(kills):
        eraser, share = house.start("eraser"), (number + chance.uniform(0.1, 0.8)) / kills
        most = recordings - 1 - int((recordings - 2) * share)
        await eventually(lambda most=most: _some_are_gone(house, most), within=PATIENCE_S)
        eraser.send_signal(signal.SIGKILL)
        assert eraser.wait() == -signal.SIGKILL
        outcome.hit(await house.left())
    with outcome.recovering():
        house.start("eraser")
        await eventually(house.done, within=PATIENCE_S)
    await house.replay_erasures()
    await eventually(lambda: _nothing_behind(house), within=PATIENCE_S)
    report = await look_for_tenant(house.kit, LEAVES, 60)
    after = await house.everything_of(STAYS, kept)
    complaints = [f"left: {find}" for find in report.found if find.wrong]
    complaints += [f"left: {key}" async for key, _ in house.kit.blobs.list(f"{LEAVES}/")]
    complaints += [f"lost: {name} of the neighbour" for name in before if before[name] != after[name]]
    outcome.count(published=recordings + len(kept), complaints=complaints)
    assert complaints == []


async def _some_are_gone(house: House, most: int) -> bool:
    """At most so many are left, and not none."""
    left = await house.left()
    assert left > 0, "the erasure was over before the kill"
    return left <= most


async def _nothing_behind(house: House) -> bool:
    return await house.behind() == 0
