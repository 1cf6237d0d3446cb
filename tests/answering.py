"""A web app that holds a few conversations, to be asked about; its model is a scripted server, or there is none."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from earshot import web
from earshot.adapters.chat_anthropic import AnthropicChat
from earshot.adapters.chat_models import MeteredModel
from earshot.adapters.chat_openai import OpenAIChat
from earshot.adapters.chat_settings import AnthropicSettings, OpenAISettings
from earshot.adapters.wiring import Kit
from earshot.kernel import ids
from earshot.kernel.events import Engine, SegmentTranscribed, Word
from earshot.kernel.ports import IndexedPassage, StoredSegment
from earshot.kernel.ports.answers import ChatModel
from earshot.query.answering.service import Answers
from earshot.query.settings import AnswersSettings
from tests.fakes_catalog import accepted
from tests.fakes_http import FakeAnswering, FakeSniffer
from tests.fakes_vectors import FakeEncoder, FakeVectors
from tests.http_app import settings_for
from tests.waiting import eventually

ENCODER = FakeEncoder()
INDEX = ids.index_name(ENCODER.model, ENCODER.dimensions)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""A Saturday."""
WORD_MS = 500
PASSAGE_MS = 20_000


def openai(url: str, **fields: Any) -> OpenAISettings:
    """A provider at a scripted server: no patience, no key."""
    given = {"url": f"{url}/v1", "model": "scripted", "tries": 1, "timeout_s": 10.0, "idle_s": 10.0}
    return OpenAISettings(_env_file=None, **(given | fields))


def anthropic(url: str, **fields: Any) -> AnthropicSettings:
    """The other one."""
    given = {"url": url, "model": "scripted", "tries": 1, "api_key": SecretStr("sk-1"), "timeout_s": 10.0}
    return AnthropicSettings(_env_file=None, **(given | fields))


class Asking:
    """A client, what stands behind the app it talks to, and ways to have things said."""

    def __init__(self, client: httpx.AsyncClient, kit: Kit, app: FastAPI) -> None:
        self.client, self.kit, self.app = client, kit, app

    async def say(
        self, *said: str, tenant: str = "default", title: str = "Weekly", audio: bool = True, **about: Any
    ) -> str:
        """A recording of passages of 20 s, ``Ada: text`` each, two words a second. Its id."""
        made = await accepted(self.kit.catalog, tenant, title=title, **about)
        recording = made.job.recording_id
        for index, line in enumerate(said):
            speaker, colon, text = line.partition(": ")
            if not colon:
                speaker, text = "", line
            await self._segment(tenant, recording, index, text, speaker or None, about)
        return recording

    async def _segment(
        self, tenant: str, recording: str, index: int, text: str, speaker: str | None, about: dict[str, Any]
    ) -> None:
        start = index * PASSAGE_MS
        words = [
            Word(text=word, start_ms=start + at * WORD_MS, end_ms=start + (at + 1) * WORD_MS, speaker=speaker)
            for at, word in enumerate(text.split())
        ]
        end = words[-1].end_ms
        segment = SegmentTranscribed(
            tenant=tenant, recording_id=recording, index=index, start_ms=start, end_ms=end, text=text, words=words,
            engine=Engine(name="test"),
        )  # fmt: skip
        await self.kit.catalog.store([StoredSegment(segment, None)])
        place = ids.passage_id(ids.segment_id(recording, 1, index), ENCODER.model, 0)
        vector = tuple((await ENCODER.encode_passages([text]))[0])
        passage = IndexedPassage(
            place, recording, 1, index, 0, start, end, text, about.get("collection", "default"), "en",
            (speaker,) if speaker else (), about.get("recorded_at"), False, vector,
        )  # fmt: skip
        await self.kit.vectors.replace(INDEX, tenant, recording, 1, index, [passage])

    async def ask(self, question: str, **fields: Any) -> dict[str, Any]:
        """The answer as JSON."""
        answer = await self.client.post("/api/v1/answers", json={"question": question, **fields})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def stream(self, question: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
        """The events of the answer."""
        body = {"question": question, "stream": True, **fields}
        answer = await self.client.post("/api/v1/answers", json=body)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        return events_in(answer.text)

    def use(self, *models: ChatModel, **settings: Any) -> None:
        """Answer with these models and settings from now on."""
        old: Answers = self.app.state.answers
        ticks = count()
        self.app.state.answers = Answers(
            self.app.state.alias, self.kit.vectors, self.kit.catalog, None, models,
            AnswersSettings(_env_file=None, **settings), lambda: NOW + timedelta(microseconds=next(ticks)),
        )  # fmt: skip
        assert old.open == 0

    def model(self, url: str, **fields: Any) -> ChatModel:
        """A metered model at a scripted server."""
        settings = openai(url, **fields)
        return MeteredModel(OpenAIChat(settings), settings, self.kit.catalog, NOW.date)

    def other_model(self, url: str, **fields: Any) -> ChatModel:
        """A metered model at a scripted server, of the other provider."""
        settings = anthropic(url, **fields)
        return MeteredModel(AnthropicChat(settings), settings, self.kit.catalog, NOW.date)


def events_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as (name, data)."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


@asynccontextmanager
async def asking(
    folder: Path, models: Sequence[ChatModel] = (), headers: dict[str, str] | None = None
) -> AsyncIterator[Asking]:
    """The app on an empty library, without a model, on a Saturday in November."""
    kit = Kit(settings_for(folder))
    vectors = FakeVectors()
    kit.vectors, kit.log = vectors, FakeAnswering()  # type: ignore[assignment]
    await vectors.prepare(INDEX, ENCODER.dimensions)
    await kit.catalog.migrate()
    app = web.create_app(kit, decoder=FakeSniffer(), encoder=ENCODER)
    transport = httpx.ASGITransport(app=app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            system = Asking(client, kit, app)
            system.use(*models)
            yield system
    finally:
        await app.state.answers.close()
        await app.state.doorkeeper.close()
        await kit.catalog.close()


@asynccontextmanager
async def served(system: Asking) -> AsyncIterator[str]:
    """The same app behind a real socket; its origin."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(system.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listening.close()
