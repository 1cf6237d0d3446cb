"""The web process itself: real sockets, real decoder, real embedding model, real stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from earshot.adapters.wiring import Kit
from tests.http_app import settings_for
from tests.processes import free_ports
from tests.waiting import eventually

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "audio" / "jfk.flac"
SCRIPT = """
import sys
from pathlib import Path
from earshot import web
from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import Settings
try:
    sys.exit(web.run(Settings(data=Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
except Misconfigured as error:
    print(error, file=sys.stderr)
    sys.exit(78)
"""


def started(folder: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    """The process, in a folder without an ``.env`` and without our variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
    command = [sys.executable, "-c", SCRIPT, str(folder), host, str(port)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, subprocess.Popen[bytes]]]:
    """The process, answering."""
    (port,) = free_ports(1)
    process = started(folder, "127.0.0.1", port)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            async def answers() -> bool:
                assert process.poll() is None, process.communicate()[1].decode()
                return (await client.get("/health/live")).status_code == 200

            await eventually(answers)
            yield client, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_it_takes_speech_answers_questions_keeps_the_trace_and_stops_when_told(tmp_path):
    kit = Kit(settings_for(tmp_path))
    await kit.catalog.migrate()
    async with serving(tmp_path) as (client, process):
        answer = await client.post("/api/v1/ingest", files={"file": SPEECH.read_bytes()}, data={"title": "JFK"})
        assert answer.status_code == 202, answer.text
        accepted = answer.json()
        audio = await client.get(accepted["links"]["audio"], headers={"Range": "bytes=0-3"})
        assert (audio.content, audio.headers["content-type"]) == (b"fLaC", "audio/flac")
        asked = await client.post("/api/v1/query", json={"query": "country"})
        assert (asked.status_code, asked.json()["hits"]) == (200, [])
        refused = await client.post(
            "/api/v1/ingest", files={"file": ("a.flac", SPEECH.read_bytes()[:4] + b"junk" * 99)}
        )
        assert (refused.status_code, refused.json()["code"]) == (422, "not_audio")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    job = await kit.catalog.job("default", accepted["id"])
    assert job is not None
    (root,) = await asyncio.to_thread(kit.catalog.of_trace, "default", job.trace_id)
    assert (root.service, root.name) == ("web", "POST /api/v1/ingest")
    await kit.catalog.close()


async def test_headers_have_a_limit(tmp_path):
    async with serving(tmp_path) as (client, _process):
        answer = await client.get("/health/live", headers={"X-Much": "a" * 1_000_000})
        assert answer.status_code == 400


@pytest.mark.parametrize("host", ["0.0.0.0", socket.gethostname()])
def test_it_does_not_start_beyond_loopback_without_a_key(tmp_path, host):
    process = started(tmp_path, host, free_ports(1)[0])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 78
    assert "EARSHOT_API_KEY" in said.decode()
