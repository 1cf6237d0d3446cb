"""A correction goes through the whole system: found at its second, and nothing of what it corrects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import System

TITLE = "Cell biology"
VTT = """WEBVTT

00:00:01.000 --> 00:00:05.000
<v Ann>Welcome to the second lecture of this term.

00:01:00.000 --> 00:01:04.000
<v Ann>The mighty condrion makes energy for the cell.

00:02:00.000 --> 00:02:03.000
<v Bo>Does every cell have one of these?
"""


@pytest.fixture
def lecture(system: System, tmp_path: Path) -> str:
    """A lecture in which one word was misunderstood; its id."""
    (tmp_path / "lecture.vtt").write_text(VTT)
    accepted = system.add(tmp_path / "lecture.vtt", title=TITLE, collection="edits")
    assert system.ended(accepted["id"])["state"] == "completed"
    return str(accepted["recording_id"])


def found(system: System, recording_id: str, word: str) -> list[dict[str, Any]]:
    """What a search for one word finds by that word."""
    body = {"query": word, "top_k": 5, "mode": "keyword", "filters": {"recording_id": recording_id}}
    return list(system.http.post("/query", json=body).raise_for_status().json()["hits"])


def edit(system: System, *arguments: str) -> Any:
    done = system.cli("edit", *arguments, "--json")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_corrected_words_are_found_at_their_second_and_the_old_ones_are_not(system: System, lecture: str) -> None:
    [before] = found(system, lecture, "condrion")
    text = "The mitochondrion makes energy for the cell."
    job = edit(system, lecture, "--segment", "1", "--text", text, "--tag", "exam")["job"]
    assert (job["revision"], job["recording_id"]) == (2, lecture)
    assert system.ended(job["id"])["state"] == "completed"
    [after] = found(system, lecture, "mitochondrion")
    assert (after["text"], after["speakers"], after["title"]) == (text, ["Ann"], TITLE)
    assert after["start_ms"] == before["words"][1]["start_ms"], "where the first of the words it replaces was said"
    assert [word["start_ms"] for word in after["words"][2:]] == [word["start_ms"] for word in before["words"][3:]]
    assert found(system, lecture, "condrion") == []
    assert [hit["speakers"] for hit in found(system, lecture, "every")] == [["Bo"]], "what was not corrected stays"
    original = system.http.get(f"/recordings/{lecture}/transcript", params={"revision": 1}).raise_for_status().json()
    assert original["segments"][1]["text"] == "The mighty condrion makes energy for the cell."
    back = edit(system, lecture, "--restore", "1")["job"]
    assert system.ended(back["id"])["state"] == "completed"
    assert [hit["start_ms"] for hit in found(system, lecture, "condrion")] == [before["start_ms"]]
    assert found(system, lecture, "mitochondrion") == []
    kinds = [(each["revision"], each["kind"]) for each in edit(system, lecture)["revisions"]]
    assert kinds == [(3, "restored"), (2, "edited"), (1, "transcribed")]


def test_another_date_is_searched_by(system: System, lecture: str) -> None:
    recorded = {"query": "lecture", "filters": {"recording_id": lecture, "from": "2026-03-01T00:00:00Z"}}
    assert system.http.post("/query", json=recorded).raise_for_status().json()["hits"] == []
    change = {"recorded_at": "2026-03-01T09:00:00Z"}
    job = system.http.patch(f"/recordings/{lecture}", json=change).raise_for_status().json()["job"]
    assert system.ended(job["id"])["state"] == "completed"
    assert system.http.post("/query", json=recorded).raise_for_status().json()["hits"]


def test_a_correction_survives_stages_that_die_and_hides_nothing_until_it_is_there(
    embedded: System, tmp_path: Path
) -> None:
    (tmp_path / "lecture.vtt").write_text(VTT)
    added = embedded.add(tmp_path / "lecture.vtt", collection="edits-of-survivors")
    lecture = str(embedded.ended(added["id"])["recording_id"])
    stages = [each for each in psutil.Process(embedded.process.pid).children() if _does(each, "embedder", "indexer")]
    assert len(stages) == 2
    for stage in stages:
        stage.suspend()
    try:
        job = edit(embedded, lecture, "--segment", "1", "--text", "The mitochondrion makes energy.")["job"]
        assert found(embedded, lecture, "condrion"), "the old words are found while the new ones are on their way"
    finally:
        for stage in stages:
            stage.kill()
    assert embedded.ended(job["id"])["state"] == "completed"
    assert [hit["start_ms"] // 1000 for hit in found(embedded, lecture, "mitochondrion")] == [60]
    assert found(embedded, lecture, "condrion") == []


def _does(process: psutil.Process, *stages: str) -> bool:
    """Whether a process does one of these stages' work."""
    return any(stage in process.cmdline() for stage in stages)
