"""The machine loses power in the middle of a write to the embedded log: what was acknowledged is there, and is done."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import psutil
import pytest

from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Codec
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_SEGMENTS
from tests.faults.guarantees import Outcome
from tests.faults.system import ROOT, System
from tests.processes import tied
from tests.waiting import eventually

EMBEDDED = pytest.mark.parametrize("broker", ["sqlite"], indirect=True)
SEEDS = pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.full) for seed in (2, 3)]])
FILES = ("log.sqlite", "log.sqlite-wal", "shelf.sqlite", "shelf.sqlite-journal")


class Writer:
    """A process that publishes, and what it was told is safe."""

    def __init__(self, system: System) -> None:
        self._said = system.folder / "acknowledged"
        command = [sys.executable, "-m", "tests.faults.writer", system.settings.broker, system.settings.topic_prefix]
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(tied(command), cwd=ROOT, stdout=output)

    def acknowledged(self) -> list[tuple[str, int]]:
        lines = self._said.read_text().splitlines()
        return [(recording, index) for recording, index in map(json.loads, lines)]


@pytest.fixture
def writing(system: System) -> Iterator[Callable[[], Writer]]:
    """Start a writer that does not outlive the test."""
    made: list[Writer] = []

    def start() -> Writer:
        made.append(Writer(system))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.wait()


async def freeze(*pids: int) -> None:
    """Stop processes where they are, and return when all stand still."""
    for pid in pids:
        psutil.Process(pid).send_signal(signal.SIGSTOP)
    await eventually(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids))


def copy_files(of: Path, to: Path) -> None:
    to.mkdir()
    for name in FILES:
        if (of / name).exists():
            shutil.copy(of / name, to / name)


@asynccontextmanager
async def copied(system: System, folder: Path) -> AsyncIterator[System]:
    """A system on a copy of the files as they lie there; the shared memory of the WAL is gone, as after a power cut."""
    copy_files(system.folder, folder)
    copy = System(f"sqlite://{folder}/log.sqlite", folder)
    copy.settings = copy.settings.model_copy(update={"topic_prefix": system.settings.topic_prefix})
    copy.log = Kit(copy.settings).log
    try:
        yield copy
    finally:
        await copy.close()
    assert damage(folder / "log.sqlite") == "ok"


async def published(system: System) -> list[SegmentCut]:
    """Every segment in the log."""
    events = [Codec().decode(AUDIO_SEGMENTS, r.value or b"") for r in await system.records(AUDIO_SEGMENTS)]
    return [event for event in events if isinstance(event, SegmentCut)]


def damage(log: Path) -> str:
    """What SQLite finds wrong with a file."""
    with apsw.Connection(str(log)) as db:
        return str(db.pragma("integrity_check"))


@EMBEDDED
@SEEDS
@pytest.mark.row(
    28, "power cut in the middle of writes: database and WAL copied while a writer and both stages stand still"
)
async def test_after_a_power_cut_all_that_was_acknowledged_is_done(
    system: System, writing: Callable[[], Writer], outcome: Outcome, seed: int
) -> None:
    chance = random.Random(seed)
    stages = [system.start("copier"), system.start("shelver")]
    await system.publish(*system.segments(4))
    await eventually(system.shelf.passages, within=60)
    writer, much = writing(), chance.randint(20, 120)
    await eventually(lambda: len(writer.acknowledged()) >= much, within=60, every=0.001)
    await freeze(writer.process.pid, *(stage.process.pid for stage in stages))
    acknowledged = writer.acknowledged()
    async with copied(system, system.folder / "after") as after:
        for process in (writer.process, *(stage.process for stage in stages)):
            process.kill()
        events = await published(after)
        assert {(event.recording_id, event.index) for event in events} >= set(acknowledged)
        after.expect(*events)
        outcome.hit(await after.behind("copier"))
        with outcome.recovering():
            after.start("copier")
            after.start("shelver")
            await after.settles(within=120)
        await after.account(outcome)


@EMBEDDED
@SEEDS
@pytest.mark.row(
    28, "power cut that tears the end of the WAL: cut off, or overwritten with noise, behind the last acknowledgement"
)
async def test_a_torn_end_of_the_wal_loses_nothing_acknowledged(
    system: System, writing: Callable[[], Writer], outcome: Outcome, seed: int
) -> None:
    """All acknowledged records are there, none is half there, and the log goes on behind the last whole transaction."""
    chance, writer = random.Random(seed), writing()
    wal = system.folder / "log.sqlite-wal"
    much = chance.randint(20, 60)  # the WAL does not begin anew before a thousand pages
    await eventually(lambda: len(writer.acknowledged()) >= much, within=60, every=0.001)
    acknowledged, safe = set(writer.acknowledged()), wal.stat().st_size
    await eventually(lambda: wal.stat().st_size > safe, within=60, every=0.001)
    await freeze(writer.process.pid)
    size = wal.stat().st_size
    for number in range(10):
        async with copied(system, system.folder / f"after-{number}") as after:
            end = chance.randint(safe, size)
            tear(after.folder / "log.sqlite-wal", end, chance.randbytes(chance.choice((0, size - end))))
            events = await published(after)
            there = {(event.recording_id, event.index) for event in events}
            outcome.hit(len(acknowledged))
            outcome.count(published=len(acknowledged), complaints=[f"lost: {each}" for each in acknowledged - there])
            await after.publish(*after.segments(3))
            assert len(await published(after)) == len(events) + 3


def tear(wal: Path, end: int, noise: bytes) -> None:
    """Cut a file off, and write noise where it went on."""
    with wal.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(noise)
