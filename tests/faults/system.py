"""The small pipeline under test: its log, its shelf, its worker processes, and what was asked of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentCut
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS, Topic, slot_of_key
from tests.fakes_stream import record_of, recording, segment
from tests.faults.guarantees import Outcome
from tests.faults.oracle import Expected, Lag, complaints
from tests.faults.pipeline import Shelf, text_of, transcript
from tests.processes import tied
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
PARTITIONS = 3
SOURCES = {"copier": AUDIO_SEGMENTS, "shelver": AUDIO_TRANSCRIPTS, "costly": AUDIO_SEGMENTS}
QUICK = {
    "session_timeout_s": 6,
    "broker_heartbeat_s": 0.5,
    "rebalance_timeout_s": 6,
    "heartbeat_s": 0.2,
    "lag_s": 0.5,
    "retry_first_s": 0.05,
    "retry_max_s": 0.2,
}
PATIENCE_S = 60.0


class Worker:
    """One worker process, its log in a file."""

    def __init__(self, order: Mapping[str, Any], output: Path) -> None:
        self.output = output
        self.health = f"http://127.0.0.1:{order['worker'].get('health_port')}"
        command = [sys.executable, "-m", "tests.faults.worker", json.dumps(order)]
        with output.open("ab") as sink:
            self.process = subprocess.Popen(tied(command), cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within: float = PATIENCE_S) -> int:
        """Its exit code, negative for a signal."""
        await eventually(lambda: not self.alive, within=within)
        return self.process.returncode

    def log(self) -> str:
        return self.output.read_text(errors="replace")

    def kill(self) -> None:
        if self.alive:
            self.process.kill()
        self.process.wait()


class System:
    """A pipeline with a topic prefix of its own on a broker.

    Args:
        broker: its URL.
        folder: for the shelf and the workers' logs.
        settings: of the process, besides.
    """

    def __init__(self, broker: str, folder: Path, **settings: Any) -> None:
        self.settings = Settings(broker_url=broker, topic_prefix=f"f{uuid.uuid4().hex[:8]}-", **settings)
        self.folder = folder
        self._given = {name: str(value) for name, value in settings.items()}
        self.shelf = Shelf(folder)
        self.log = Kit(self.settings).log
        self.expected = Expected()
        self.workers: list[Worker] = []
        self._published = 0

    async def prepare(self, **config: Mapping[str, str]) -> None:
        """Create the topics; ``config`` by topic name with ``_`` for ``.``."""
        topics = (AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS)
        names = {topic.name for topic in topics} | {topic.dead_letters.name for topic in topics}
        wanted = {self.settings.topic(name): config.get(name.replace(".", "_"), {}) for name in names}
        await self.log.create(wanted, PARTITIONS)

    async def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        await self.log.close()

    # --- workers ----------------------------------------------------------------------------------------------------

    def start(self, stage: str, *, point: str = "", nth: int = 1, **worker: Any) -> Worker:
        """Start a worker; with ``point`` it kills itself when it passes it for the nth time.

        It is a static member of its group, so that after ``kill -9`` the next need not wait for the session's end.
        """
        order = {
            "stage": stage,
            "broker": self.settings.broker,
            "prefix": self.settings.topic_prefix,
            "folder": str(self.folder),
            "settings": self._given,
            "point": point,
            "nth": nth,
            "worker": QUICK | {"instance_id": stage} | worker,
        }
        self.workers.append(Worker(order, self.folder / f"{stage}-{len(self.workers)}.log"))
        return self.workers[-1]

    # --- what is asked of it ----------------------------------------------------------------------------------------

    async def publish(self, *events: SegmentCut, arrives: bool = True) -> None:
        """Publish segments; what returns was acknowledged, and must arrive unless said otherwise."""
        await self.put(AUDIO_SEGMENTS, *[record_of(event, -1) for event in events])
        if arrives:
            self.expect(*events)

    async def publish_transcripts(self, *events: SegmentCut) -> None:
        """Publish the transcripts of segments, as if another producer had made them."""
        made = [transcript(event, text_of(event)) for event in events]
        await self.put(AUDIO_TRANSCRIPTS, *[record_of(event, -1, AUDIO_TRANSCRIPTS) for event in made])
        self.expect(*events)

    async def put(self, topic: Topic, *records: Record) -> None:
        """Publish records as they are, each to the partition of its key."""
        name = self.settings.topic(topic.name)
        await self.log.publish([replace(record, topic=name, partition=_partition(record)) for record in records])

    def expect(self, *events: SegmentCut) -> None:
        for event in events:
            self.expected.texts[event.recording_id, event.index] = text_of(event)

    def segments(self, number: int) -> list[SegmentCut]:
        """So many new segments of new recordings, two each."""
        first, self._published = self._published, self._published + number
        return [segment(n % 2, of=n // 2) for n in range(first, first + number)]

    # --- what is seen of it -----------------------------------------------------------------------------------------

    async def lag(self, stage: str) -> Lag:
        """Committed and end offset by partition of a stage's source."""
        topic = self.settings.topic(SOURCES[stage].name)
        return await self.log.lag(self.settings.topic_prefix + stage, [topic])

    async def behind(self, stage: str) -> int:
        """Records not committed yet."""
        return sum(end - done for done, end in (await self.lag(stage)).values())

    async def letters(self, topic: Topic = AUDIO_SEGMENTS) -> list[Record]:
        """What was dead-lettered of a topic."""
        return await self.records(topic.dead_letters)

    async def records(self, topic: Topic) -> list[Record]:
        """Everything in a topic."""
        name = self.settings.topic(topic.name)
        return [record async for record in self.log.tail([name], from_start=True, follow=False)]

    async def complaints(self, *stages: str) -> list[str]:
        """What the oracle finds wrong now."""
        lags = {stage: await self.lag(stage) for stage in stages}
        values = [record.value for record in [*await self.letters(), *await self.letters(AUDIO_TRANSCRIPTS)]]
        return complaints(self.expected, self.shelf.passages(), values, lags)

    async def account(self, outcome: Outcome, *stages: str) -> None:
        """Tell an outcome what the oracle finds now, and how many transcripts the log holds more than once."""
        keys = [record.key for record in await self.records(AUDIO_TRANSCRIPTS) if record.value is not None]
        found = await self.complaints(*(stages or ("copier", "shelver")))
        outcome.count(published=len(self.expected.texts), complaints=found, duplicates=len(keys) - len(set(keys)))

    async def settles(self, *stages: str, within: float = PATIENCE_S) -> None:
        """Return when the oracle is content; fail with its complaints and the workers' last words."""

        async def content() -> bool:
            found = await self.complaints(*(stages or ("copier", "shelver")))
            assert not found, found
            return True

        try:
            await eventually(content, within=within, every=0.2)
        except AssertionError as error:
            words = "\n".join(f"--- {worker.output.name}\n{worker.log()[-1500:]}" for worker in self.workers)
            raise AssertionError(f"{error}\n{words}") from error

    def state(self, stage: str) -> tuple[str, str]:
        """What the stage's last heartbeat said: state and reason."""
        rows = self.shelf.run("SELECT state, reason FROM beats WHERE stage = ?", stage)
        return (str(rows[0][0]), str(rows[0][1])) if rows else ("", "")


def _partition(record: Record) -> int:
    return slot_of_key((record.key or b"").decode()) % PARTITIONS


__all__ = ["PATIENCE_S", "System", "Worker", "recording", "segment"]
