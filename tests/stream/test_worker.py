"""The process of a stage: its trace, its heartbeat, its health, its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from earshot.adapters.catalog import Catalog
from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_SEGMENTS, RECORDINGS_PROGRESS
from tests.fakes_stream import record_of, segment
from tests.processes import free_ports, tied
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "a" * 32, "b" * 16


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    made = Kit(Settings(data=tmp_path))
    await made.catalog.migrate()
    names = [AUDIO_SEGMENTS.name, AUDIO_SEGMENTS.dead_letters.name, RECORDINGS_PROGRESS.name, "audio.transcripts"]
    await made.log.create({name: {} for name in names}, 2)
    yield made
    await made.log.close()
    await made.catalog.close()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def worker(request: pytest.FixtureRequest, kit: Kit, tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The worker over the same folder, with the parameter as its arguments; its log is in ``worker.log``."""
    own = {
        "EARSHOT_DATA": str(tmp_path),
        "EARSHOT_WORKER__HEALTH_PORT": str(port),
        "EARSHOT_WORKER__HEARTBEAT_S": "0.2",
    }
    with (tmp_path / "worker.log").open("wb") as sink:
        command = tied([sys.executable, "-m", "tests.stream.worker_target", *getattr(request, "param", [])])
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stderr=sink)
    yield process
    process.kill()
    process.wait()


async def test_a_worker_continues_the_trace_shows_signs_of_life_and_ends_when_asked(
    kit: Kit, worker: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    parent = (("traceparent", f"00-{TRACE}-{PARENT}-01".encode()),)
    await kit.log.publish([record_of(segment(0), -1, headers=parent)])
    catalog: Catalog = kit.catalog
    (span,) = await eventually(lambda: catalog.of_trace("t", TRACE))
    assert (span.service, span.name, span.parent_id) == ("noter", "process audio.segments", PARENT)
    (out,) = [r async for r in kit.log.tail([RECORDINGS_PROGRESS.name], from_start=True, follow=False)]
    assert out.header("traceparent") == f"00-{TRACE}-{span.span_id}-01"

    (beat,) = await eventually(catalog.heartbeats)
    assert (beat.stage, beat.state, beat.reason) == ("noter", "running", "")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert 'outcome="done",stage="noter"} 1.0' in (await client.get("/metrics")).text
    worker.send_signal(signal.SIGTERM)
    assert await eventually(lambda: worker.poll() is not None)
    assert worker.returncode == 0, (tmp_path / "worker.log").read_text()
    assert await kit.log.lag("noter", [AUDIO_SEGMENTS.name])
    assert all(done == end for done, end in (await kit.log.lag("noter", [AUDIO_SEGMENTS.name])).values())


@pytest.mark.parametrize("worker", [["buggy-codec"]], indirect=True)
async def test_an_unknown_error_while_reading_an_event_stops_the_worker_too(
    kit: Kit, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Faust alone would start its agent again and go on behind the record."""
    await kit.log.publish([record_of(segment(0), -1), record_of(segment(1), -1)])
    await eventually(lambda: worker.poll() is not None, within=60)
    assert worker.returncode == 70
    assert "ZeroDivisionError" in (tmp_path / "worker.log").read_text()
    lags = await kit.log.lag("noter", [AUDIO_SEGMENTS.name])
    assert sum(done for done, _ in lags.values()) == 0


def test_settings_that_cannot_work_stop_the_worker_with_all_of_them_named(tmp_path: Path) -> None:
    own = {"EARSHOT_DATA": str(tmp_path), "EARSHOT_WORKER__DRAIN_S": "-1", "EARSHOT_WORKER__LAG_S": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.stream.worker_target"],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert "EARSHOT_WORKER__DRAIN_S" in done.stderr
    assert "EARSHOT_WORKER__LAG_S" in done.stderr
