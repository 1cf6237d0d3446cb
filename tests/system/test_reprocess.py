"""Transcripts are made again: counted first, in parts, searchable all the while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.http_app import system as in_memory
from tests.system.conftest import EXAMPLES, System, start, stop

CLIPS = sorted((EXAMPLES / "sense_and_sensibility").glob("*.wav"))[:3]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[System]:
    made = start(tmp_path / "data", EARSHOT_TRANSCRIBER__ENGINE="simulated")
    yield made
    stop(made)


def answer(system: System, *arguments: str, code: int = 0) -> Any:
    done = system.cli("reprocess", *arguments, "--json")
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_recordings_of_a_fallback_go_through_again_and_stay_searchable(own: System) -> None:
    jobs = [own.ended(own.add(clip, title=clip.stem)["id"]) for clip in CLIPS]
    assert {job["state"] for job in jobs} == {"completed"}
    texts = {job["recording_id"]: _text(own, job["recording_id"]) for job in jobs}
    assert answer(own, "--where", "engine=simulated", "--dry-run") == {"matching": 3, "jobs": []}
    assert answer(own, "--where", "engine=faster-whisper") == {"matching": 0, "jobs": []}
    begun = answer(own, "--where", "engine=simulated", "--where", "degraded=true", "--limit", "2")["jobs"]
    assert [job["recording_id"] for job in begun] == [job["recording_id"] for job in jobs[:2]]
    for job in begun:
        while own.job(job["id"])["state"] not in ("completed", "failed"):
            assert own.search(texts[job["recording_id"]], recording_id=job["recording_id"])
        assert own.job(job["id"])["state"] == "completed"
        assert own.job(job["recording_id"])["revision"] == 2
        assert own.search(texts[job["recording_id"]], recording_id=job["recording_id"])
    assert own.job(jobs[2]["recording_id"])["revision"] == 1
    assert "no condition" in answer(own, "--where", "engine", code=1)


def _text(system: System, recording_id: str) -> str:
    return str(system.http.get(f"/recordings/{recording_id}/transcript", params={"format": "txt"}).text)[:200]


async def test_the_interface_counts_begins_and_refuses(tmp_path: Path) -> None:
    async with in_memory(tmp_path) as system:
        for unclear in ({}, {"dry_run": True}, {"engine": ""}, {"degraded": "perhaps"}, {"colour": "red"}):
            refused = await system.client.post("/api/v1/reprocess", json=unclear)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), unclear
        await system.upload()
        counted = await system.client.post("/api/v1/reprocess", json={"collection": "default", "dry_run": True})
        assert (counted.status_code, counted.json()["matching"]) == (200, 0), "it is under way"
        begun = await system.client.post("/api/v1/reprocess", json={"collection": "default"})
        assert (begun.status_code, begun.json()["jobs"]) == (202, [])
        assert datetime.fromisoformat(begun.json()["as_of"]) <= datetime.now(UTC)
