"""Who speaks, over HTTP: turns and names in transcripts, lists, problems."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from earshot.kernel.events import Engine, SegmentTranscribed, StageProgressed, Word
from earshot.kernel.ids import new_recording_id
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports import Heartbeat, StoredSegment
from tests.fakes_speakers import FakeDiarizer, found, turn
from tests.http_app import System, system


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        yield running


def words(*texts: str) -> list[Word]:
    """A word a second."""
    return [
        Word(text=text, start_ms=at * 1000, end_ms=at * 1000 + 800, confidence=None, speaker=None)
        for at, text in enumerate(texts)
    ]


async def spoken(web: System) -> str:
    """A recording in which two people speak, transcribed and diarized; its id."""
    recording_id = str((await web.upload())["recording_id"])
    segment = SegmentTranscribed(
        recording_id=recording_id, index=0, start_ms=0, end_ms=6000, text="Who are you? I am Bob. Ah!",
        words=words("Who", "are", "you?", "I", "am", "Bob."), engine=Engine(name="test"),
    )  # fmt: skip
    await web.kit.catalog.store([StoredSegment(segment, None)])
    turns = (turn("SPEAKER_00", 0, 3000), turn("SPEAKER_01", 2900, 6000))
    await web.kit.catalog.store_turns(found(recording_id, *turns))
    return recording_id


async def name(web: System, recording_id: str, names: dict) -> dict:
    headers = {"Content-Type": "application/json"}
    path = f"/api/v1/recordings/{recording_id}/speakers"
    answer = await web.client.patch(path, content=json.dumps(names), headers=headers)
    return {"status": answer.status_code, **answer.json()}


async def transcript(web: System, recording_id: str, form: str):
    answer = await web.client.get(f"/api/v1/recordings/{recording_id}/transcript", params={"format": form})
    return answer.json() if form == "json" else answer.text


async def test_names_are_shown_everywhere_and_may_be_taken_away(web):
    recording_id = await spoken(web)
    listed = (await web.client.get(f"/api/v1/recordings/{recording_id}/speakers")).json()
    assert listed == {
        "items": [
            {"label": "SPEAKER_00", "name": None, "spoken_ms": 3000},
            {"label": "SPEAKER_01", "name": None, "spoken_ms": 3100},
        ],
        "next": None,
    }
    before = await transcript(web, recording_id, "json")
    assert before["speakers"] == ["SPEAKER_00", "SPEAKER_01"]
    assert [word["speaker"] for word in before["segments"][0]["words"]] == ["SPEAKER_00"] * 3 + ["SPEAKER_01"] * 3
    named = await name(web, recording_id, {"SPEAKER_00": "  Ada <i>Lovelace</i> ", "SPEAKER_01": "Bob"})
    assert (named["status"], [item["name"] for item in named["items"]]) == (200, ["Ada <i>Lovelace</i>", "Bob"])
    after = await transcript(web, recording_id, "json")
    assert after["speakers"] == ["Ada <i>Lovelace</i>", "Bob"]
    assert after["segments"][0]["words"][3]["speaker"] == "Bob"
    assert "<v Bob>I am Bob." in await transcript(web, recording_id, "vtt")
    assert await transcript(web, recording_id, "txt") == "Ada <i>Lovelace</i>: Who are you?\nBob: I am Bob.\n"
    await name(web, recording_id, {"SPEAKER_01": None})
    assert (await transcript(web, recording_id, "json"))["speakers"] == ["Ada <i>Lovelace</i>", "SPEAKER_01"]


@pytest.mark.parametrize("bad", ["", "   ", "x" * 101, "a\nb", "a\x00b", "\u202egnp.exe", "a\u2028b", "a\ud800", 7])
async def test_a_name_is_what_can_be_seen_and_short(web, bad):
    recording_id = await spoken(web)
    answer = await name(web, recording_id, {"SPEAKER_00": bad})
    assert (answer["status"], answer["code"]) == (422, "invalid_request")
    assert (await web.client.get(f"/api/v1/recordings/{recording_id}/speakers")).json()["items"][0]["name"] is None


async def test_a_name_may_be_of_any_script(web):
    recording_id = await spoken(web)
    for good in ("日本 太郎", "O'Brien; DROP TABLE", "علی\u200cرضا", "Zoë 🎙"):  # noqa: RUF001 - other scripts
        assert (await name(web, recording_id, {"SPEAKER_00": good}))["items"][0]["name"] == good


async def test_an_unknown_label_is_refused_and_nothing_is_named(web):
    recording_id = await spoken(web)
    answer = await name(web, recording_id, {"SPEAKER_00": "Ada", "SPEAKER_07": "Eve"})
    assert (answer["status"], answer["code"]) == (422, "unknown_speaker")
    assert "'SPEAKER_07'" in answer["detail"]
    assert "SPEAKER_00, SPEAKER_01" in answer["detail"]
    assert recording_id in answer["next_step"]
    assert (await web.client.get(f"/api/v1/recordings/{recording_id}/speakers")).json()["items"][0]["name"] is None
    assert (await name(web, recording_id, {}))["status"] == 422
    assert (await name(web, new_recording_id(), {"SPEAKER_00": "Ada"}))["status"] == 404


async def test_speakers_of_an_imported_transcript_are_named_too(web):
    vtt = b"WEBVTT\n\n00:00.000 --> 00:02.000\n<v Ann>Hello.\n\n00:02.000 --> 00:03.500\n<v Bo>Hi.\n"
    recording_id = (await web.send_transcript(vtt))["recording_id"]
    answer = await name(web, recording_id, {"Ann": "Dr. Ann"})
    assert [(item["label"], item["name"]) for item in answer["items"]] == [("Ann", "Dr. Ann"), ("Bo", None)]
    assert "<v Dr. Ann>Hello." in await transcript(web, recording_id, "vtt")


async def test_what_is_erased_has_no_speakers_and_no_names(web):
    recording_id = await spoken(web)
    await name(web, recording_id, {"SPEAKER_00": "Ada"})
    assert (await web.client.delete(f"/api/v1/recordings/{recording_id}")).status_code == 204
    assert (await web.client.get(f"/api/v1/recordings/{recording_id}/speakers")).status_code == 404
    assert await web.kit.catalog.voices("default", [recording_id]) == {}
    assert await web.kit.catalog.speakers_named("default", "Ada", 10) == []


async def beat(web: System, info: dict) -> None:
    await web.kit.catalog.beat(Heartbeat(SPEAKER_STAGE, "w", "running", "", datetime.now(UTC), info))


async def test_diarization_that_is_off_says_why_and_nothing_waits_for_it(web):
    """And what waits for one that was switched off meanwhile says so in its stages."""
    about = (await web.client.get("/api/v1/")).json()["diarization"]
    assert about["on"] is False
    assert "earshot worker diarizer" in about["detail"]
    await beat(web, {"off": "pyannote.audio is not installed. Install it: pip install x"})
    about = (await web.client.get("/api/v1/")).json()["diarization"]
    assert about == {
        "on": False,
        "detail": "Diarization is off: speakers are not told apart. "
        "pyannote.audio is not installed. Install it: pip install x",
    }
    job = await web.upload()
    assert (await web.client.get(f"/api/v1/jobs/{job['id']}")).json()["stages"] == {}


async def test_a_job_waits_for_a_diarizer_that_is_on_and_shows_it(web):
    await beat(web, {"engine": FakeDiarizer.engine.model_dump()})
    assert (await web.client.get("/api/v1/")).json()["diarization"] == {
        "on": True, "detail": "pyannote.audio with fake on cpu",
    }  # fmt: skip
    job = await web.upload()
    whole = {"recording_id": job["recording_id"], "stage": "segmenter", "state": "done", "segments_total": 0}
    await web.kit.catalog.record([StageProgressed.model_validate(whole | {"end_ms": 1000})])
    waiting = (await web.client.get(f"/api/v1/jobs/{job['id']}")).json()
    assert (waiting["state"], waiting["stages"]["diarizer"]) == ("running", {"done": 0, "total": 1, "failed": 0})
    line = {"recording_id": job["recording_id"], "stage": "diarizer"}
    await web.kit.catalog.record([StageProgressed.model_validate(line | {"state": "failed", "detail": "Too long."})])
    failed = (await web.client.get(f"/api/v1/jobs/{job['id']}")).json()
    assert (failed["state"], failed["stages"]["diarizer"]["failed"]) == ("failed", 1)
    assert (failed["error"]["detail"], failed["error"]["missing"]) == ("Too long.", [])
    await web.kit.catalog.record([StageProgressed.model_validate(line | {"state": "done"})])
    assert (await web.client.get(f"/api/v1/jobs/{job['id']}")).json()["state"] == "completed"
