"""``earshot replay`` on a running system changes nothing that should not change."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from tests.system.conftest import EXAMPLES, System
from tests.waiting import eventually

CONSUMERS = {
    "audio.uploaded": "segmenter",
    "audio.segments": "transcriber",
    "audio.transcripts": "embedder",
    "audio.embeddings": "indexer",
    "recordings.progress": "tracker",
}


def kit_of(system: System) -> Kit:
    urls = {
        name.removeprefix("EARSHOT_").lower(): value
        for name, value in system.settings.items()
        if name in {"EARSHOT_BROKER_URL", "EARSHOT_CATALOG_URL", "EARSHOT_TOPIC_PREFIX", "EARSHOT_VECTORS_URL"}
    }
    return Kit(Settings(_env_file=None, data=system.data, **urls))  # type: ignore[arg-type]


def state_of(system: System, recording_id: str) -> dict[str, Any]:
    """Everything a client can see of a recording."""
    job = system.job(recording_id)
    hits = system.search("ask what you can do for your country", recording_id=recording_id)
    transcript = system.http.get(f"/recordings/{recording_id}/transcript?format=json").json()
    return {"job": job["state"], "stages": job["stages"], "hits": [hit["text"] for hit in hits], "said": transcript}


async def last_records(kit: Kit, recording_id: str) -> dict[bytes, Any]:
    """What a reader of the compacted topic has in the end."""
    name, found = kit.settings.topic(AUDIO_TRANSCRIPTS.name), dict[bytes, Any]()
    async for record in kit.log.tail([name], from_start=True, follow=False):
        if record.key is not None and record.key.decode().startswith(recording_id):
            found[record.key] = record.value
    return found


async def drained(kit: Kit) -> bool:
    for topic, stage in CONSUMERS.items():
        name = kit.settings.topic(topic)
        lag = await kit.log.lag(kit.settings.topic(stage), [name])
        if any(committed < end for committed, end in lag.values()):
            return False
    return True


async def test_every_topic_replayed_leaves_the_recording_as_it_was(system: System) -> None:
    accepted = await asyncio.to_thread(system.add, EXAMPLES / "jfk.flac", title="Replayed")
    recording_id = accepted["recording_id"]
    assert (await asyncio.to_thread(system.ended, recording_id))["state"] == "completed"
    kit = kit_of(system)
    try:
        await eventually(lambda: drained(kit))
        before, written = state_of(system, recording_id), await last_records(kit, recording_id)
        [serving] = [index.name for index in await kit.catalog.indexes() if index.state == "serving"]
        count = await kit.vectors.count(serving, "default", recording_id)
        assert count >= 1
        for topic in CONSUMERS:
            done = await asyncio.to_thread(
                system.cli, "replay", "--topic", topic, "--recording", recording_id, "--json"
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["replayed"] >= 1
        await eventually(lambda: drained(kit), within=60)
        assert state_of(system, recording_id) == before
        assert await last_records(kit, recording_id) == written
        assert await kit.vectors.count(serving, "default", recording_id) == count
    finally:
        await kit.log.close()
        await kit.vectors.close()
        await kit.catalog.close()


async def test_a_replay_brings_nothing_of_an_erased_recording_back(system: System) -> None:
    accepted = await asyncio.to_thread(system.add, EXAMPLES / "jfk.flac", title="Erased", collection="gone")
    recording_id = accepted["recording_id"]
    await asyncio.to_thread(system.ended, recording_id)
    assert system.http.delete(f"/recordings/{recording_id}").status_code < 300
    done = await asyncio.to_thread(
        system.cli, "replay", "--topic", "audio.transcripts", "--recording", recording_id, "--json"
    )
    assert json.loads(done.stdout)["replayed"] == 0
