"""How the transcriber scales on Kafka: one recording, an engine of fixed service time, one to eight workers.

    python benchmarks/scaling.py --seconds 1 --workers 1 2 8 --runs 3

Workers are processes as in production (``earshot worker transcriber``), the catalog is PostgreSQL where it can be had,
segments are speech of one length, all different, so that the transcript cache never helps. Every worker has its
partitions before the first event is published. Time runs from the first fetch to the last acknowledgement, as the
spans of the workers say. Prints Markdown; the machine may be shared, so its load stands beside.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import soundfile
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment as Assignment
from aiokafka.protocol.api import Response

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from speech import RATE, write_speech  # noqa: E402 - beside this file

from earshot import processes  # noqa: E402 - needs no path, stands with the other imports of ours
from earshot.adapters.wiring import Kit  # noqa: E402
from earshot.kernel.codec import Record, headers_for  # noqa: E402
from earshot.kernel.events import AudioUploaded, SegmentCut  # noqa: E402
from earshot.kernel.ports import NewRecording  # noqa: E402
from earshot.kernel.settings import Settings  # noqa: E402
from earshot.kernel.topics import AUDIO_SEGMENTS, slot_of_key  # noqa: E402
from tests.processes import tied  # noqa: E402 - the servers of the tests
from tests.servers import CannotHave, KafkaServer, PostgresServer  # noqa: E402
from tests.waiting import eventually  # noqa: E402

TENANT = "default"
READY_WITHIN_S = 120.0
DONE_WITHIN_S = 3600.0


@dataclass(frozen=True)
class Clip:
    """One segment's audio in the blob store."""

    uri: str
    sha256: str


@dataclass(frozen=True)
class Run:
    """One recording through some workers.

    Attributes:
        workers: how many.
        wall_s: from the first fetch to the last acknowledgement.
        busy_s: the engine's fixed service time of all segments.
        shares: fewest and most partitions of ``audio.segments`` a worker had.
        cpu_s: CPU seconds of the workers and their engines, per segment.
        load: of the machine, over the last minute, at the end.
    """

    workers: int
    wall_s: float
    busy_s: float
    shares: tuple[int, int]
    cpu_s: float
    load: float

    @property
    def busy(self) -> float:
        """Busy share of the workers' time."""
        return self.busy_s / (self.wall_s * self.workers)


def main() -> None:
    """Measure every number of workers, in turn, so that noise falls on all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="service time of the engine for a segment")
    parser.add_argument("--segments", type=int, default=960, help="segments of the recording")
    parser.add_argument("--clip-s", type=float, default=30.0, help="seconds of audio in a segment")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 8], help="numbers of workers")
    parser.add_argument("--runs", type=int, default=3, help="runs with each number; the median counts")
    options = parser.parse_args()
    of = f"one recording of {options.segments} segments of {options.clip_s:g} s"
    print(f"# Scaling of the transcriber\n\n{os.cpu_count()} cores; {of}; engine: {options.seconds:g} s a segment\n")
    print("| workers | wall s | busy | engines kept busy | partitions each | CPU s a segment | load |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with system(options.seconds) as settings:
        clips = asyncio.run(cut(settings, options.segments, options.clip_s))
        runs = [
            shown(measure(settings, clips, options, workers))
            for _ in range(options.runs)
            for workers in options.workers
        ]
    summary(runs, options.workers)


@contextmanager
def system(seconds: float) -> Iterator[Settings]:
    """Settings of an empty system on real servers, also in the environment for workers."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        values = {
            "EARSHOT_DATA": folder,
            "EARSHOT_BROKER_URL": stack.enter_context(KafkaServer()).url,
            "EARSHOT_PARTITIONS": "48",
            "EARSHOT_TRANSCRIBER__ENGINE": "simulated",
            "EARSHOT_TRANSCRIBER__SIMULATED_REAL_TIME_FACTOR": "0",
            "EARSHOT_TRANSCRIBER__SIMULATED_SECONDS": str(seconds),
            "EARSHOT_LOG_LEVEL": "warning",
        }
        try:
            values["EARSHOT_CATALOG_URL"] = stack.enter_context(PostgresServer()).url
        except CannotHave as error:
            print(f"the catalog is SQLite: {error}", file=sys.stderr)
        os.environ.update(values)
        settings = Settings()
        asyncio.run(processes.prepare(settings))
        yield settings


async def cut(settings: Settings, count: int, seconds: float) -> list[Clip]:
    """So many segments of speech in the blob store, no two alike."""
    source = settings.data / "speech.wav"
    await asyncio.to_thread(write_speech, source, 4 * seconds, 1)
    speech, _ = soundfile.read(source, dtype="int16")
    kit, clips = Kit(settings), []
    for index in range(count):
        samples = np.roll(speech, -index * len(speech) // count)[: int(seconds * RATE)]
        flac = io.BytesIO()
        soundfile.write(flac, samples, RATE, format="FLAC", subtype="PCM_16")
        key = f"{TENANT}/recordings/speech/segments/{index}.flac"
        await kit.blobs.put(key, flac.getvalue())
        clips.append(Clip(kit.blobs.uri(key), hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()))
    assert len({clip.sha256 for clip in clips}) == count
    return clips


def measure(settings: Settings, clips: list[Clip], options: argparse.Namespace, workers: int) -> Run:
    """One recording through a number of workers, with an empty transcript cache."""
    shutil.rmtree(settings.data / "blobs" / TENANT / "transcripts", ignore_errors=True)
    trace_id = secrets.token_hex(16)
    with running(settings, workers) as started:
        shares = asyncio.run(settled(settings, started))
        before = cpu_seconds(started)
        asyncio.run(through(settings, clips, options.clip_s, trace_id, started))
        used, load = cpu_seconds(started) - before, os.getloadavg()[0]
    wall_s = asyncio.run(wall(settings, trace_id, len(clips)))
    return Run(workers, wall_s, len(clips) * options.seconds, shares, used / len(clips), load)


@contextmanager
def running(settings: Settings, workers: int) -> Iterator[list[psutil.Process]]:
    """So many worker processes, as in production."""
    command = tied([sys.executable, "-m", "earshot", "worker", "transcriber"])
    children = []
    try:
        for number in range(workers):
            with (settings.data / f"worker-{number}.log").open("ab") as log:
                children.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=settings.data))
        yield [psutil.Process(child.pid) for child in children]
    except BaseException:
        for log in settings.data.glob("worker-*.log"):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        raise
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(60)


async def settled(settings: Settings, workers: list[psutil.Process]) -> tuple[int, int]:
    """Wait until all workers have their partitions; return the fewest and the most that one has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker.removeprefix("kafka://"))
    await admin.start()

    async def shares() -> list[int]:
        [described] = await admin.describe_consumer_groups([settings.topic("transcriber")])
        found = _shares(described, settings.topic(AUDIO_SEGMENTS.name))
        return found if len(found) == len(workers) and sum(found) == settings.topic_partitions else []

    try:
        found = await unless_one_ends(workers, shares, READY_WITHIN_S)
        return min(found), max(found)
    finally:
        await admin.close()


def _shares(described: Response, topic: str) -> list[int]:
    """Partitions of a topic that each member of a stable group has."""
    [(_, _, state, _, _, members, *_)] = described.groups
    assigned = [dict(Assignment.decode(member[4]).assignment) for member in members if state == "Stable"]
    return [len(topics.get(topic, ())) for topics in assigned]


async def unless_one_ends(workers: list[psutil.Process], check: Callable[[], Awaitable[Any]], within: float) -> Any:
    """What a check says as soon as it is true. Raises ``RuntimeError`` when a worker ends before."""

    def ended() -> bool:
        return any(not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE for worker in workers)

    async def either() -> Any:
        return ended() or await check()

    found = await eventually(either, within=within, every=0.5)
    if ended():
        raise RuntimeError("A worker ended in the middle of its work.")
    return found


async def through(
    settings: Settings, clips: list[Clip], clip_s: float, trace_id: str, workers: list[psutil.Process]
) -> None:
    """Publish one recording and wait until the last of its segments is committed."""
    kit, group, topic = Kit(settings), settings.topic("transcriber"), settings.topic(AUDIO_SEGMENTS.name)
    try:
        done = await _committed(kit, group, topic)
        await kit.log.publish(await _records(kit, clips, clip_s, trace_id))
        all_done = done + len(clips)
        await unless_one_ends(workers, lambda: _all_committed(kit, group, topic, all_done), DONE_WITHIN_S)
    finally:
        await kit.log.close()
        await kit.catalog.close()


async def _all_committed(kit: Kit, group: str, topic: str, count: int) -> bool:
    return await _committed(kit, group, topic) >= count


async def _committed(kit: Kit, group: str, topic: str) -> int:
    return sum(committed for committed, _ in (await kit.log.lag(group, [topic])).values())


async def _records(kit: Kit, clips: list[Clip], clip_s: float, trace_id: str) -> list[Record]:
    """A recording in the catalog, and its segments as the segmenter publishes them."""
    recording, partitions = str(uuid4()), kit.settings.topic_partitions
    trace = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    upload = AudioUploaded(tenant=TENANT, recording_id=recording, uri=clips[0].uri, sha256=uuid4().hex * 2, title="One")
    await kit.catalog.accept(NewRecording(upload, None, trace))
    made, length_ms = [], round(clip_s * 1000)
    for index, clip in enumerate(clips):
        event = SegmentCut(
            tenant=TENANT, recording_id=recording, index=index, uri=clip.uri, sha256=clip.sha256,
            start_ms=index * length_ms, end_ms=(index + 1) * length_ms,
        )  # fmt: skip
        key = AUDIO_SEGMENTS.key(event)
        value = kit.codec.encode(AUDIO_SEGMENTS, event)
        headers = headers_for(AUDIO_SEGMENTS, event, key, value, "benchmark")
        headers |= {name: text.encode() for name, text in trace.items()}
        place = slot_of_key(key) % partitions
        made.append(Record(kit.settings.topic(AUDIO_SEGMENTS.name), key.encode(), value, tuple(headers.items()), place))
    return made


async def wall(settings: Settings, trace_id: str, count: int) -> float:
    """Seconds from the first fetch to the last acknowledgement, by the spans that the workers left behind."""
    kit = Kit(settings)
    try:
        spans = [span for span in kit.catalog.of_trace(TENANT, trace_id) if span.name.startswith("process ")]
        assert len(spans) == count, f"{len(spans)} of {count} segments were processed"
        assert not any(span.error for span in spans)
        return (max(span.end_ns for span in spans) - min(span.start_ns for span in spans)) / 1e9
    finally:
        await kit.catalog.close()


def cpu_seconds(workers: list[psutil.Process]) -> float:
    """CPU seconds that the workers and their engines have used."""
    family = [process for worker in workers for process in (worker, *worker.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def shown(run: Run) -> Run:
    """Print a run as a row."""
    fewest, most = run.shares
    cells = (run.workers, f"{run.wall_s:.1f}", f"{run.busy:.3f}", f"{run.busy * run.workers:.2f}")
    cells += (f"{fewest} to {most}", f"{run.cpu_s:.3f}", f"{run.load:.1f}")
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return run


def summary(runs: list[Run], counts: list[int]) -> None:
    """The medians, and how many times as fast as one worker."""
    walls = {workers: statistics.median(run.wall_s for run in runs if run.workers == workers) for workers in counts}
    print("\n| workers | median wall s | busy | times as fast as one |\n|---|---|---|---|")
    for workers in counts:
        wall_s = walls[workers]
        speed_up = f"{walls[1] / wall_s:.2f}" if 1 in walls else "-"
        print(f"| {workers} | {wall_s:.1f} | {runs[0].busy_s / (wall_s * workers):.3f} | {speed_up} |")


if __name__ == "__main__":
    main()
