"""Corrections over HTTP: preconditions, revisions, problems."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from earshot.kernel.events import StageProgressed
from earshot.kernel.ids import new_recording_id
from tests.fakes_speakers import found, turn
from tests.http_app import System, system

VTT = b"WEBVTT\n\n00:00.000 --> 00:02.000\n<v Ann>The mighty condrion.\n\n00:40.000 --> 00:42.000\n<v Bo>Makes ATP.\n"


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        yield running


async def finish(web: System, recording_id: str, segments: int = 2) -> None:
    """What the stages would say of the latest revision."""
    job = await web.kit.catalog.job("default", recording_id)
    assert job is not None
    about: dict[str, Any] = {"recording_id": recording_id, "revision": job.revision, "state": "done"}
    lines = [StageProgressed(**about, stage="indexer", index=at) for at in range(segments)]
    await web.kit.catalog.record([StageProgressed(**about, stage="segmenter", segments_total=segments), *lines])


async def spoken(web: System) -> str:
    """A recording that went all the way; its path."""
    recording_id = str((await web.send_transcript(VTT))["recording_id"])
    await finish(web, recording_id)
    return f"/api/v1/recordings/{recording_id}"


async def correct(web: System, path: str, *segments: dict[str, Any], **headers: str) -> httpx.Response:
    return await web.client.patch(f"{path}/transcript", json={"segments": list(segments)}, headers=headers)


async def read(web: System, path: str, **params: Any) -> httpx.Response:
    return await web.client.get(f"{path}/transcript", params=params)


async def test_a_correction_is_accepted_with_the_etag_that_was_read_and_only_once(web):
    path = await spoken(web)
    before = await read(web, path)
    assert (before.headers["etag"], before.json()["revision"]) == ('"1"', 1)
    change = {"index": 0, "text": "The  mitochondrion.\n"}
    done = await correct(web, path, change, **{"If-Match": before.headers["etag"]})
    assert (done.status_code, done.headers["etag"], done.json()["revision"]) == (202, '"2"', 2), done.text
    assert done.headers["location"] == done.json()["links"]["self"]
    after = await read(web, path)
    assert (after.headers["etag"], after.json()["segments"][0]["text"]) == ('"2"', "The mitochondrion.")
    words = after.json()["segments"][0]["words"]
    old = before.json()["segments"][0]["words"]
    assert words[0] == old[0]
    assert (words[1]["text"], words[1]["start_ms"], words[1]["end_ms"]) == (
        "mitochondrion.", old[1]["start_ms"], old[2]["end_ms"],
    )  # fmt: skip
    assert [word["speaker"] for word in words] == ["Ann", "Ann"]
    for seen in ('"1"', 'W/"1"', "junk", '"99999999999999999999"'):
        stale = await correct(web, path, {"index": 0, "text": "No."}, **{"If-Match": seen})
        assert (stale.status_code, stale.json()["code"]) == (412, "revision_changed")
    for seen in ('"1", "2"', "*"):
        assert (await correct(web, path, change, **{"If-Match": seen})).status_code == 200, "it says that already"
    assert (await read(web, path)).headers["etag"] == '"2"'


async def test_revisions_are_listed_read_in_every_format_and_restored(web):
    path = await spoken(web)
    listed = (await web.client.get(f"{path}/revisions")).json()
    assert [(item["revision"], item["kind"], item["current"]) for item in listed["items"]] == [(1, "transcribed", True)]
    await correct(web, path, {"index": 1, "text": "Makes energy."})
    await finish(web, path.rsplit("/", 1)[1])
    await web.kit.catalog.forget("default", path.rsplit("/", 1)[1], up_to=1)
    listed = (await web.client.get(f"{path}/revisions")).json()["items"]
    assert [(item["revision"], item["kind"], item["changed"]) for item in listed] == [
        (2, "edited", [1]), (1, "transcribed", None),
    ]  # fmt: skip
    old = await web.client.get(listed[1]["links"]["transcript"])
    assert (old.headers["etag"], old.json()["revision"], old.json()["segments"][1]["text"]) == ('"1"', 1, "Makes ATP.")
    assert "<v Bo>Makes ATP." in (await read(web, path, revision=1, format="vtt")).text
    assert (await read(web, path, format="txt")).text == "Ann: The mighty condrion.\nBo: Makes energy.\n"
    missing = await read(web, path, revision=7)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_revision")
    stale = await web.client.post(listed[1]["links"]["restore"], headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "revision_changed")
    back = await web.client.post(listed[1]["links"]["restore"], headers={"If-Match": '"2"'})
    assert (back.status_code, back.json()["revision"], back.headers["etag"]) == (202, 3, '"3"')
    assert (await read(web, path)).json()["segments"][1]["text"] == "Makes ATP."
    assert (await web.client.post(f"{path}/revisions/3/restore")).status_code == 200
    assert (await web.client.post(f"{path}/revisions/9/restore")).json()["code"] == "unknown_revision"


async def test_speakers_found_and_named_stay_when_words_change(web):
    path = await spoken(web)
    recording_id = path.rsplit("/", 1)[1]
    await web.kit.catalog.store_turns(
        found(recording_id, turn("SPEAKER_00", 0, 2000), turn("SPEAKER_01", 40_000, 42_000))
    )
    await web.client.patch(f"{path}/speakers", json={"SPEAKER_01": "Dr. Bo"})
    seen = (await read(web, path)).json()["segments"][1]["words"]
    seen[0]["text"] = "Brews"
    assert (await correct(web, path, {"index": 1, "words": seen})).status_code == 202
    await finish(web, recording_id)
    await web.kit.catalog.forget_turns("default", recording_id, up_to=1)
    after = (await read(web, path)).json()
    assert (after["segments"][1]["text"], after["speakers"]) == ("Brews ATP.", ["Dr. Bo", "SPEAKER_00"])


@pytest.mark.parametrize(
    "segments",
    [
        [],
        [{"index": 0}],
        [{"index": 0, "text": "a", "words": []}],
        [{"index": -1, "text": "a"}],
        [{"index": 0, "text": "a"}, {"index": 0, "text": "b"}],
        [{"index": 0, "text": "a" * 10_001}],
        [{"index": 0, "text": "a", "start_ms": 3}],
        [{"index": 0, "words": [{"text": "\u0000", "start_ms": 0, "end_ms": 1}]}],
        [{"index": 0, "words": [{"text": "a", "start_ms": 0}]}],
    ],
)
async def test_a_correction_that_does_not_fit_is_refused(web, segments):
    path = await spoken(web)
    answer = await correct(web, path, *segments)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert (await read(web, path)).headers["etag"] == '"1"'


async def test_what_is_not_there_cannot_be_corrected(web):
    path = await spoken(web)
    nowhere = await correct(web, path, {"index": 0, "text": "a"}, {"index": 9, "text": "b"})
    assert (nowhere.status_code, nowhere.json()["code"]) == (422, "unknown_segment")
    outside = {"index": 0, "words": [{"text": "a", "start_ms": 0, "end_ms": 9000}]}
    assert (await correct(web, path, outside)).json()["code"] == "bad_words"
    unknown = f"/api/v1/recordings/{new_recording_id()}"
    for answer in (
        await correct(web, unknown, {"index": 0, "text": "a"}),
        await web.client.patch(unknown, json={"title": "a"}),
        await web.client.get(f"{unknown}/revisions"),
        await web.client.post(f"{unknown}/revisions/1/restore"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_recording")
    fresh = f"/api/v1/recordings/{(await web.upload())['recording_id']}"
    hasty = await correct(web, fresh, {"index": 0, "text": "a"})
    assert (hasty.status_code, hasty.json()["code"]) == (409, "not_editable")
    early = await web.client.patch(fresh, json={"recorded_at": "2026-03-01T09:00:00Z"})
    assert (early.status_code, early.json()["code"]) == (409, "not_editable")


async def test_titles_and_tags_are_changed_and_listed_by(web):
    path = await spoken(web)
    change = {"title": "Cells", "tags": ["exam", " biology ", "exam"], "metadata": {"lecturer": "A. Turing"}}
    after = (await web.client.patch(path, json=change)).json()
    assert (after["title"], after["tags"], after["metadata"]) == (
        "Cells",
        ["biology", "exam"],
        {"lecturer": "A. Turing"},
    )
    assert (await web.client.patch(path, json={"title": ""})).json()["tags"] == ["biology", "exam"]
    for query, number in (("tag=exam", 1), ("tag=exam&tag=biology", 1), ("tag=exam&tag=physics", 0), ("tag=exa", 0)):
        listed = await web.client.get(f"/api/v1/recordings?{query}")
        assert len(listed.json()["items"]) == number, query
    assert (await web.client.get("/api/v1/recordings", params={"tag": "a\x00b"})).status_code == 422
    dated = await web.client.patch(path, json={"recorded_at": "2026-03-01T09:00:00Z"})
    assert (dated.json()["recorded_at"], dated.json()["job"]["revision"]) == ("2026-03-01T09:00:00Z", 2)


@pytest.mark.parametrize(
    "change",
    [
        {}, {"title": None}, {"title": "a\nb"}, {"title": "x" * 301}, {"tags": None}, {"tags": [""]},
        {"tags": ["a\nb"]},
        {"tags": ["x"] * 51}, {"metadata": {"": "a"}}, {"recorded_at": "2026-03-01"}, {"collection": "other"},
    ],
)  # fmt: skip
async def test_a_description_that_does_not_fit_is_refused(web, change):
    path = await spoken(web)
    answer = await web.client.patch(path, json=change)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_the_audit_log_says_who_corrected_what(web):
    path = await spoken(web)
    await correct(web, path, {"index": 0, "text": "Right."})
    await web.client.post(f"{path}/revisions/1/restore")
    entries = (await web.client.get("/api/v1/audit", params={"recording_id": path.rsplit("/", 1)[1]})).json()["items"]
    assert [(entry["key_id"], entry["action"]) for entry in entries[:2]] == [
        ("local", "POST /api/v1/recordings/{id}/revisions/{revision}/restore"),
        ("local", "PATCH /api/v1/recordings/{id}/transcript"),
    ]
