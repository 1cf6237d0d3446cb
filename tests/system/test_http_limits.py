"""What a tenant may use, over HTTP: shown, changed by who runs the system, refused at the door with the figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http_app import WAV, System, system

LIMITS = "/api/v1/tenants/default/limits"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        yield running


async def refused(web: System, **files: bytes) -> tuple[int, dict[str, str], str | None]:
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", files.get("file", WAV + b"again"))})
    return answer.status_code, answer.json(), answer.headers.get("retry-after")


async def test_limits_and_usage_are_shown_and_changed(web: System) -> None:
    shown = (await web.client.get("/api/v1/limits")).json()
    nothing = dict.fromkeys(("minutes_a_day", "recordings_in_flight", "storage_bytes"))
    assert (shown["limits"], shown["own"]) == (nothing, [])
    await web.upload()
    changed = await web.client.patch(LIMITS, json={"minutes_a_day": 90.5, "storage_bytes": "unlimited"})
    assert changed.json()["limits"] == nothing | {"minutes_a_day": 90.5}
    assert changed.json()["own"] == ["minutes_a_day", "storage_bytes"]
    assert changed.json()["used"]["recordings_in_flight"] == 1
    assert changed.json()["used"]["storage_bytes"] == len(WAV)
    assert (await web.client.patch(LIMITS, json={"minutes_a_day": None})).json()["own"] == ["storage_bytes"]
    assert (await web.client.get(LIMITS)).json() == (await web.client.get("/api/v1/limits")).json()


@pytest.mark.parametrize(
    "body", [{"minutes_a_day": 0}, {"recordings_in_flight": 1.5}, {"x": 1}, {"storage_bytes": "much"}]
)
async def test_what_is_no_limit_is_refused(web: System, body: dict[str, object]) -> None:
    assert (await web.client.patch(LIMITS, json=body)).status_code == 422


async def test_too_many_in_flight_is_429_with_the_figures_and_when_to_come_back(web: System) -> None:
    await web.client.patch(LIMITS, json={"recordings_in_flight": 1})
    await web.upload()
    status, problem, after = await refused(web)
    assert (status, problem["code"], after) == (429, "too_many_in_flight", "60")
    assert problem["detail"] == "Recordings that wait or are worked on: 1 of the 1 this tenant may have."
    assert "earshot tenants limits default --in-flight" in problem["next_step"]


async def test_minutes_are_429_until_midnight(web: System) -> None:
    first = await web.upload()
    used = (await web.client.get(LIMITS)).json()["used"]["minutes_a_day"]
    await web.client.patch(LIMITS, json={"minutes_a_day": used * 1.5})
    status, problem, after = await refused(web)
    assert (status, problem["code"]) == (429, "daily_minutes_used_up")
    assert 0 < int(after or 0) <= 86_400
    assert f"{used:.1f} min of the {used * 1.5:.1f} min" in problem["detail"]
    assert (await web.upload())["id"] == first["id"], "the same audio again is the first job"


async def test_storage_is_507_and_nothing_of_it_stays(web: System) -> None:
    await web.upload()
    await web.client.patch(LIMITS, json={"storage_bytes": len(WAV) + 1})
    status, problem, after = await refused(web)
    assert (status, problem["code"], after) == (507, "storage_used_up", None)
    assert len([key async for key, _ in web.kit.blobs.list("default/recordings/")]) == 1
