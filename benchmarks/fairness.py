"""How long a tenant with little waits for one with much: ``python benchmarks/fairness.py [--kafka]``.

Ten uploads of one segment each are timed alone, and again after so many uploads of another tenant. What decides is
real: the catalog's transaction at the door, the relay's turns, the lanes, the log, the ledger. What would only take
time is not: nothing is decoded, and an engine takes the same time for every segment, one after the other.

Prints, as Markdown, both times, and the ratio that the promise is about: (time - window) / time alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from earshot.adapters.wiring import Kit  # noqa: E402 - the path is needed for what stands last
from earshot.kernel import ids  # noqa: E402
from earshot.kernel.events import AudioUploaded, Priority, SegmentCut  # noqa: E402
from earshot.kernel.gate import Gate  # noqa: E402
from earshot.kernel.ports import Accepted, NewRecording  # noqa: E402
from earshot.kernel.settings import Settings  # noqa: E402
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, emit, progress  # noqa: E402
from earshot.kernel.topics import AUDIO_UPLOADED, LANES, RECORDINGS_PROGRESS, lane_of  # noqa: E402
from earshot.logs import set_up  # noqa: E402
from earshot.processes import prepare  # noqa: E402
from earshot.relay.app import run as run_relay  # noqa: E402
from earshot.relay.settings import RelaySettings  # noqa: E402
from earshot.streams.host import Host, Ports  # noqa: E402
from earshot.streams.settings import WorkerSettings  # noqa: E402
from earshot.tracker.app import create_stage as create_tracker  # noqa: E402
from tests.processes import tied  # noqa: E402
from tests.servers import KafkaServer  # noqa: E402
from tests.waiting import eventually  # noqa: E402

SEGMENT_S = 30
FEW = 10
"""Segments of the tenant that waits."""
PROMISE = 2.5
"""Times the time alone, plus the window."""


@dataclass(frozen=True)
class Served:
    """A segment that the engine has finished.

    Attributes:
        tenant: whose it was.
        recording_id: of which recording.
        index: which one.
        at: time of a clock that only rises, at the end.
    """

    tenant: str
    recording_id: str
    index: int
    at: float


@dataclass(frozen=True)
class Order:
    """How the system is to be: where its log and its files are, how fast its engine is, how wide the window."""

    broker: str
    folder: str
    prefix: str
    service_s: float
    window_s: float
    tenant_share: float = 0.5
    silence_s: float = 300.0

    @property
    def settings(self) -> Settings:
        """Of every process."""
        data = Path(self.folder) / "data"
        return Settings(
            _env_file=None, data=data, broker_url=self.broker, topic_prefix=self.prefix, partitions=4, log_format="json"
        )


class System:
    """The system under measurement: an outbox to fill, and what its engine has finished. Its process is the caller's.

    Args:
        broker: URL of the log; empty: a new embedded one.
        folder: for everything of its own.
        order: the rest.
    """

    def __init__(self, broker: str, folder: Path, **order: float) -> None:
        self.order = Order(broker, str(folder), f"fair{uuid.uuid4().hex[:8]}-", **order)
        self.kit = Kit(self.order.settings)
        self._file = folder / "served"

    @property
    def command(self) -> list[str]:
        """Starts its process."""
        return [sys.executable, __file__, "--serve", json.dumps(asdict(self.order))]

    async def prepare(self) -> None:
        """Make topics and tables."""
        self._file.touch()
        await prepare(self.order.settings)

    async def close(self) -> None:
        """Let go of the catalog and the log."""
        await self.kit.log.close()
        await self.kit.catalog.close()

    async def send(self, tenant: str, uploads: int, *, segments: int = 1, priority: Priority = "normal") -> None:
        """Take in so many recordings of so many segments each, as the door would."""
        for _ in range(uploads):
            await self._accept(tenant, segments, priority)

    async def _accept(self, tenant: str, segments: int, priority: Priority) -> Accepted:
        recording_id = ids.new_recording_id()
        upload = AudioUploaded(
            tenant=tenant, recording_id=recording_id, uri=f"file:///{tenant}/{recording_id}", sha256=recording_id,
            priority=priority, metadata={"segments": str(segments)},
        )  # fmt: skip
        return await self.kit.catalog.accept(NewRecording(upload, None, {}, claimed_ms=segments * SEGMENT_S * 1000))

    def served(self) -> list[Served]:
        """What the engine has finished, in order."""
        return [Served(**json.loads(line)) for line in self._file.read_text().splitlines()]

    def of(self, tenant: str) -> list[Served]:
        """What of a tenant's it has finished."""
        return [each for each in self.served() if each.tenant == tenant]


# --- the system's process ---------------------------------------------------------------------------------------------


async def cut(batch: Sequence[Delivery[AudioUploaded]]) -> AsyncIterator[Output]:
    """The segments of each recording, as many as its upload says, of nothing."""
    for delivery in batch:
        upload = delivery.event
        number = int(upload.metadata["segments"])
        for index in range(number):
            start_ms = index * SEGMENT_S * 1000
            piece = SegmentCut(
                tenant=upload.tenant, recording_id=upload.recording_id, revision=upload.revision, index=index,
                start_ms=start_ms, end_ms=start_ms + SEGMENT_S * 1000, uri="file:///none", sha256="00" * 32,
            )  # fmt: skip
            yield emit(lane_of(upload.priority, start_ms), piece, delivery)
        end_ms = number * SEGMENT_S * 1000
        yield progress("segmenter", delivery, segments_total=number, index=None, start_ms=0, end_ms=end_ms)


class Engine:
    """Takes the same time for each segment, one after the other, and notes what it has finished."""

    def __init__(self, file: Path, service_s: float) -> None:
        self._file = file
        self._service_s = service_s
        self._turn = asyncio.Lock()

    async def __call__(self, batch: Sequence[Delivery[SegmentCut]]) -> AsyncIterator[Output]:
        """Finish each segment, and say that it can be found."""
        for delivery in batch:
            async with self._turn:
                await asyncio.sleep(self._service_s)
                segment = delivery.event
                done = Served(segment.tenant, segment.recording_id, segment.index, time.monotonic())
                with self._file.open("a") as file:
                    file.write(json.dumps(asdict(done)) + "\n")
            for stage in ("transcriber", "indexer"):
                yield progress(stage, delivery)


async def serve(order: Order) -> None:
    """Run relay, cutter, engine and tracker until one of them ends."""
    settings = order.settings
    set_up(settings)
    kit = Kit(settings)
    catalog = kit.catalog
    engine = Engine(Path(order.folder) / "served", order.service_s)
    sinks = (*LANES.values(), RECORDINGS_PROGRESS)
    stages = (
        Stage("segmenter", (AUDIO_UPLOADED,), sinks, cut, batch=BatchPolicy(8)),
        Stage("transcriber", tuple(LANES.values()), (RECORDINGS_PROGRESS,), engine, lanes=True, batches_in_work=2),
        create_tracker(kit),
    )
    worker = WorkerSettings(silence_s=order.silence_s, lag_s=min(10.0, order.silence_s / 4))
    ports = Ports(kit.codec, Gate(catalog), catalog, catalog, kit.log)
    relay = RelaySettings(window_s=order.window_s, tenant_share=order.tenant_share, poll_s=0.02)
    running = [asyncio.create_task(Host(stage, settings, worker, ports).run()) for stage in stages]
    running.append(asyncio.create_task(run_relay(Kit(settings), relay)))  # type: ignore[arg-type]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


# --- the measurement --------------------------------------------------------------------------------------------------


async def measure(system: System, uploads: int, within_s: float) -> tuple[float, float]:
    """Seconds of ten uploads alone, and after so many of another tenant."""
    await system.send("warm", 1)
    await eventually(lambda: system.of("warm"), within=within_s)
    alone_s = await _timed(system, "alone", within_s)
    await system.send("many", uploads)
    return alone_s, await _timed(system, "few", within_s)


async def _timed(system: System, tenant: str, within_s: float) -> float:
    began = time.monotonic()
    await system.send(tenant, FEW)
    await eventually(lambda: len(system.of(tenant)) == FEW, within=within_s)
    return system.of(tenant)[-1].at - began


async def main(options: argparse.Namespace) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        broker = stack.enter_context(KafkaServer()).url if options.kafka else ""
        system = System(broker, Path(name), service_s=options.service_s, window_s=options.window_s)
        await system.prepare()
        log = (Path(name) / "log").open("wb")
        process = await asyncio.to_thread(subprocess.Popen, tied(system.command), cwd=ROOT, stdout=log, stderr=log)
        try:
            alone_s, beside_s = await measure(system, options.uploads, options.within_s)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            await system.close()
    window_s = options.window_s / SEGMENT_S * options.service_s
    print("| log | uploads before | alone s | beside them s | window s | (beside - window) / alone | promised |")
    print("|---|---|---|---|---|---|---|")
    kind = "Kafka" if options.kafka else "embedded"
    ratio = (beside_s - window_s) / alone_s
    cells = (kind, options.uploads, f"{alone_s:.2f}", f"{beside_s:.2f}", f"{window_s:.2f}", f"{ratio:.2f}", PROMISE)
    print("| " + " | ".join(map(str, cells)) + " |")
    print(f"\nLoad of the machine: {os.getloadavg()[0]:.1f}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uploads", type=int, default=1000, help="of the other tenant, before")
    parser.add_argument("--service-s", type=float, default=0.2, help="seconds the engine takes for a segment")
    parser.add_argument("--window-s", type=float, default=600.0, help="of audio in flight")
    parser.add_argument("--within-s", type=float, default=600.0, help="until it is given up")
    parser.add_argument("--kafka", action="store_true", help="on a Kafka started for it, not on an embedded log")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    asyncio.run(serve(Order(**json.loads(given.serve))) if given.serve else main(given))
