"""Outputs as large as the topic takes, one byte more, ten times as much; and many of a megabyte in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_SEGMENTS
from tests.fakes_stream import record_of
from tests.faults.conftest import EITHER
from tests.faults.guarantees import Outcome
from tests.faults.system import System
from tests.faults.test_errors import headers
from tests.waiting import eventually

LIMIT = 65_536
"""Bytes of a batch that the topic takes; more than a producer puts into a batch of several records."""
MEGABYTE = 900_000
"""Characters: with headers and frame still below Kafka's limit of a megabyte."""
MANY = 120
GROWTH = 100 * 2**20
"""Bytes by which a stage may grow while ``MANY`` of them pass: less than they are together."""


def sized(events: list[SegmentCut], sizes: list[int]) -> list[SegmentCut]:
    """Segments that make the copier publish texts of these lengths."""
    return [event.model_copy(update={"language": f"size:{size}"}) for event, size in zip(events, sizes, strict=True)]


@pytest.fixture
async def narrow(kafka_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """A pipeline whose broker refuses transcripts of more than 64 KB."""
    made = System(kafka_url, tmp_path)
    await made.prepare(audio_transcripts={"max.message.bytes": str(LIMIT), "compression.type": "uncompressed"})
    yield made
    await made.close()


async def sort_out(system: System, sizes: list[int]) -> tuple[list[int], list[int]]:
    """Publish one event of each size; which arrived, and which were dead-lettered, once all have."""
    events = sized(system.segments(len(sizes)), sizes)
    await system.publish(*events, arrives=False)
    await eventually(lambda: _none_behind(system), within=60)
    refused = {letter.value: headers(letter)["earshot-error-code"] for letter in await system.letters()}
    values = {size: record_of(event, -1).value for event, size in zip(events, sizes, strict=True)}
    too_large = [size for size in sizes if values[size] in refused]
    assert {refused[values[size]] for size in too_large} <= {"output_too_large"}
    system.expect(*[event for event, size in zip(events, sizes, strict=True) if size not in too_large])
    system.expected.poison += [values[size] for size in too_large]
    return [size for size in sizes if size not in too_large], too_large


async def _none_behind(system: System) -> bool:
    return await system.behind("copier") == 0


@pytest.mark.kafka
@pytest.mark.full
@pytest.mark.row(20, "outputs as large as the topic takes, one byte more, and ten times as much, among small ones")
async def test_an_output_at_the_limit_arrives_and_one_byte_more_is_put_aside(narrow: System, outcome: Outcome) -> None:
    """How much a frame and headers add is found out: first about, then to the byte."""
    system = narrow
    await system.publish(*system.segments(6))
    outcome.hit(await system.behind("copier"))
    system.start("copier")
    system.start("shelver")
    with outcome.recovering():
        about, beyond = await sort_out(system, [LIMIT - 40 * step for step in range(32, -1, -1)] + [10 * LIMIT])
        assert 10 * LIMIT in beyond
        arrived, refused = await sort_out(system, list(range(max(about) + 1, min(beyond))))
        limit = max([*about, *arrived])
        assert min([*beyond, *refused]) == limit + 1
        await system.publish(*system.segments(6))
        await system.settles()
    outcome.hit(1, faults=len(beyond) + len(refused))
    await system.account(outcome)
    assert await system.letters(AUDIO_SEGMENTS)


@EITHER
@pytest.mark.full
@pytest.mark.row(20, f"{MANY} outputs of nearly a megabyte in a row")
async def test_many_large_outputs_pass_in_bounded_memory(system: System, outcome: Outcome) -> None:
    workers = [system.start(stage) for stage in ("copier", "shelver")]
    await system.publish(*system.segments(4))
    await system.settles()
    before = [psutil.Process(worker.process.pid).memory_info().rss for worker in workers]
    peaks = list(before)
    large = sized(system.segments(MANY), [MEGABYTE] * MANY)
    await system.publish(*large)
    outcome.hit(await system.behind("copier"), faults=MANY)

    async def through() -> bool:
        for at, worker in enumerate(workers):
            peaks[at] = max(peaks[at], psutil.Process(worker.process.pid).memory_info().rss)
        done = await system.behind("copier") + await system.behind("shelver") == 0
        return done and len(system.shelf.run("SELECT DISTINCT recording, segment FROM passages")) == 4 + MANY

    with outcome.recovering():
        await eventually(through, within=150, every=0.2)
    await system.settles()
    grown = [(peak - first) / 2**20 for peak, first in zip(peaks, before, strict=True)]
    print(f"grown by {grown} MB")
    assert max(grown) < GROWTH / 2**20, grown
    await system.account(outcome)
