"""The web app on a real catalog and a real folder of blobs, without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from earshot import web
from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings
from tests.fakes_http import FakeAnswering, FakeSniffer

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt and so on"
SRT = b"1\n00:00:01,000 --> 00:00:02,000\nAsk not what\n\n2\n00:01:00,000 --> 00:01:02,500\nyour country can do\n"


class System:
    """A client, and what stands behind the app it talks to."""

    def __init__(self, client: httpx.AsyncClient, kit: Kit, app: FastAPI) -> None:
        self.client, self.kit, self.app = client, kit, app

    async def upload(self, content: bytes = WAV, **fields: str) -> dict[str, Any]:
        """Send audio and return what the door says."""
        answer = await self.client.post("/api/v1/ingest", files={"file": ("a.wav", content)}, data=fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def send_transcript(self, content: bytes = SRT, **fields: str) -> dict[str, Any]:
        """Send a transcript and return what the door says."""
        answer = await self.client.post("/api/v1/ingest", files={"transcript": ("a.srt", content)}, data=fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())


def settings_for(folder: Path, key: str = "") -> Settings:
    """Everything embedded, below one folder."""
    return Settings(_env_file=None, data=folder, api_key=SecretStr(key))


@asynccontextmanager
async def system(folder: Path, *, key: str = "", headers: dict[str, str] | None = None) -> AsyncIterator[System]:
    """The app with a fake log and fake vectors, and a client that talks to it in memory."""
    kit = Kit(settings_for(folder, key))
    kit.vectors, kit.log = FakeAnswering(), FakeAnswering()  # type: ignore[assignment]
    await kit.catalog.migrate()
    app = web.create_app(kit, decoder=FakeSniffer())
    transport = httpx.ASGITransport(app=app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            yield System(client, kit, app)
    finally:
        await app.state.doorkeeper.close()
        await kit.catalog.close()
