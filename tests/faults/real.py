"""A whole system of real stages, each under orders to die when told, restarted as a supervisor would."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from benchmarks.speech import write_speech
from earshot.adapters.decoder import DecoderLimits, IsolatedDecoder
from earshot.adapters.simulated import Simulated
from earshot.adapters.wiring import Kit
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports import Clip, CutSegment
from earshot.kernel.settings import Settings
from earshot.kernel.topics import (
    AUDIO_EMBEDDINGS,
    AUDIO_SPEAKERS,
    AUDIO_TRANSCRIPTS,
    AUDIO_UPLOADED,
    LANES,
    RECORDINGS_ERASED,
    RECORDINGS_PROGRESS,
    Topic,
)
from earshot.processes import PROCESSES, STAGES, prepare
from tests.faults.real_worker import OBEYED
from tests.processes import free_ports, tied
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SOURCES: dict[str, tuple[Topic, ...]] = {
    "segmenter": (AUDIO_UPLOADED,),
    "transcriber": tuple(LANES.values()),
    "diarizer": (AUDIO_UPLOADED,),
    "embedder": (AUDIO_TRANSCRIPTS,),
    "indexer": (AUDIO_EMBEDDINGS, AUDIO_SPEAKERS),
    "tracker": (RECORDINGS_PROGRESS,),
    "eraser": (RECORDINGS_ERASED,),
}
QUICK = {
    "EARSHOT_TRANSCRIBER__ENGINE": "simulated",
    "EARSHOT_TRANSCRIBER__SIMULATED_REAL_TIME_FACTOR": "0.01",
    "EARSHOT_TRANSCRIBER__HUB": "off",
    "EARSHOT_DIARIZER__ENGINE": "simulated",
    "EARSHOT_PARTITIONS": "3",
    "EARSHOT_LOG_FORMAT": "json",
    "EARSHOT_WORKER__SESSION_TIMEOUT_S": "6",
    "EARSHOT_WORKER__BROKER_HEARTBEAT_S": "0.5",
    "EARSHOT_WORKER__REBALANCE_TIMEOUT_S": "6",
    "EARSHOT_WORKER__HEARTBEAT_S": "1",
    "EARSHOT_WORKER__LAG_S": "1",
    "EARSHOT_WORKER__RETRY_FIRST_S": "0.05",
    "EARSHOT_WORKER__RETRY_MAX_S": "0.5",
    "EARSHOT_SEGMENTER__LEASE_S": "2",
}
PATIENCE_S = 120.0
SPEECH_S = 70
"""Three segments."""


@dataclass(frozen=True)
class Speech:
    """A recording to upload, and what each of its segments says to the simulated engine."""

    path: Path
    texts: tuple[str, ...]


async def make_speech(folder: Path, seed: int, seconds: float = SPEECH_S) -> Speech:
    """Seeded speech, cut here as the segmenter should cut it."""
    path = folder / f"speech-{seed}.wav"
    await asyncio.to_thread(write_speech, path, seconds, seed)
    limits = DecoderLimits(2**30, 3600, 768 * 2**20)
    pieces = [piece async for piece in IsolatedDecoder(limits).cut(path) if isinstance(piece, CutSegment)]
    clips = [Clip(piece.flac, piece.start_ms, piece.end_ms) for piece in pieces]
    return Speech(path, tuple(heard.text for heard in Simulated(0).recognize(clips)))


@dataclass(frozen=True)
class Death:
    """How a process ended, and how many records of its sources were not committed then; -1: the broker did not say."""

    name: str
    code: int
    behind: int


class Flow:
    """Web, relay and the six stages as processes; only URLs say which transport.

    Args:
        folder: for everything of its own.
        urls: ``EARSHOT_…`` variables that say where broker and vectors are.
    """

    def __init__(self, folder: Path, urls: dict[str, str]) -> None:
        self.data = folder / "data"
        self.folder = folder
        mine = {"EARSHOT_DATA": str(self.data), "EARSHOT_TOPIC_PREFIX": f"r{uuid4().hex[:8]}-", **urls}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
        self._environment |= QUICK | mine
        self.settings = Settings(
            _env_file=None,
            data=self.data,
            broker_url=urls.get("EARSHOT_BROKER_URL", ""),
            vectors_url=urls.get("EARSHOT_VECTORS_URL", ""),
            topic_prefix=mine["EARSHOT_TOPIC_PREFIX"],
            partitions=int(QUICK["EARSHOT_PARTITIONS"]),
        )
        self.kit = Kit(self.settings)
        self.deaths: list[Death] = []
        (self._port,) = free_ports(1)
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=30)
        self.static = True
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything and return when the door answers and every stage has said that it runs."""
        await prepare(self.settings)
        for name in PROCESSES:
            self._spawn(name)
        self._tending = asyncio.create_task(self._tend())
        await eventually(self._ready, within=PATIENCE_S, every=0.2)

    async def _ready(self) -> bool:
        answer = await self.http.get(f"http://127.0.0.1:{self._port}/health/ready")
        return answer.status_code == httpx.codes.OK

    async def close(self) -> None:
        """End everything."""
        if self._tending is not None:
            self._tending.cancel()
        for process in self._processes.values():
            process.kill()
            process.wait()
        await self.http.aclose()
        await self.kit.vectors.close()
        await self.kit.log.close()
        await self.kit.catalog.close()

    # --- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, name: str) -> None:
        command = [sys.executable, "-m", "earshot", "worker", name, "--port", str(self._port)]
        if name in STAGES:
            command = [sys.executable, "-m", "tests.faults.real_worker", name, str(self._order(name))]
        # A static member of its group, so that after kill -9 the next need not wait for the session's end.
        environment = self._environment | {"EARSHOT_WORKER__INSTANCE_ID": name if self.static else ""}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                tied(command), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def _tend(self) -> None:
        """Note each death and start the process again."""
        while True:
            for name, process in list(self._processes.items()):
                if process.poll() is not None:
                    self.deaths.append(Death(name, process.returncode, await self._left(name)))
                    self._spawn(name)
            await asyncio.sleep(0.05)

    async def _left(self, name: str) -> int:
        try:
            return await self.behind(name) if name in STAGES else 0
        except Unavailable:
            return -1

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        self._processes[name].send_signal(number)

    def _order(self, stage: str) -> Path:
        return self.folder / f"{stage}.order"

    def arm(self, stage: str, point: str, nth: int) -> None:
        """Order a stage to kill itself at the nth time from now on that it passes a point."""
        order = self._order(stage)
        order.with_suffix(OBEYED).unlink(missing_ok=True)
        draft = order.with_suffix(".draft")
        draft.write_text(f"{point} {nth}")
        draft.rename(order)

    def disarm(self) -> None:
        """Take back every order not yet carried out."""
        for stage in STAGES:
            self._order(stage).unlink(missing_ok=True)

    def obeyed(self, stage: str) -> bool:
        """Whether the last order has been carried out."""
        return self._order(stage).with_suffix(OBEYED).exists()

    def last_words(self) -> str:
        """The ends of the logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1200:]}" for log in logs)

    # --- what is asked of it ----------------------------------------------------------------------------------------

    async def add(self, speech: Speech, collection: str) -> dict[str, Any]:
        """Upload; what returns was acknowledged."""
        files = {"file": (speech.path.name, await asyncio.to_thread(speech.path.read_bytes))}
        answer = await self.http.post("/ingest", files=files, data={"collection": collection})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def job(self, either_id: str) -> dict[str, Any]:
        """A job by its id, or the latest of a recording."""
        return dict((await self.http.get(f"/jobs/{either_id}")).raise_for_status().json())

    async def lag(self, stage: str) -> dict[tuple[str, int], tuple[int, int]]:
        """Committed and end offset by partition of a stage's sources."""
        topics = [self.settings.topic(topic.name) for topic in SOURCES[stage]]
        return await self.kit.log.lag(self.settings.topic_prefix + stage, topics)

    async def behind(self, stage: str) -> int:
        """Records of a stage's sources that are not committed."""
        return sum(end - done for done, end in (await self.lag(stage)).values())

    async def drained(self, within: float = PATIENCE_S) -> None:
        """Return when nothing is on its way: no order of the outbox waits, and every offset is committed, twice."""
        before: list[Any] = []

        async def still() -> bool:
            nonlocal before
            sweep = [lag async for lag in self._lags()]
            same, before = sweep == before, sweep
            return same

        await self.sure(still, within, every=0.2)

    async def _lags(self) -> AsyncIterator[dict[tuple[str, int], tuple[int, int]]]:
        """The lag of each stage; raises at the first that is behind, as long as there is one."""
        assert not await self.kit.catalog.pending(1), "the outbox is not empty"
        assert not (await self.kit.catalog.backlog()).uploads, "uploads wait for their turn"
        for stage in STAGES:
            lag = await self.lag(stage)
            left = {place: where for place, where in lag.items() if where[0] != where[1]}
            assert not left, f"{stage} has yet to commit {left}"
            yield lag

    async def sure(self, check: Callable[[], Awaitable[Any]], within: float = PATIENCE_S, every: float = 0.1) -> Any:
        """``eventually``, whose failure tells the last words of every process."""
        try:
            return await eventually(check, within=within, every=every)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from error
