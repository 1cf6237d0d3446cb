"""No block is left on the disk of a log, a catalog or a store: nothing is acknowledged or damaged, and work resumes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from earshot.kernel.errors import Unavailable
from earshot.kernel.events import SegmentCut
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_TRANSCRIPTS
from tests.faults.conftest import EITHER
from tests.faults.disks import MIB, SmallDisk, small_disk
from tests.faults.guarantees import Outcome
from tests.faults.outages import Outages, blob_of, content_of, is_ready, turns_red
from tests.faults.system import Worker
from tests.servers import KafkaServer
from tests.waiting import eventually


def slowly(events: list[SegmentCut]) -> list[SegmentCut]:
    """The same segments, which stay in work until ``release`` is noted."""
    return [event.model_copy(update={"language": "slow"}) for event in events]


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong in a file."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return bool(db.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.row(16, "no block is left on the disk of the SQLite log while outputs are on their way")
async def test_a_full_disk_under_the_embedded_log_acknowledges_nothing(tmp_path: Path, outcome: Outcome) -> None:
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        path = disk.folder / "log.sqlite"
        outages = Outages(f"sqlite://{path}", tmp_path)
        await outages.prepare()
        await outages.publish(*slowly(outages.segments(6)), *outages.segments(12))
        copier = outages.start("copier", slow_send_s=1)
        await eventually(lambda: outages.shelf.notes("slow"))
        disk.fill()
        with pytest.raises(Unavailable, match="Check that the disk has space") as caught:
            await outages.publish(*outages.segments(300), arrives=False)
        assert caught.value.dependency == "broker"
        outages.shelf.note("release")
        await turns_red(copier, "cannot be used", "Check that the disk has space")
        outcome.hit(await outages.behind("copier"))
        assert await outages.records(AUDIO_TRANSCRIPTS) == []
        disk.make_room()
        outages.start("shelver")
        with outcome.recovering():
            await outages.settles()
        assert copier.alive
        assert is_whole(path)
        await outages.account(outcome)
        await outages.close()


@contextlib.contextmanager
def cramped_kafka(size: int) -> Iterator[tuple[KafkaServer, SmallDisk]]:
    """A broker whose log lies on a small disk."""
    server = KafkaServer()
    try:
        with small_disk(server.folder / "data", size) as disk:
            try:
                yield server.start(), disk
            finally:
                server.kill()
    finally:
        server.close()


@pytest.mark.kafka
@pytest.mark.full
@pytest.mark.row(16, "no block is left on the disk of the broker's log while outputs are on their way")
async def test_a_full_disk_under_kafka_acknowledges_nothing(kafka_url: str, tmp_path: Path, outcome: Outcome) -> None:
    """The broker gives its only log up and ends, as it does; who runs it makes room and starts it again."""
    assert kafka_url  # where the session can have a broker, the test can have one of its own
    with cramped_kafka(256 * MIB) as (server, disk):
        outages = Outages(server.url, tmp_path)
        await outages.prepare()
        await outages.publish(*slowly(outages.segments(6)), *outages.segments(12))
        copier = outages.start("copier", slow_send_s=1)
        await eventually(lambda: outages.shelf.notes("slow"))
        outcome.hit(await outages.behind("copier"))
        disk.fill()
        big = [event.model_copy(update={"uri": "x" * 100_000}) for event in outages.segments(60)]
        await eventually(lambda: _is_refused(outages, big), within=120)
        outages.shelf.note("release")
        await turns_red(copier, "roker")
        disk.make_room()
        server.kill()
        server.start()
        outages.start("shelver")
        with outcome.recovering():
            await outages.settles(within=120)
        assert copier.alive
        await outages.account(outcome)
        await outages.close()


async def _is_refused(outages: Outages, events: list[SegmentCut]) -> bool:
    """Whether the broker takes no more; what it took until then must arrive all the same."""
    try:
        await outages.publish(*events)
    except Unavailable:
        return True
    return False


# --- catalog, blobs, vectors ------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A store on a small disk, the stage that writes there, and the words of the reason it gives when that fails."""

    setting: str
    url: Callable[[Path], str]
    stage: str
    words: tuple[str, ...]


PLACES = {
    "catalog": Place("catalog_url", lambda at: f"sqlite:///{at}/catalog.sqlite", "keeper", ("catalog", "full")),
    "blobs": Place("blobs_url", lambda at: f"file://{at}/blobs", "keeper", ("blob store", "its disk")),
    "vectors": Place("vectors_url", lambda at: f"lancedb://{at}/vectors", "indexer", ("LanceDB", "free space")),
}


@pytest.fixture
async def cramped(
    request: pytest.FixtureRequest, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Outages, SmallDisk, Place]]:
    """A system of which one store lies on a small disk, and whose breakers rest for a second."""
    for name in ("CATALOG", "BLOBS", "VECTORS"):
        monkeypatch.setenv(f"EARSHOT_BREAKER__{name}_REST_S", "1")
    place = PLACES[request.param]
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        made = Outages(broker, tmp_path, **{place.setting: place.url(disk.folder)})
        await made.prepare()
        if request.param == "catalog":
            await made.kit.catalog.migrate()
        yield made, disk, place
        await made.close()


@pytest.mark.row(16, "no block is left on the disk of the catalog, the blobs or the vectors while units are in work")
@pytest.mark.full
@EITHER
@pytest.mark.parametrize("cramped", sorted(PLACES), indirect=True)
async def test_a_full_disk_under_a_store_is_waited_out(
    cramped: tuple[Outages, SmallDisk, Place], outcome: Outcome
) -> None:
    outages, disk, place = cramped
    worker, events = await _at_work(outages, place)
    disk.fill()
    outages.shelf.note("release")
    await _more(outages, place, outages.segments(20))
    await turns_red(worker, *place.words)
    outcome.hit(await outages.behind(place.stage))
    assert await outages.letters() + await outages.letters(AUDIO_EMBEDDINGS) == []
    disk.make_room()
    stages = ("keeper", "shelver") if place.stage == "keeper" else ("indexer",)
    if place.stage == "keeper":
        outages.start("shelver")
    with outcome.recovering():
        await outages.settles(*stages)
    await eventually(lambda: is_ready(worker))
    await _nothing_is_damaged(outages, disk, place, events)
    if place.stage == "keeper":
        await outages.account(outcome, *stages)
    else:
        await outages.account_indexed(outcome)


async def _at_work(outages: Outages, place: Place) -> tuple[Worker, list[SegmentCut]]:
    """A worker in the middle of its work, on a store that has been written to before."""
    events = outages.segments(6)
    if place.stage == "indexer":
        worker = outages.start("indexer")
        await outages.publish_embedded(*events)
        await outages.settles("indexer")
        return worker, events
    await outages.publish(*slowly(events))
    worker = outages.start("keeper")
    await eventually(lambda: outages.shelf.notes("slow"))
    return worker, events


async def _more(outages: Outages, place: Place, events: list[SegmentCut]) -> None:
    await (outages.publish_embedded if place.stage == "indexer" else outages.publish)(*events)


async def _nothing_is_damaged(outages: Outages, disk: SmallDisk, place: Place, events: list[SegmentCut]) -> None:
    if place is PLACES["catalog"]:
        assert is_whole(disk.folder / "catalog.sqlite")
    if place is PLACES["blobs"]:
        for event in events:
            assert await outages.kit.blobs.get(blob_of(event)) == content_of(event)
        files = [path for path in (disk.folder / "blobs").rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".bin"}, "something half written was left"


# --- a quota instead of a disk, where nobody may mount one ------------------------------------------------------------


@pytest.mark.row(16, "files may not grow any more: a limit of the process, which needs no rights")
@EITHER
async def test_a_worker_that_may_not_write_more_waits_until_it_may(
    broker: str, tmp_path: Path, outcome: Outcome
) -> None:
    """Its blobs are larger than what it may write, everything else is smaller."""
    outages = Outages(broker, tmp_path)
    await outages.prepare()
    events = [event.model_copy(update={"hotwords": "big"}) for event in slowly(outages.segments(6))]
    await outages.publish(*events)
    keeper = outages.start("keeper")
    await eventually(lambda: outages.shelf.notes("slow"))
    process = psutil.Process(keeper.process.pid)
    process.rlimit(psutil.RLIMIT_FSIZE, (MIB, psutil.RLIM_INFINITY))
    outages.shelf.note("release")
    await turns_red(keeper, "File too large")
    outcome.hit(await outages.behind("keeper"))
    process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    outages.start("shelver")
    with outcome.recovering():
        await outages.settles("keeper", "shelver")
    for event in events:
        assert await outages.kit.blobs.get(blob_of(event)) == content_of(event)
    await outages.account(outcome, "keeper", "shelver")
    await outages.close()
