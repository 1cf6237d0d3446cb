"""Whole tenants erased over HTTP, what is left of what was erased, and how long recordings are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from earshot.eraser.app import create_sweeper
from earshot.eraser.settings import EraserSettings
from earshot.kernel.codec import Record
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, all_topics
from tests.fakes_log import FakeLog
from tests.fakes_vectors import FakeVectors
from tests.http_app import WAV, System, system
from tests.waiting import eventually

SCHOOL = "school"


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        running.kit.log, running.kit.vectors = FakeLog({topic.name: 1 for topic in all_topics()}), FakeVectors()
        await running.client.post("/api/v1/tenants", json={"id": SCHOOL})
        yield running


async def key_of(web: System, tenant: str, *scopes: str) -> dict[str, str]:
    """Headers of a new key of a tenant."""
    wished = {"name": "a key", "tenant": tenant, "scopes": scopes or ["read", "write", "erase", "admin"]}
    made = (await web.client.post("/api/v1/keys", json=wished)).json()
    return {"Authorization": f"Bearer {made['key']}"}


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def sent(web: System, key: dict[str, str], content: bytes = WAV):
    return await web.client.post("/api/v1/ingest", files={"file": ("a.wav", content)}, headers=key)


async def swept(web: System, tenant: str) -> None:
    """What eraser and sweeper do, without a broker between."""
    sweeper = create_sweeper(web.kit, EraserSettings(_env_file=None))
    await sweeper.round()
    for recording_id in await web.kit.catalog.recording_ids(tenant):
        await web.kit.catalog.forget(tenant, recording_id)
        await web.kit.catalog.source_gone(tenant, recording_id)
    await sweeper.round()


async def test_a_tenant_erases_itself_and_its_neighbour_stays(web):
    key = await key_of(web, SCHOOL)
    first = (await sent(web, key)).json()
    kept = (await web.upload())["recording_id"]
    path = f"/api/v1/tenants/{SCHOOL}"
    assert (await web.client.get(f"{path}/erasure", headers=key)).json()["state"] == "live"
    answer = await web.client.delete(path, headers=key)
    assert (answer.status_code, answer.headers["location"]) == (202, f"{path}/erasure")
    assert answer.json() | {"since": ""} == {
        "tenant": SCHOOL, "state": "erasing", "since": "", "recordings": 1, "left": 1, "done_at": None,
        "found": None, "clean": None, "complete": None, "last_bytes_leave_by": None,
    }  # fmt: skip
    assert (await web.client.get(first["links"]["recording"], headers=key)).status_code == 404
    refused = await sent(web, key, WAV + b"2")
    assert code(refused) == (409, "tenant_being_erased")
    assert f"{path}/erasure" in refused.json()["next_step"]
    await swept(web, SCHOOL)

    async def locked_out() -> bool:
        return (await web.client.get(f"{path}/erasure", headers=key)).status_code == 401

    await eventually(locked_out)  # its keys are gone as well, and what is remembered of them a second later
    done = (await web.client.get(f"{path}/erasure", params={"look": True})).json()
    assert (done["state"], done["left"], done["found"], done["clean"], done["complete"]) == (
        "erased",
        0,
        [],
        True,
        True,
    )
    assert done["done_at"] is not None
    assert (await web.client.get(f"/api/v1/recordings/{kept}")).status_code == 200
    assert (await sent(web, await key_of(web, SCHOOL))).status_code == 202
    assert (await web.client.get(f"{path}/erasure")).json()["state"] == "live"


async def test_only_a_tenants_own_admin_and_who_runs_all_may_erase_it(web):
    admin, eraser = await key_of(web, SCHOOL), await key_of(web, SCHOOL, "read", "write", "erase")
    await web.upload()
    for method, path in (
        ("DELETE", "/tenants/default"),
        ("GET", "/tenants/default/erasure"),
        ("GET", "/tenants/nowhere/erasure"),
        ("GET", "/tenants/default/retention"),
    ):
        assert code(await web.client.request(method, f"/api/v1{path}", headers=admin)) == (404, "unknown_tenant")
    assert code(await web.client.delete(f"/api/v1/tenants/{SCHOOL}", headers=eraser)) == (403, "scope_missing")
    body = {"retain_days": 1}
    elsewhere = await web.client.put("/api/v1/tenants/default/retention", json=body, headers=admin)
    assert code(elsewhere) == (404, "unknown_tenant")
    assert await web.kit.catalog.leaving() == []
    assert (await web.client.get("/api/v1/recordings")).json()["items"]
    assert (await web.client.delete(f"/api/v1/tenants/{SCHOOL}")).status_code == 202


async def test_it_is_told_how_far_a_recordings_erasure_is_and_what_is_left(web):
    recording_id = (await web.upload())["recording_id"]
    path = f"/api/v1/recordings/{recording_id}/erasure"
    live = (await web.client.get(path)).json()
    assert (live["state"], live["erased_at"], live["found"]) == ("live", None, None)
    await web.client.delete(f"/api/v1/recordings/{recording_id}")
    erasing = (await web.client.get(path, params={"look": True})).json()
    assert (erasing["state"], erasing["gone_at"], erasing["clean"]) == ("erasing", None, False)
    assert {find["place"] for find in erasing["found"]} == {"catalog", "blobs"}
    await web.kit.blobs.delete([f"default/recordings/{recording_id}/source"])
    await web.kit.catalog.source_gone("default", recording_id)
    web.kit.log.records.append(Record(AUDIO_TRANSCRIPTS.name, f"{recording_id}:0".encode(), b"x", (), 0, 0, 1))
    came_back = (await web.client.get(path, params={"look": True})).json()
    assert came_back["state"] == "erased"
    assert [find["place"] for find in came_back["found"] if find["wrong"]] == ["audio.transcripts"]
    key = await key_of(web, SCHOOL)
    assert code(await web.client.get(path, headers=key)) == (404, "unknown_recording")


async def test_how_long_recordings_are_kept_is_said_by_tenant_and_by_collection(web):
    path, collection = "/api/v1/tenants/default/retention", "/api/v1/collections/talks"
    assert (await web.client.get(path)).json() == {"retain_days": None}
    assert (await web.client.put(path, json={"retain_days": 30})).json() == {"retain_days": 30}
    assert (await web.client.get(path)).json() == {"retain_days": 30}
    answer = await web.client.patch(collection, json={"retain_days": 5, "segment_audio_days": 0})
    assert (answer.json()["retain_days"], answer.json()["segment_audio_days"]) == (5, 0)
    await web.client.patch(collection, json={"hotwords": "x"})
    assert (await web.client.get(collection)).json()["retain_days"] == 5
    await web.client.patch(collection, json={"retain_days": None})
    assert (await web.client.get(collection)).json()["retain_days"] is None
    for wrong in ({}, {"retain_days": 0}, {"retain_days": 40_000}, {"retain_days": "x"}, {"days": 3}):
        assert code(await web.client.put(path, json=wrong)) == (422, "invalid_request")
    assert code(await web.client.patch(collection, json={"segment_audio_days": -1})) == (422, "invalid_request")
    writer = await key_of(web, SCHOOL, "read", "write")
    assert (await web.client.patch(collection, json={"hotwords": "x"}, headers=writer)).status_code == 200
    shortened = await web.client.patch(collection, json={"retain_days": 1}, headers=writer)
    assert code(shortened) == (403, "scope_missing")  # it would erase what is there
