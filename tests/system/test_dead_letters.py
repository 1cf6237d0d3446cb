"""``earshot dlq`` on a running system: see what failed, mend the cause, send it again."""

from __future__ import annotations

import json
import shutil
from typing import Any
from uuid import uuid4

from earshot.kernel import ids
from tests.system.conftest import EXAMPLES, System
from tests.waiting import eventually_sync


def letters(system: System, recording_id: str, state: str = "open") -> list[dict[str, Any]]:
    listed = system.cli("dlq", "list", "--recording", recording_id, "--state", state, "--json")
    return list(json.loads(listed.stdout)["items"])


def upload(system: System, uri: str, recording_id: str, revision: int = 1) -> None:
    event = {"recording_id": recording_id, "revision": revision, "uri": uri, "title": "Late"}
    published = system.cli("events", "publish", "audio.uploaded", input=json.dumps(event))
    assert published.returncode == 0, published.stderr


def test_what_failed_for_a_missing_blob_completes_when_it_is_replayed(system: System) -> None:
    folder = system.data / "blobs" / "default" / "foreign"
    late, recording_id = folder / f"{uuid4()}.flac", str(uuid4())
    upload(system, late.as_uri(), recording_id)
    eventually_sync(lambda: letters(system, recording_id), within=60)
    assert system.ended(recording_id)["error"]["code"] == "blob_missing"
    [letter] = letters(system, recording_id)
    assert (letter["stage"], letter["code"]) == ("segmenter", "blob_missing")

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "jfk.flac", late)
    assert system.cli("dlq", "replay", letter["id"]).returncode == 0
    eventually_sync(lambda: system.job(recording_id)["state"] == "completed", within=120)
    assert "country" in system.http.get(f"/recordings/{recording_id}/transcript?format=txt").text
    assert letters(system, recording_id) == []
    assert [each["id"] for each in letters(system, recording_id, "replayed")] == [letter["id"]]

    again = system.cli("dlq", "replay", letter["id"])
    assert again.returncode == 0, again.stderr
    passages = [hit["start_ms"] for hit in system.search("ask not what your country", recording_id=recording_id)]
    assert len(passages) == len(set(passages))


def test_a_replay_brings_nothing_back_that_was_erased(system: System) -> None:
    late, recording_id = system.data / "blobs" / "default" / "foreign" / f"{uuid4()}.flac", str(uuid4())
    upload(system, late.as_uri(), recording_id)
    eventually_sync(lambda: letters(system, recording_id), within=60)
    [letter] = letters(system, recording_id)
    assert system.http.delete(f"/recordings/{recording_id}").status_code < 300
    late.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "jfk.flac", late)
    answer = system.http.post("/dead-letters/replay", json={"ids": [letter["id"]]})
    assert answer.status_code in (200, 404)  # the embedded log forgets at once what was erased
    slot = ids.slot(recording_id, 0) % 48
    marker = next(each for each in iter(lambda: str(uuid4()), "") if ids.slot(each, 0) % 48 == slot)
    upload(system, (late.parent / f"{marker}.flac").as_uri(), marker)
    eventually_sync(lambda: letters(system, marker), within=60)  # so is what came before it on its partition
    assert system.http.get(f"/recordings/{recording_id}").status_code == 404
    assert letters(system, recording_id) == []
