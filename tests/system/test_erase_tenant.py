"""A whole tenant erased on a running system; topics kept otherwise than they should be; segments cut again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.claims import segments_folder
from earshot.kernel.topics import AUDIO_UPLOADED
from tests.system.conftest import EXAMPLES, System
from tests.system.test_replay import drained, kit_of, state_of
from tests.waiting import eventually

SAID = "ask what you can do for your country"
SRT = f"1\n00:00:00,500 --> 00:00:10,500\n{SAID}\n".encode()


@pytest.fixture
async def kit(system: System) -> AsyncIterator[Kit]:
    """What stands behind the system."""
    made = kit_of(system)
    yield made
    await made.log.close()
    await made.vectors.close()
    await made.catalog.close()


def client_of(system: System, tenant: str) -> httpx.Client:
    """A new tenant with a key that may do everything."""
    system.http.post("/tenants", json={"id": tenant}).raise_for_status()
    wished = {"name": "all", "scopes": ["read", "write", "erase", "admin"], "tenant": tenant}
    key = system.http.post("/keys", json=wished).raise_for_status().json()["key"]
    return httpx.Client(base_url=str(system.http.base_url), headers={"Authorization": f"Bearer {key}"}, timeout=60)


def sent(http: httpx.Client) -> str:
    """The id of a recording that came with its transcript, so that no engine has to hear it."""
    files = {"file": (EXAMPLES / "jfk.flac").read_bytes(), "transcript": ("a.srt", SRT)}
    return str(http.post("/ingest", files=files).raise_for_status().json()["recording_id"])


async def heard(http: httpx.Client) -> str:
    """The id of a recording of a client, searchable."""
    recording_id = await asyncio.to_thread(sent, http)

    def found() -> bool:
        return bool(http.post("/query", json={"query": SAID, "top_k": 1}).raise_for_status().json()["hits"])

    await eventually(lambda: asyncio.to_thread(found), within=120)
    return recording_id


async def test_a_tenant_leaves_with_everything_and_its_neighbour_stays(system: System, kit: Kit) -> None:
    leaves, stays = f"leaves-{uuid4().hex[:8]}", f"stays-{uuid4().hex[:8]}"
    with client_of(system, leaves) as theirs, client_of(system, stays) as others:
        recording_id, kept = await heard(theirs), await heard(others)
        before = [key async for key, _ in kit.blobs.list(f"{stays}/")]
        command = ("erase", "--tenant", leaves)
        doubtful = await asyncio.to_thread(system.cli, *command, input="n\n")
        assert doubtful.returncode == 1
        assert theirs.get(f"/recordings/{recording_id}").status_code == 200
        done = await asyncio.to_thread(system.cli, *command, "--yes", "--verify", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        assert (report["state"], report["left"], report["clean"], report["complete"]) == ("erased", 0, True, True)
        assert all(find["until"] or kit.settings.embedded for find in report["found"])
        assert theirs.get("/recordings").status_code == 401
        assert [key async for key, _ in kit.blobs.list(f"{leaves}/")] == []
        assert await kit.catalog.rows_of(leaves) == {}
        again = await asyncio.to_thread(system.cli, *command, "--verify")  # only looks
        assert again.returncode == 0, again.stderr
        assert "nothing is left that should be gone" in again.stdout
        assert [key async for key, _ in kit.blobs.list(f"{stays}/")] == before
        assert others.get(f"/recordings/{kept}/transcript").status_code == 200
        hits = others.post("/query", json={"query": SAID, "top_k": 1}).json()["hits"]
        assert [hit["recording_id"] for hit in hits] == [kept]


async def test_a_look_for_a_recording_fails_while_something_is_left(system: System, kit: Kit) -> None:
    recording_id = await heard(system.http)
    clean = await asyncio.to_thread(system.cli, "erase", recording_id, "--verify", "--json")
    assert clean.returncode == 0, clean.stdout + clean.stderr
    report = json.loads(clean.stdout)
    assert (report["state"], report["clean"]) == ("erased", True)
    assert bool(report["last_bytes_leave_by"]) is not kit.settings.embedded
    key = f"default/recordings/{recording_id}/came/back"
    await kit.blobs.put(key, b"x")
    try:
        left = await asyncio.to_thread(system.cli, "erase", recording_id, "--verify")
        assert left.returncode == 1
        assert "blobs: 1 objects" in left.stdout
    finally:
        await kit.blobs.delete([key])


async def test_segments_whose_audio_was_dropped_are_cut_again_and_change_nothing(system: System, kit: Kit) -> None:
    accepted = await asyncio.to_thread(system.add, EXAMPLES / "jfk.flac", collection="cut-again", language="en")
    recording_id = str(accepted["recording_id"])
    assert (await asyncio.to_thread(system.ended, recording_id))["state"] == "completed"
    await eventually(lambda: drained(kit))
    before, folder = state_of(system, recording_id), segments_folder("default", recording_id, 1)
    keys = [key async for key, _ in kit.blobs.list(folder)]
    assert keys
    await kit.blobs.delete(keys)
    replay = ("replay", "--topic", "audio.segments", "--recording", recording_id)
    assert (await asyncio.to_thread(system.cli, *replay)).returncode == 0
    log = system.data / "logs" / "transcriber.log"
    await eventually(
        lambda: f'"recording_id": "{recording_id}"' in log.read_text() and "segment_cut_again" in log.read_text()
    )
    await eventually(lambda: drained(kit), within=60)
    letters = system.http.get("/dead-letters", params={"recording_id": recording_id, "state": "all"}).json()
    assert letters["items"] == []
    assert state_of(system, recording_id) == before


async def test_the_doctor_names_a_topic_that_is_kept_otherwise_and_its_cure_works(system: System, kit: Kit) -> None:
    topic = kit.settings.topic(AUDIO_UPLOADED.name)

    def topics() -> list[dict[str, Any]]:
        checks = json.loads(system.cli("doctor", "--json").stdout)["items"]
        return [check for check in checks if check["name"] == "topics"]

    assert [check["state"] for check in await asyncio.to_thread(topics)] == ["ok"]
    await kit.log.configure({topic: {"retention.ms": "86400000"}})
    [wrong] = await asyncio.to_thread(topics)
    assert wrong["state"] == "fail"
    assert wrong["found"] == f"{topic}: retention.ms is 86400000, not 604800000"
    command = wrong["next_step"].partition(": earshot ")[2].split()
    cured = await asyncio.to_thread(system.cli, *command, "--json")
    assert json.loads(cured.stdout)["repaired"] == [
        {"topic": topic, "setting": "retention.ms", "found": "86400000", "wanted": "604800000"}
    ]
    assert [check["state"] for check in await asyncio.to_thread(topics)] == ["ok"]
