"""A long recording: memory stays flat, and the beginning is found while the rest is still being worked on."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.system.conftest import ROOT, System, start, stop

sys.path.insert(0, str(ROOT / "benchmarks"))
from speech import write_speech

MIB = 1024 * 1024
SEGMENTER_MIB = 400
GROWTH_MIB = 64
"""How much a process may grow between the first half and the end: the allocator's noise, not an hour of samples."""
FACTOR = 0.05
"""Seconds the simulated engine takes for a second of audio."""


class Memory:
    """Resident memory of each worker, its children included, sampled while a recording passes."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = psutil.Process(supervisor)
        self.samples: dict[str, list[float]] = defaultdict(list)

    def sample(self) -> None:
        for worker in self._supervisor.children():
            try:
                command = worker.cmdline()
                name = command[command.index("worker") + 1]
                family = [worker, *worker.children(recursive=True)]
                self.samples[name].append(sum(process.memory_info().rss for process in family) / MIB)
            except (psutil.NoSuchProcess, ValueError):
                continue

    @contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.5):
                self.sample()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The embedded system with an engine of known speed."""
    system = start(
        tmp_path_factory.mktemp("long") / "data",
        EARSHOT_TRANSCRIBER__ENGINE="simulated",
        EARSHOT_TRANSCRIBER__SIMULATED_REAL_TIME_FACTOR=str(FACTOR),
    )
    warm_up = tmp_path_factory.mktemp("warm-up") / "speech.wav"  # what libraries take at first use is not growth
    write_speech(warm_up, 90, seed=0)
    system.ended(system.add(warm_up)["id"])
    yield system
    stop(system)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("minutes", "share"), [(4, 0.5), pytest.param(60, 0.1, marks=pytest.mark.full)])
def test_memory_is_flat_and_the_first_hit_comes_early(
    simulated: System, tmp_path: Path, minutes: int, share: float
) -> None:
    path = tmp_path / "speech.wav"
    write_speech(path, minutes * 60, seed=minutes)
    memory = Memory(simulated.process.pid)
    with memory.watching():
        job = simulated.add(path, title="long", collection=f"long-{minutes}")
        transcribed_at_first_hit = first_hit(simulated, job["recording_id"], job["id"])
        ended = simulated.ended(job["id"], within=minutes * 60 * FACTOR * 3 + 120)
    assert ended["state"] == "completed", f"{ended}\n{simulated.logs()}"
    total = ended["segments_total"]
    assert total >= minutes * 2
    assert transcribed_at_first_hit <= max(1, total * share), f"{transcribed_at_first_hit} of {total}"
    assert cache_hits(simulated, job["id"]) == 0
    for name, samples in memory.samples.items():
        early = max(samples[: max(3, len(samples) // 2)])
        assert max(samples) - early <= GROWTH_MIB, f"{name} grew from {early:.0f} to {max(samples):.0f} MiB"
    assert max(memory.samples["segmenter"]) < SEGMENTER_MIB, f"{max(memory.samples['segmenter']):.0f} MiB"
    print({name: round(max(samples)) for name, samples in memory.samples.items()}, transcribed_at_first_hit, total)


def first_hit(system: System, recording_id: str, job_id: str) -> int:
    """How many segments had transcripts when the first passage was found."""
    deadline = time.monotonic() + 120
    while True:
        transcribed = system.job(job_id)["stages"].get("transcriber", {}).get("done", 0)
        if system.search("anything at all", recording_id=recording_id):
            return int(transcribed)
        assert time.monotonic() < deadline, f"nothing found\n{system.logs()}"
        time.sleep(0.1)


def cache_hits(system: System, job_id: str) -> int:
    """How many segments were not transcribed because their transcript was there already."""
    spans = system.http.get(f"/jobs/{job_id}/trace").json()["spans"]
    return sum(1 for span in spans if span["attributes"].get("earshot.cache_hit"))
