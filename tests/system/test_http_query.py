"""What the query service shows: jobs, recordings, transcripts, audio, health."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from earshot.kernel.errors import Unavailable
from earshot.kernel.events import AudioUploaded, Engine, Quality, SegmentTranscribed, StageProgressed
from earshot.kernel.ids import new_recording_id
from earshot.kernel.ports import Heartbeat, SpanRow, StoredSegment
from earshot.query.settings import QuerySettings
from tests.http_app import SRT, WAV, System, system
from tests.waiting import eventually

STAGES = ("segmenter", "transcriber", "embedder", "indexer")


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        running.app.state.streams.settings = QuerySettings(_env_file=None, events_interval_s=0.01)
        yield running


async def process(web: System, accepted: dict, texts: list[str | None]) -> None:
    """Play the stages: each text is a segment of a second, ``None`` one that fails."""
    about = {"tenant": "default", "recording_id": accepted["recording_id"], "revision": 1}
    events = []
    for index, text in enumerate(texts):
        where = about | {"index": index, "start_ms": index * 1000, "end_ms": index * 1000 + 1000}
        if text is None:
            failed = {"stage": "transcriber", "state": "failed", "code": "engine_rejected", "detail": "Too loud."}
            events.append(StageProgressed.model_validate(where | failed))
            continue
        segment = SegmentTranscribed.model_validate(where | {"text": text, "engine": {"name": "test"}})
        await web.kit.catalog.store([StoredSegment(segment, None)])
        events += [StageProgressed.model_validate(where | {"stage": stage, "state": "done"}) for stage in STAGES]
    whole = about | {"stage": "segmenter", "state": "done", "segments_total": len(texts), "end_ms": len(texts) * 1000}
    await web.kit.catalog.record([*events, StageProgressed.model_validate(whole)])


async def test_a_job_shows_its_stages_and_either_id_finds_it(web):
    accepted = await web.upload()
    await process(web, accepted, ["one", "two"])
    by_job = (await web.client.get(f"/api/v1/jobs/{accepted['id']}")).json()
    by_recording = (await web.client.get(f"/api/v1/jobs/{accepted['recording_id']}")).json()
    assert by_job == by_recording
    assert (by_job["state"], by_job["segments_total"]) == ("completed", 2)
    assert by_job["stages"]["indexer"] == {"done": 2, "total": 2, "failed": 0}
    assert (await web.client.get(f"/api/v1/recordings/{accepted['id']}")).json()["id"] == accepted["recording_id"]


async def test_a_failed_segment_is_a_problem_with_its_time_and_a_gap_in_the_transcript(web):
    accepted = await web.upload()
    await process(web, accepted, ["one", None, "three"])
    job = (await web.client.get(f"/api/v1/jobs/{accepted['id']}")).json()
    assert job["state"] == "failed"
    assert {"type", "title", "status", "detail", "code", "trace_id", "next_step"} <= set(job["error"])
    assert [(gap["start_ms"], gap["end_ms"]) for gap in job["error"]["missing"]] == [(1000, 2000)]
    transcript = (await web.client.get(f"/api/v1/recordings/{accepted['id']}/transcript")).json()
    assert [part.get("missing", False) for part in transcript["segments"]] == [False, True, False]
    retried = await web.client.post(f"/api/v1/jobs/{accepted['id']}/retry")
    assert (retried.status_code, retried.json()["revision"]) == (202, 2)


async def test_a_transcript_in_four_formats(web):
    accepted = await web.upload()
    await process(web, accepted, ["Ask not", "what"])
    path = f"/api/v1/recordings/{accepted['recording_id']}/transcript"
    shown = {kind: await web.client.get(path, params={"format": kind}) for kind in ("json", "txt", "srt", "vtt")}
    assert {"recording_id", "revision", "language", "duration_ms", "speakers", "segments"} == set(shown["json"].json())
    assert shown["txt"].text == "Ask not\nwhat\n"
    assert shown["srt"].text.startswith("1\n00:00:00,000 --> 00:00:01,000\nAsk not\n\n2\n")
    assert shown["vtt"].text.startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert shown["vtt"].headers["content-type"] == "text/vtt; charset=utf-8"
    assert (await web.client.get(path, params={"format": "pdf"})).json()["code"] == "invalid_request"


async def test_an_export_can_be_imported_again(web):
    accepted = await web.upload()
    await process(web, accepted, ["Ask not", "what"])
    path = f"/api/v1/recordings/{accepted['recording_id']}/transcript"
    for kind in ("json", "srt", "vtt"):
        exported = (await web.client.get(path, params={"format": kind})).content
        again = await web.send_transcript(exported, collection=kind)
        assert again["recording_id"] != accepted["recording_id"]


async def test_events_of_a_job_come_at_every_change_and_end_with_it(web):
    accepted = await web.upload()
    url = accepted["links"]["events"]

    async def read() -> list[dict]:
        answer = await web.client.get(url)
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines]

    reading = asyncio.create_task(read())
    await eventually(lambda: web.app.state.streams.open == 1)
    await process(web, accepted, ["one"])
    seen = await asyncio.wait_for(reading, 10)
    assert (seen[0]["state"], seen[-1]["state"]) == ("pending", "completed")
    assert web.app.state.streams.open == 0
    again = await web.client.get(url, headers={"Last-Event-ID": str(seen[-1]["version"])})
    assert "data:" not in again.text
    for nonsense in ("x", "-1", "9" * 5000):
        assert "completed" in (await web.client.get(url, headers={"Last-Event-ID": nonsense})).text


async def test_one_event_stream_too_many_is_refused(web):
    accepted = await web.upload()
    web.app.state.streams.open = web.app.state.streams.settings.max_event_streams
    answer = await web.client.get(accepted["links"]["events"])
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")


async def test_cancelling_works_once(web):
    accepted = await web.upload()
    url = f"/api/v1/jobs/{accepted['id']}"
    assert (await web.client.delete(url)).json()["state"] == "cancelled"
    again = await web.client.delete(url)
    assert (again.status_code, again.json()["code"]) == (409, "not_cancellable")


async def test_erased_is_not_shown_any_more(web):
    accepted = await web.upload()
    url = f"/api/v1/recordings/{accepted['recording_id']}"
    assert (await web.client.delete(url)).status_code == 204
    for path in (url, f"{url}/transcript", f"{url}/audio"):
        assert (await web.client.get(path)).status_code == 404
    assert (await web.client.delete(url)).json()["code"] == "unknown_recording"
    assert (await web.client.get("/api/v1/recordings")).json() == {"items": [], "next": None}


async def test_the_list_is_read_page_by_page(web):
    uploaded = [(await web.upload(WAV + bytes([n])))["recording_id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        page = (
            await web.client.get("/api/v1/recordings", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == uploaded[::-1]


async def test_a_recording_says_how_it_sounds_and_the_list_is_asked_for_those_that_sound_well(web):
    uploads = [await web.upload(WAV + bytes([n])) for n in range(3)]
    for accepted, quality in zip(uploads, (Quality(snr_db=8.0), Quality(snr_db=25.5, bandwidth_hz=8000)), strict=False):
        about = {"recording_id": accepted["recording_id"], "stage": "segmenter", "state": "done", "segments_total": 1}
        await web.kit.catalog.record([StageProgressed(**about, end_ms=1000, quality=quality)])
    shown = [(await web.client.get(f"/api/v1/recordings/{one['id']}")).json()["quality"] for one in uploads]
    assert [quality and quality["snr_db"] for quality in shown] == [8.0, 25.5, None]
    page = (await web.client.get("/api/v1/recordings", params={"min_snr_db": 20, "min_bandwidth_hz": 8000})).json()
    assert [item["id"] for item in page["items"]] == [uploads[1]["recording_id"]]
    for wrong in ({"min_snr_db": "loud"}, {"min_snr_db": "nan"}, {"max_clipped_ratio": 2}):
        assert (await web.client.get("/api/v1/recordings", params=wrong)).status_code == 422


@pytest.mark.parametrize("cursor", ["x", "W10=", "é", "WyIyMDI2LTAxLTAxIiwgImEiXQ==", "bnVsbA==", "MQ=="])
async def test_a_cursor_that_is_none_is_refused(web, cursor):
    answer = await web.client.get("/api/v1/recordings", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize("path", ["%00", "é", "x" * 200, "..%2f..", "' OR 1=1 --", "%F0%9F%98%80"])
async def test_ids_that_are_none_are_not_found(web, path):
    for url in (f"/api/v1/jobs/{path}", f"/api/v1/recordings/{path}", f"/api/v1/recordings/{path}/audio"):
        answer = await web.client.get(url)
        assert answer.status_code in (404, 422)
        assert answer.headers["content-type"] == "application/problem+json"


# --- audio ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        (None, 200, slice(None)),
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=4-", 206, slice(4, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=0-999999", 206, slice(None)),
        ("bytes=-999999", 206, slice(None)),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=x", 200, slice(None)),
    ],
)
async def test_audio_is_played_by_ranges(web, asked, status, part):
    accepted = await web.upload()
    answer = await web.client.get(accepted["links"]["audio"], headers={"Range": asked} if asked else {})
    assert (answer.status_code, answer.content) == (status, WAV[part])
    assert (answer.headers["content-type"], answer.headers["accept-ranges"]) == ("audio/wav", "bytes")
    if status == 206:
        first = len(WAV) - len(WAV[part]) if part.stop is None else 0
        assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(WAV)}"


async def test_what_a_foreign_producer_claims_of_its_audio_reaches_no_header(web):
    key, claim = "default/incoming/talk.wav", "x\r\nset-cookie: a=b\u2028"
    await web.kit.blobs.put(key, WAV)
    foreign = AudioUploaded(
        recording_id=new_recording_id(), uri=web.kit.blobs.uri(key), sha256=claim, media_type=f"text/html{claim}"
    )
    await web.kit.catalog.adopt(foreign, key, {})
    answer = await web.client.get(f"/api/v1/recordings/{foreign.recording_id}/audio")
    assert (answer.status_code, answer.content) == (200, WAV)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers
    known = {"If-None-Match": answer.headers["etag"]}
    assert (await web.client.get(f"/api/v1/recordings/{foreign.recording_id}/audio", headers=known)).status_code == 304


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=-0"])
async def test_a_range_outside_is_refused(web, asked):
    accepted = await web.upload()
    answer = await web.client.get(accepted["links"]["audio"], headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(WAV)}")


async def test_a_transcript_without_audio_has_none_to_play(web):
    accepted = await web.send_transcript()
    answer = await web.client.get(accepted["links"]["audio"])
    assert (answer.status_code, answer.json()["code"]) == (404, "no_audio")


async def test_audio_beside_a_transcript_is_kept_for_playback(web):
    files = {"file": ("a.wav", WAV), "transcript": ("a.srt", SRT)}
    accepted = (await web.client.post("/api/v1/ingest", files=files)).json()
    assert (await web.client.get(accepted["links"]["audio"])).content == WAV


# --- what this is, and how it is --------------------------------------------------------------------------------


async def beat(web: System, stage: str, state: str = "running", reason: str = "", **info: object) -> None:
    await web.kit.catalog.beat(Heartbeat(stage, "w1", state, reason, datetime.now(UTC), info))  # type: ignore[arg-type]


async def test_the_engines_in_use_are_named_and_a_fallback_is_said(web):
    engine = Engine(name="pocketsphinx", model="en-us", digest="", device="cpu", degraded=True, reason="Pull a model.")
    chain = [{"engine": "base on cpu", "state": "resting", "reason": "Pull a model."}]
    await beat(web, "transcriber", engine=engine.model_dump(), chain=chain, lag=3)
    await beat(web, "indexer", lag=5)
    about = (await web.client.get("/api/v1/")).json()
    (only,) = about["engines"]
    assert (only["stage"], only["engine"]["name"]) == ("transcriber", "pocketsphinx")
    assert only["chain"] == chain
    assert about["degraded"] == ["transcriber: Pull a model."]


async def test_ready_names_each_part_and_what_is_wrong_with_it(web):
    for stage in QuerySettings(_env_file=None).stages:
        await beat(web, stage)
    answer = await web.client.get("/health/ready")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    gone = Unavailable("broker", "Nobody listens at kafka:9092.", next_step="Start it.")
    web.kit.log.failure = gone  # type: ignore[attr-defined]
    await beat(web, "indexer", "paused", "The vector store does not answer.", lag=120)
    answer = await web.client.get("/health/ready")
    assert answer.status_code == 503
    broker, indexer = answer.json()["dependencies"]["broker"], answer.json()["stages"]["indexer"]
    assert (broker["ok"], broker["detail"]) == (False, "Nobody listens at kafka:9092.")
    assert broker["next_step"] == "Start it."
    assert (indexer["ok"], indexer["detail"]) == (False, "The vector store does not answer.")
    assert indexer["lag"] == 120
    assert answer.json()["stages"]["tracker"]["ok"]


async def test_ready_for_a_load_balancer_does_not_look_at_the_stages(web):
    assert (await web.client.get("/health/ready")).status_code == 503
    assert (await web.client.get("/health/ready", params={"stages": "false"})).status_code == 200


async def test_metrics_count_by_route_and_not_by_path(web):
    for name in ("a", "b", "c"):
        await web.client.get(f"/api/v1/jobs/{name}")
    text = (await web.client.get("/metrics")).text
    line = 'earshot_http_requests_total{method="GET",route="/api/v1/jobs/{id}",status="404"} 3.0'
    assert line in text


async def test_the_trace_of_a_job_is_shown_from_its_start(web):
    accepted = await web.upload()
    job = await web.kit.catalog.job("default", accepted["id"])
    assert job is not None
    row = SpanRow(
        job.trace_id, "b" * 16, None, "web", "POST", 1_000_000, 3_000_000, "default", job.recording_id, "", {}
    )
    await asyncio.to_thread(web.kit.catalog.write, [row])
    shown = (await web.client.get(f"/api/v1/jobs/{accepted['id']}/trace")).json()
    assert [(span["start_ms"], span["duration_ms"]) for span in shown["spans"]] == [(0, 2)]


async def test_one_openapi_document_has_every_route_with_problems_and_examples(web):
    document = (await web.client.get("/openapi.json")).json()
    for path in (
        "/api/v1/ingest",
        "/api/v1/query",
        "/api/v1/jobs/{id}/events",
        "/api/v1/recordings/{id}/transcript",
        "/health/ready",
    ):
        assert path in document["paths"]
    problem = document["paths"]["/api/v1/ingest"]["post"]["responses"]["422"]["content"]
    assert list(problem) == ["application/problem+json"]
    assert "Problem" in document["components"]["schemas"]
    form = document["paths"]["/api/v1/ingest"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) >= {"file", "transcript", "title", "collection", "metadata"}


async def test_pages_need_nothing_from_elsewhere(web):
    for path in ("/", "/docs", "/ui/app.js", "/ui/docs.js", "/ui/style.css"):
        answer = await web.client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org", "")
        assert "https://" not in answer.text
