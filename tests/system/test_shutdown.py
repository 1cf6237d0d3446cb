"""Asked to end, killed, started again: requests in flight are finished, and nobody has to tidy up after a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from earshot.kernel.settings import Settings
from earshot.processes import PROCESSES, STAGES, prepare
from tests.processes import answers, free_ports, tied
from tests.system.conftest import EXAMPLES, ROOT, System, start
from tests.waiting import eventually, eventually_sync

pytestmark = pytest.mark.timeout(400)  # whole systems, on a machine that may be busy
CLIP = EXAMPLES / "jfk.flac"
BOUNDARY = "cut-here"


class Web:
    """The web process alone: no stage runs, so no job ever ends."""

    def __init__(self, data: Path, **worker: Any) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
        environment |= {f"EARSHOT_WORKER__{name}": str(value) for name, value in worker.items()}
        command = [sys.executable, "-m", "earshot", "worker", "web", "--port", str(self.port)]
        self.process = subprocess.Popen(
            tied(command), cwd=ROOT, env=environment | {"EARSHOT_DATA": str(data)}, stdout=subprocess.DEVNULL
        )

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.get(self.url + path)

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, within=60)
        return self.process.returncode


class Upload:
    """An upload whose second half is still to come."""

    def __init__(self, port: int) -> None:
        self._port = port
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="jfk.flac"\r\n\r\n'
        self._body = head.encode() + CLIP.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
        self._half = len(self._body) // 2

    async def begin(self) -> Upload:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST /api/v1/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(self._body)}\r\n"
        head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nExpect: 100-continue\r\n\r\n"
        self._writer.write(head.encode())
        assert b"100" in await self._reader.readuntil(b"\r\n\r\n")  # so it is being read
        self._writer.write(self._body[: self._half])
        await self._writer.drain()
        return self

    async def finish(self) -> bytes:
        """Send the rest; the whole answer."""
        self._writer.write(self._body[self._half :])
        return await self.answer()

    async def answer(self) -> bytes:
        """What comes until the connection ends."""
        try:
            return await asyncio.wait_for(self._reader.read(), 60)
        except ConnectionResetError:
            return b""
        finally:
            self._writer.close()


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start web processes that do not outlive the test."""
    await prepare(Settings(_env_file=None, data=tmp_path))
    made: list[Web] = []

    async def serving(**worker: Any) -> Web:
        made.append(Web(tmp_path, **worker))
        await eventually(lambda: answers(made[-1].port), within=60)
        return made[-1]

    yield serving
    for each in made:
        each.process.kill()
        each.process.wait()


async def test_web_is_not_ready_first_then_refuses_what_is_new_and_finishes_what_is_in_flight(web: Any) -> None:
    ending: Web = await web(NOTICE_S=4, DRAIN_S=3600)
    upload = await Upload(ending.port).begin()
    ending.process.send_signal(signal.SIGTERM)

    async def noticed() -> bool:
        ready = await ending.get("/health/ready?stages=false")
        return ready.status_code == httpx.codes.SERVICE_UNAVAILABLE and ready.json()["ending"]

    await eventually(noticed)
    assert (await ending.get("/api/v1/")).status_code == httpx.codes.OK
    await eventually(lambda: not answers(ending.port))
    answer = await upload.finish()
    assert answer.startswith(b"HTTP/1.1 202"), answer
    assert await ending.ended() == 0


async def test_web_ends_event_streams_and_does_not_wait_for_their_hour(web: Any) -> None:
    ending: Web = await web(DRAIN_S=3600)
    accepted = await Upload(ending.port).begin()
    job = (await accepted.finish()).rpartition(b'{"id":"')[2].partition(b'"')[0].decode()
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("GET", f"{ending.url}/api/v1/jobs/{job}/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert "event: job" in [await anext(lines), await anext(lines)]
        ending.process.send_signal(signal.SIGTERM)
        assert not [line async for line in lines if line.startswith("event:")]
    assert await ending.ended() == 0


async def test_web_ends_at_its_deadline_or_at_a_second_signal_and_its_successor_tidies_up(
    web: Any, tmp_path: Path
) -> None:
    late: Web = await web(DRAIN_S=0.5)
    stalled = await Upload(late.port).begin()
    late.process.send_signal(signal.SIGINT)
    assert await late.ended() == 0
    told = await stalled.answer()
    assert told.startswith(b"HTTP/1.1 503"), told
    assert b"Send it again." in told

    forced: Web = await web(DRAIN_S=3600)
    cut_off = await Upload(forced.port).begin()
    forced.process.send_signal(signal.SIGTERM)
    await eventually(lambda: not answers(forced.port))
    forced.process.send_signal(signal.SIGTERM)
    assert await forced.ended() == 128 + signal.SIGTERM
    assert await cut_off.answer() == b""
    (left,) = [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]
    await web()
    (own,) = [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]
    assert own != left, "the temporary folder of a process that is gone is still there"


# --- earshot up -------------------------------------------------------------------------------------------------------


def workers(system: System) -> dict[str, psutil.Process]:
    """The processes of a system by name."""
    found = {}
    for process in psutil.Process(system.process.pid).children():
        command = process.cmdline()
        if "worker" in command:
            found[command[command.index("worker") + 1]] = process
    return found


def alive(processes: dict[str, psutil.Process]) -> list[str]:
    """Those that have not ended, whether or not somebody has asked how."""
    return [
        name for name, process in processes.items() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


@contextmanager
def ended(*systems: System) -> Iterator[None]:
    """Kill what the block leaves of some systems."""
    try:
        yield
    finally:
        for system in systems:
            system.http.close()
            left = [system.process.pid] if system.process.poll() is None else []
            for pid in left:
                for process in [*psutil.Process(pid).children(), psutil.Process(pid)]:
                    process.kill()
            system.process.wait()


QUICK = {"EARSHOT_TRANSCRIBER__ENGINE": "simulated", "EARSHOT_WORKER__STOP_S": "1"}


def test_up_after_a_crash_needs_no_hand_and_ends_in_order(tmp_path: Path) -> None:
    """The supervisor is killed and started again at once; then it is asked to end while the relay cannot."""
    data = tmp_path / "data"
    killed = start(data, **QUICK)
    before = workers(killed)
    with ended(killed):
        before["eraser"].suspend()  # so that one is still there
        os.kill(killed.process.pid, signal.SIGKILL)
        killed.process.wait(10)
        (data / "up.pid").write_text(str(os.getpid()))  # as if the number had been given to somebody else
        down = killed.cli("down", "--data", str(data))
        assert (down.returncode, "No Earshot is running" in down.stderr) == (1, True), down.stderr
    (data / "up.log").unlink()  # what says that it is ready
    with ThreadPoolExecutor(1) as threads:
        starting = threads.submit(start, data, **QUICK, EARSHOT_WORKER__DRAIN_S="1")
        eventually_sync(lambda: (data / "up.pid").read_text() != str(os.getpid()), within=60)
        assert alive(before)
        before["eraser"].resume()
        again = starting.result()
    with ended(again):
        assert not alive(before)
        now = workers(again)
        assert set(now) == set(PROCESSES)
        now["relay"].suspend()
        again.process.send_signal(signal.SIGTERM)
        now["web"].wait(30)
        assert set(alive(now)) == {*STAGES, "relay"}, "a stage ended before the relay"
        assert again.process.wait(40) == 1
        assert not alive(now)
        assert "relay has not ended in time" in (data / "up.log").read_text()


@pytest.mark.full
def test_up_passes_a_second_signal_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    system = start(data, **QUICK, EARSHOT_WORKER__DRAIN_S="3600")
    with ended(system):
        mine = workers(system)
        mine["web"].suspend()
        system.process.send_signal(signal.SIGTERM)
        eventually_sync(lambda: mine["web"].status() == psutil.STATUS_STOPPED)
        system.process.send_signal(signal.SIGTERM)
        assert system.process.wait(60) == 128 + signal.SIGTERM
        assert not alive(mine)


@pytest.mark.full
def test_down_waits_until_everything_has_ended(tmp_path: Path) -> None:
    system = start(tmp_path / "data", **QUICK)
    with ended(system):
        mine = workers(system)
        down = system.cli("down", "--data", str(system.data))
        assert down.returncode == 0, down.stderr
        assert system.process.wait(10) == 0
        assert not alive(mine)
