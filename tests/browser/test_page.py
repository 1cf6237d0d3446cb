"""The page in a real browser: upload, follow, search, play, erase."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from playwright.async_api import Browser, ConsoleMessage, Page, Route, async_playwright, expect

from earshot import web
from earshot.adapters.wiring import Kit
from earshot.kernel import ids
from earshot.kernel.events import SegmentTranscribed, StageProgressed
from earshot.kernel.ports import IndexedPassage, Recording, StoredSegment
from tests.fakes_http import FakeAnswering
from tests.fakes_vectors import FakeEncoder, FakeVectors
from tests.http_app import settings_for
from tests.waiting import eventually

pytestmark = [pytest.mark.browser]

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "audio" / "jfk.flac"
SAID = [
    (300, 4900, "And so, my fellow Americans, ask not"),
    (5000, 8100, "what your country can do for you."),
    (8200, 10900, "Ask what you can do for your country."),
]
ENCODER = FakeEncoder()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        reason = "Chromium is not installed (apt-get install chromium)."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        await launched.close()


class Site:
    """The web app behind a real socket, and the stages played by the test."""

    def __init__(self, kit: Kit, url: str) -> None:
        self.kit, self.url = kit, url

    async def only_recording(self) -> Recording:
        """The recording that was uploaded."""
        (recording,) = await eventually(lambda: self.kit.catalog.recordings("default"))
        return recording

    async def transcribe(self, recording: Recording, index: int) -> None:
        """Play every stage on one segment."""
        start, end, text = SAID[index]
        about = {"tenant": "default", "recording_id": recording.id, "index": index, "start_ms": start, "end_ms": end}
        segment = SegmentTranscribed.model_validate(about | {"text": text, "engine": {"name": "test"}})
        await self.kit.catalog.store([StoredSegment(segment, None)])
        vector = (await ENCODER.encode_passages([text]))[0]
        place = ids.passage_id(ids.segment_id(recording.id, 1, index), ENCODER.model, 0)
        passage = IndexedPassage(
            place, recording.id, 1, index, 0, start, end, text, "default", "en", (), None, False, tuple(vector)
        )
        name = ids.index_name(ENCODER.model, ENCODER.dimensions)
        await self.kit.vectors.replace(name, "default", recording.id, 1, index, [passage])
        done = [StageProgressed.model_validate(about | {"stage": "indexer", "state": "done"})]
        await self.kit.catalog.record(done)

    async def cut(self, recording: Recording) -> None:
        """Say how many segments there are."""
        whole = {"recording_id": recording.id, "stage": "segmenter", "state": "done", "end_ms": 11_000}
        await self.kit.catalog.record([StageProgressed.model_validate(whole | {"segments_total": len(SAID)})])


@pytest.fixture
async def site(tmp_path, request) -> AsyncIterator[Site]:
    kit = Kit(settings_for(tmp_path, key=getattr(request, "param", "")))
    kit.vectors, kit.log = FakeVectors(), FakeAnswering()  # type: ignore[assignment]
    await kit.vectors.prepare(ids.index_name(ENCODER.model, ENCODER.dimensions), ENCODER.dimensions)
    await kit.catalog.migrate()
    listening = socket.create_server(("127.0.0.1", 0))
    app = web.create_app(kit, encoder=ENCODER)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started)
    yield Site(kit, f"http://127.0.0.1:{listening.getsockname()[1]}")
    server.should_exit = True
    await serving
    listening.close()


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    """A page that may reach nothing but the site; every complaint of the browser fails the test."""
    opened = await browser.new_page(viewport={"width": 1000, "height": 1100})
    complaints: list[str] = []

    async def only_ours(route: Route) -> None:
        if route.request.url.startswith((site.url, "data:")):
            await route.continue_()
        else:
            complaints.append(f"reached for {route.request.url}")
            await route.abort()

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    await opened.route("**/*", only_ours)
    opened.on("console", heard)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    assert [text for text in complaints if "a status of 401" not in text and "a status of 422" not in text] == []


async def test_upload_follow_search_play_and_erase(site, page, tmp_path):
    await page.goto(site.url)
    await page.get_by_label("Add audio").set_input_files(SPEECH)
    await page.get_by_role("button", name="Upload").click()
    entry = page.get_by_role("listitem").filter(has_text="jfk.flac")
    await expect(entry).to_contain_text("pending")
    recording = await site.only_recording()
    await site.cut(recording)
    await site.transcribe(recording, 0)
    await expect(entry).to_contain_text("33 %")  # pushed by the server: nobody loaded the page again
    await site.transcribe(recording, 1)
    await site.transcribe(recording, 2)
    await expect(entry).to_contain_text("completed")

    await page.get_by_label("What was said").fill("ask what you can do")
    await page.keyboard.press("Enter")
    hit = page.get_by_label("Search results").get_by_role("button").first
    await expect(hit).to_contain_text("0:08")
    await expect(hit).to_contain_text("Ask what you can do for your country.")
    assert await hit.locator("mark").first.inner_text() == "Ask"
    await page.screenshot(path=os.environ.get("EARSHOT_TEST_SCREENSHOT", str(tmp_path / "page.png")))
    await hit.focus()
    await page.keyboard.press("Enter")
    await eventually(lambda: page.evaluate("player.currentTime >= 8.19 && player.readyState >= 2"))

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Erase jfk.flac").click()
    await expect(entry).to_have_count(0)
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("#outcome")).to_contain_text("Nothing found")


async def test_a_question_is_answered_with_citations_that_play(site, page):
    await page.goto(site.url)
    await page.get_by_label("Add audio").set_input_files(SPEECH)
    await page.get_by_role("button", name="Upload").click()
    recording = await site.only_recording()
    await site.cut(recording)
    for index in range(len(SAID)):
        await site.transcribe(recording, index)
    await page.get_by_label("What was said").fill("What can you do for your country?")
    await page.get_by_role("button", name="Ask").click()
    answer = page.get_by_label("Answer")
    await expect(answer).to_contain_text("Ask what you can do for your country.")
    cited = answer.get_by_role("button", name="0:08").first
    await expect(answer.get_by_label("Sources")).to_contain_text("jfk.flac")
    await cited.click()
    await eventually(lambda: page.evaluate("player.currentTime >= 8.19 && player.readyState >= 2"))
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Erase jfk.flac").click()
    await expect(answer).to_be_hidden()


async def test_a_refused_upload_says_why_on_the_page(site, page, tmp_path):
    notes = tmp_path / "notes.wav"
    notes.write_text("not a recording")
    await page.goto(site.url)
    await page.get_by_label("Add audio").set_input_files(notes)
    async with page.expect_response("**/api/v1/ingest") as refused:
        await page.get_by_role("button", name="Upload").click()
    problem = await (await refused.value).json()
    assert problem["code"] == "not_audio"
    await expect(page.get_by_role("alert")).to_contain_text(problem["detail"])


@pytest.mark.parametrize("site", ["the-key"], indirect=True)
async def test_with_a_key_the_page_asks_for_it_once(site, page):
    await page.goto(site.url)
    await page.get_by_label("API key").fill("the-key")
    await page.get_by_role("button", name="Enter").click()
    await expect(page.get_by_label("API key")).to_be_hidden()
    await page.reload()
    await expect(page.get_by_label("API key")).to_be_hidden()
    await page.get_by_label("Add audio").set_input_files(SPEECH)
    await page.get_by_role("button", name="Upload").click()
    entry = page.get_by_role("listitem").filter(has_text="jfk.flac")
    await expect(entry).to_contain_text("pending")
    recording = await site.only_recording()
    await site.cut(recording)
    for index in range(len(SAID)):
        await site.transcribe(recording, index)
    await expect(entry).to_contain_text("completed")  # by an event stream that was asked for with the key
    await page.get_by_label("What was said").fill("ask what you can do")
    await page.keyboard.press("Enter")
    await page.get_by_label("Search results").get_by_role("button").first.click()
    await eventually(lambda: page.evaluate("player.currentTime >= 8.19 && player.readyState >= 2"))
    assert "?ticket=" in await page.evaluate("player.src")
    assert await page.context.cookies() == []


async def test_the_documentation_shows_every_route_without_anything_from_elsewhere(site, page):
    await page.goto(f"{site.url}/docs")
    for route in ("POST /api/v1/ingest", "POST /api/v1/query", "GET /api/v1/jobs/{id}/events"):
        exactly = re.compile(rf"^{re.escape(route)}(?![/\w])")
        await expect(page.locator("summary").filter(has_text=exactly)).to_have_count(1)
    await page.locator("summary").filter(has_text=re.compile(r"^POST /api/v1/query(?!/)")).click()
    await expect(page.get_by_text("ask what you can do for your country")).to_be_visible()
    shot = os.environ.get("EARSHOT_TEST_SCREENSHOT", "")
    if shot:
        await page.screenshot(path=shot.replace(".png", "-docs.png"))
