"""Dead letters, found and answered over HTTP, on a log in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from earshot.kernel import dead_letters, ids
from earshot.kernel.codec import Codec, Record
from earshot.kernel.errors import BlobMissing
from earshot.kernel.events import AudioUploaded, SegmentCut
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_UPLOADED, Topic
from earshot.streams.arrival import identified
from earshot.streams.dead_letters import dead_letter
from tests.fakes_log import FakeLog
from tests.http_app import System, system

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CODEC = Codec()
ONE, OTHER = ids.derive("one"), ids.derive("other")


def segment(recording_id: str = ONE, tenant: str = "default", index: int = 0) -> SegmentCut:
    return SegmentCut(
        tenant=tenant, recording_id=recording_id, index=index, start_ms=0, end_ms=1, uri="blobs:///x", sha256="00"
    )


def failed(
    event: SegmentCut | bytes = b"\xff junk",
    *,
    topic: Topic = AUDIO_SEGMENTS,
    stage: str = "transcriber",
    minutes: int = 0,
    offset: int = 5,
) -> Record:
    value = event if isinstance(event, bytes) else CODEC.encode(topic, event)
    headers = (("ce_id", b"7"), ("ce_id", b"8"), ("x", b"\xff\x00"))
    record = Record(topic.name, b"\xfe key", value, headers, partition=2, offset=offset)
    return dead_letter(record, stage, BlobMissing("It is not there."), "ab" * 16, NOW + timedelta(minutes=minutes))


@pytest_asyncio.fixture
async def earshot(tmp_path: Path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        running.kit.log = FakeLog({AUDIO_SEGMENTS.name: 4, AUDIO_SEGMENTS.dead_letters.name: 4})  # type: ignore[misc]
        yield running


async def listed(earshot: System, **params: Any) -> list[dict[str, Any]]:
    answer = await earshot.client.get("/api/v1/dead-letters", params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def post(earshot: System, what: str, **which: Any) -> dict[str, Any]:
    answer = await earshot.client.post(f"/api/v1/dead-letters/{what}", json=which)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_letters_are_listed_newest_first_with_cause_and_place(earshot: System) -> None:
    await earshot.kit.log.publish([failed(segment(), minutes=1), failed(minutes=2), failed(minutes=0)])
    junk, cut, _ = await listed(earshot)
    assert cut["recording_id"] == ONE
    assert junk["recording_id"] is None
    assert (cut["stage"], cut["code"], cut["error"]) == ("transcriber", "blob_missing", "It is not there.")
    assert (cut["topic"], cut["source"], cut["state"]) == ("audio.segments", "audio.segments/2/5", "open")


async def test_letters_of_an_erased_recording_are_not_shown_any_more(earshot: System) -> None:
    erased = (await earshot.upload())["recording_id"]
    await earshot.kit.log.publish([failed(segment(erased)), failed(segment(ONE)), failed()])
    before = await listed(earshot)
    assert {letter["recording_id"] for letter in before} == {erased, ONE, None}
    [gone] = [letter["id"] for letter in before if letter["recording_id"] == erased]
    await earshot.client.delete(f"/api/v1/recordings/{erased}")
    assert {letter["recording_id"] for letter in await listed(earshot, state="all")} == {ONE, None}
    assert (await earshot.client.get(f"/api/v1/dead-letters/{gone}")).status_code == 404


async def test_letters_are_chosen_by_stage_code_recording_and_time(earshot: System) -> None:
    await earshot.kit.log.publish(
        [failed(segment(ONE), minutes=1), failed(segment(OTHER), stage="embedder", minutes=2), failed(minutes=3)]
    )
    assert [each["recording_id"] for each in await listed(earshot, stage="embedder")] == [OTHER]
    assert [each["recording_id"] for each in await listed(earshot, recording_id=ONE)] == [ONE]
    assert await listed(earshot, code="not_audio") == []
    assert await listed(earshot, topic="audio.uploaded") == []
    since, to = (NOW + timedelta(minutes=2)).isoformat(), (NOW + timedelta(minutes=3)).isoformat()
    assert [each["recording_id"] for each in await listed(earshot, since=since, to=to)] == [OTHER]


async def test_pages_follow_each_other_without_gap_or_overlap_even_at_the_same_moment(earshot: System) -> None:
    await earshot.kit.log.publish([failed(segment(index=n), minutes=n // 4) for n in range(11)])
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = (await earshot.client.get("/api/v1/dead-letters", params={"limit": 3, "cursor": cursor})).json()
        seen += [each["id"] for each in answer["items"]]
        cursor = answer["next"]
    assert len(seen) == len(set(seen)) == 11


async def test_another_tenants_letters_are_neither_seen_nor_answered(earshot: System) -> None:
    await earshot.kit.log.publish([failed(segment(tenant="other"))])
    assert await listed(earshot, state="all") == []
    [lying] = [r for r in earshot.kit.log.records if r.topic.endswith(".dlq")]  # type: ignore[attr-defined]
    name = f"audio.segments:{lying.partition}:{lying.offset}"
    for answer in (
        await earshot.client.get(f"/api/v1/dead-letters/{name}"),
        await earshot.client.post("/api/v1/dead-letters/replay", json={"ids": [name]}),
        await earshot.client.post("/api/v1/dead-letters/drop", json={"ids": [name]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "no_dead_letter")
    assert (await post(earshot, "replay", all=True))["items"] == []


async def test_a_replayed_record_is_the_one_that_failed(earshot: System) -> None:
    await earshot.kit.log.publish([failed(segment())])
    [letter] = await listed(earshot)
    assert (await post(earshot, "replay", ids=[letter["id"]]))["items"] == [letter["id"]]
    [again] = [r for r in earshot.kit.log.records if r.topic == "audio.segments"]  # type: ignore[attr-defined]
    assert (again.key, again.value, again.partition) == (b"\xfe key", CODEC.encode(AUDIO_SEGMENTS, segment()), 2)
    own = (("ce_id", b"7"), ("ce_id", b"8"), ("x", b"\xff\x00"))
    assert again.headers == (*own, ("earshot-origin", b"audio.segments/2/5"))
    assert await listed(earshot) == []
    assert [each["state"] for each in await listed(earshot, state="replayed")] == ["replayed"]


async def test_a_dropped_letter_is_out_of_sight_and_can_still_be_replayed_by_name(earshot: System) -> None:
    await earshot.kit.log.publish([failed()])
    [letter] = await listed(earshot)
    await post(earshot, "drop", all=True)
    assert await listed(earshot) == []
    assert (await post(earshot, "replay", all=True))["items"] == []
    assert (await post(earshot, "replay", ids=[letter["id"]]))["items"] == [letter["id"]]


async def test_one_letter_shows_its_headers_its_event_and_its_bytes(earshot: System) -> None:
    await earshot.kit.log.publish([failed(segment())])
    [letter] = await listed(earshot)
    shown = (await earshot.client.get(f"/api/v1/dead-letters/{letter['id']}")).json()
    assert shown["event"]["recording_id"] == ONE
    assert shown["headers"]["x"] == "\ufffd\x00"
    assert shown["size_bytes"] == len(CODEC.encode(AUDIO_SEGMENTS, segment()))


@pytest.mark.parametrize("name", ["x", "audio.segments:1", "audio.nothing:1:1", "audio.segments:1:1", "..:0:0"])
async def test_an_id_that_names_nothing_is_404(earshot: System, name: str) -> None:
    answer = await earshot.client.get(f"/api/v1/dead-letters/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_dead_letter")


def test_a_replayed_upload_without_headers_keeps_the_id_its_first_place_gave_it() -> None:
    upload = AudioUploaded(uri="blobs:///default/x.wav")
    first = Record("audio.uploaded", None, CODEC.encode(AUDIO_UPLOADED, upload), (), partition=3, offset=41)
    letter = dead_letters.read(dead_letter(first, "segmenter", BlobMissing("."), "", NOW), "", CODEC)
    again = dead_letters.restored(letter, "", 4)
    assert identified(upload, Record(again.topic, None, again.value, again.headers, 0, 99)) == identified(upload, first)
    twice = dead_letters.read(dead_letter(again, "segmenter", BlobMissing("."), "", NOW), "", CODEC)
    third = dead_letters.restored(twice, "", 4)
    assert identified(upload, Record(third.topic, None, third.value, third.headers, 1, 7)) == identified(upload, first)


NAMES = st.sampled_from(["ce_id", "ce_source", "traceparent", "x"])


@given(
    key=st.none() | st.binary(max_size=9),
    value=st.none() | st.binary(max_size=30),
    headers=st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=5).map(tuple),
    times=st.integers(1, 3),
)
def test_however_often_it_fails_and_is_replayed_a_record_stays_what_it_was(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...], times: int
) -> None:
    record = first = Record("p.audio.segments", key, value, headers, partition=1, offset=2)
    for _ in range(times):
        letter = dead_letter(record, "transcriber", BlobMissing("."), "", NOW)
        record = dead_letters.restored(dead_letters.read(letter, "p.", CODEC), "p.", 4)
    assert (record.topic, record.key, record.value) == (first.topic, first.key, first.value)
    assert record.headers == (*headers, ("earshot-origin", b"p.audio.segments/1/2"))
