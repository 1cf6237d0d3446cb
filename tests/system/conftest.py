"""Whole systems, started as a user would and spoken to over HTTP alone."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "audio"


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table beside the example recordings."""
    with (EXAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class System:
    """A running Earshot."""

    data: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    http: httpx.Client
    settings: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, **fields: str) -> dict[str, Any]:
        part = "transcript" if path.suffix in {".json", ".srt", ".vtt"} else "file"
        with path.open("rb") as file:
            answer = self.http.post("/ingest", files={part: (path.name, file)}, data=fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def job(self, either_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/jobs/{either_id}").raise_for_status().json())

    def ended(self, either_id: str, within: float = 120.0) -> dict[str, Any]:
        """The job once it has ended."""
        deadline = time.monotonic() + within
        while (job := self.job(either_id))["state"] not in {"completed", "failed", "cancelled"}:
            assert time.monotonic() < deadline, f"not ended within {within} s: {job}\n{self.logs()}"
            time.sleep(0.1)
        return job

    def search(self, query: str, **filters: Any) -> list[dict[str, Any]]:
        body = {"query": query, "top_k": 5, "filters": filters}
        return list(self.http.post("/query", json=body).raise_for_status().json()["hits"])

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run an ``earshot`` command against this system."""
        environment = self.environment | {
            "EARSHOT_URL": f"http://127.0.0.1:{self.port}",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        command = [sys.executable, "-m", "earshot", *arguments]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **options
        )

    def logs(self) -> str:
        parts = [
            f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in sorted(self.data.glob("logs/*.log"))
        ]
        return "\n".join(parts)


def start(data: Path, **settings: str) -> System:
    """``earshot up`` on a folder, ready."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
    environment |= {"EARSHOT_DATA": str(data), "EARSHOT_TRANSCRIBER__HUB": "off", **settings}
    command = [sys.executable, "-m", "earshot", "up", "--data", str(data), "--port", str(port)]
    data.mkdir(parents=True, exist_ok=True)
    with (data / "up.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)
    system = System(data, port, environment, process, http, settings)
    deadline = time.monotonic() + 90
    while True:
        said = (data / "up.log").read_text(errors="replace")
        if "is ready" in said:
            return system
        if process.poll() is not None or time.monotonic() > deadline:
            stop(system)
            raise AssertionError(f"earshot up did not become ready: {said}\n{system.logs()}")
        time.sleep(0.1)


def stop(system: System) -> int:
    """End it as a user would; its exit code."""
    system.http.close()
    if system.process.poll() is None:
        system.process.send_signal(signal.SIGTERM)
    try:
        return system.process.wait(40)
    except subprocess.TimeoutExpired:
        system.process.kill()
        raise


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The embedded default."""
    system = start(tmp_path_factory.mktemp("embedded") / "data")
    yield system
    stop(system)


@pytest.fixture(scope="session")
def on_kafka(
    tmp_path_factory: pytest.TempPathFactory, kafka_url: str, weaviate_url: str, postgres_url: str
) -> Iterator[System]:
    """The same on Kafka, Weaviate and PostgreSQL: only URLs differ."""
    system = start(
        tmp_path_factory.mktemp("kafka") / "data",
        EARSHOT_BROKER_URL=kafka_url,
        EARSHOT_VECTORS_URL=weaviate_url,
        EARSHOT_CATALOG_URL=postgres_url,
        EARSHOT_TOPIC_PREFIX=f"t{uuid4().hex[:8]}.",
        EARSHOT_PARTITIONS="4",
    )
    yield system
    stop(system)


@pytest.fixture(params=["embedded", pytest.param("on_kafka", marks=[pytest.mark.kafka, pytest.mark.weaviate])])
def system(request: pytest.FixtureRequest) -> System:
    """Each system in turn."""
    found: System = request.getfixturevalue(request.param)
    return found
