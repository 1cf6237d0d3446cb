"""A pipeline whose stages write into the real stores, so that those can be taken away under them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from earshot.adapters.wiring import Kit
from earshot.indexer.index import index, unindex
from earshot.kernel import ids
from earshot.kernel.events import Passage, SegmentCut, SegmentEmbedded
from earshot.kernel.speakers import Voices
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, Stale, emit, progress
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_SEGMENTS, AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS
from tests.fakes_stream import record_of
from tests.faults.guarantees import Outcome
from tests.faults.oracle import Lag, complaints
from tests.faults.pipeline import Shelf, passages_of, text_of, transcript
from tests.faults.system import PARTITIONS, System, Worker
from tests.processes import free_ports
from tests.waiting import eventually

STAGES = ("indexer", "keeper")
TAKES = "takes "
"""Before the seconds, in the language of a segment on which the keeper works so long."""
MODEL = "outage"
TENANT = "t"
Found = tuple[str, int, str]


class NoSpeakers:
    """The part of the catalog that the indexer asks who speaks: nobody is known."""

    async def voices(self, _tenant: str, _recordings: Collection[str]) -> Mapping[str, Voices]:
        return {}


def stage(name: str, shelf: Shelf, kit: Kit) -> Stage:
    """``indexer``: the real verb on the real vector store. ``keeper``: a costly stage that keeps a blob a segment."""
    return _indexer(kit) if name == "indexer" else _keeper(shelf, kit)


def _indexer(kit: Kit) -> Stage:
    nobody: Any = NoSpeakers()

    def work(batch: Sequence[Delivery[SegmentEmbedded]]) -> AsyncIterator[Output]:
        return index(batch, kit.vectors, nobody)

    def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        return unindex(stale, kit.vectors, nobody)

    async def probe() -> None:
        await kit.vectors.ping()

    batch = BatchPolicy(max_events=8)
    return Stage("indexer", (AUDIO_EMBEDDINGS,), (RECORDINGS_PROGRESS,), work, undo, batch=batch, probe=probe)


def _keeper(shelf: Shelf, kit: Kit) -> Stage:
    async def work(batch: Sequence[Delivery[SegmentCut]]) -> AsyncIterator[Output]:
        for delivery in batch:
            event = delivery.event
            if event.language.startswith(TAKES):
                await asyncio.sleep(float(event.language.removeprefix(TAKES)))
            if event.language == "slow":
                await asyncio.to_thread(shelf.note, "slow", str(event.index))
                await eventually(lambda: shelf.notes("release"), within=600, every=0.02)
            await kit.blobs.put(blob_of(event), content_of(event))
            yield emit(AUDIO_TRANSCRIPTS, transcript(event, text_of(event)), delivery)
            yield progress("keeper", delivery)

    sinks = (AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS)
    return Stage(
        "keeper",
        (AUDIO_SEGMENTS,),
        sinks,
        work,
        batch=BatchPolicy(max_events=4),
        batches_in_work=2,
        costly=True,
        probe=kit.ask_blobs,
    )


def blob_of(event: SegmentCut) -> str:
    """Where the keeper puts what it makes of a segment."""
    return f"{event.tenant}/{event.recording_id}/{event.index}.bin"


def content_of(event: SegmentCut) -> bytes:
    """What it puts there: 20 kB, or 2 MB of a segment with hotwords."""
    return text_of(event).encode() * ((2_000_000 if event.hotwords else 20_000) // len(text_of(event)))


def embedded(event: SegmentCut, dimensions: int = 8) -> SegmentEmbedded:
    """The passages of a segment, the first with a vector of its own direction."""
    vector = [1.0, *(0.01 * (event.index + 1) for _ in range(dimensions - 1))]
    passages = [
        Passage(
            id=f"{event.index}/{ordinal}",
            ordinal=ordinal,
            start_ms=event.start_ms,
            end_ms=event.end_ms,
            text=text,
            vector=vector,
        )
        for ordinal, text in enumerate(passages_of(text_of(event)))
    ]
    return SegmentEmbedded(
        tenant=event.tenant,
        recording_id=event.recording_id,
        index=event.index,
        start_ms=event.start_ms,
        end_ms=event.end_ms,
        model=MODEL,
        dimensions=dimensions,
        passages=passages,
    )


class Outages(System):
    """A system whose workers serve their health, and whose indexer is judged by what the vector store holds.

    Args:
        broker: its URL.
        folder: for everything beside the stores.
        settings: of the process, such as ``vectors_url``.
    """

    def __init__(self, broker: str, folder: Path, **settings: Any) -> None:
        super().__init__(broker, folder, **{"blobs_url": (folder / "blobs").as_uri()} | settings)
        self.kit = Kit(self.settings)

    async def prepare(self, **config: Mapping[str, str]) -> None:
        await super().prepare(**config)
        names = (AUDIO_EMBEDDINGS.name, AUDIO_EMBEDDINGS.dead_letters.name)
        await self.log.create({self.settings.topic(name): {} for name in names}, PARTITIONS)

    async def close(self) -> None:
        await super().close()
        for name in {"vectors", "catalog"} & set(vars(self.kit)):  # cached properties that were used
            await getattr(self.kit, name).close()

    def start(self, stage: str, *, point: str = "", nth: int = 1, **worker: Any) -> Worker:
        """Start a worker that serves its health; see :meth:`ready`."""
        (port,) = free_ports(1)
        return super().start(stage, point=point, nth=nth, health_port=port, **worker)

    # --- what is asked of it ----------------------------------------------------------------------------------------

    async def publish_embedded(self, *events: SegmentCut, dimensions: int = 8, arrives: bool = True) -> None:
        """Publish the passages of segments; what returns was acknowledged, and must arrive unless said otherwise."""
        made = [record_of(embedded(event, dimensions), -1, AUDIO_EMBEDDINGS) for event in events]
        await self.put(AUDIO_EMBEDDINGS, *made)
        if arrives:
            self.expect(*events)

    # --- what is seen of it -----------------------------------------------------------------------------------------

    async def lag(self, stage: str) -> Lag:
        source = {"indexer": AUDIO_EMBEDDINGS, "keeper": AUDIO_SEGMENTS}.get(stage)
        if source is None:
            return await super().lag(stage)
        return await self.log.lag(self.settings.topic_prefix + stage, [self.settings.topic(source.name)])

    async def indexed(self, dimensions: int = 8) -> list[Found]:
        """Every passage of the recordings that were published, as the vector store holds it."""
        name = ids.index_name(MODEL, dimensions)
        recordings = sorted({recording for recording, _ in self.expected.texts})
        held = [await self.kit.vectors.passages_of(name, TENANT, recording) for recording in recordings]
        return [(each.recording_id, each.segment_index, each.text) for of_one in held for each in of_one]

    async def complaints(self, *stages: str) -> list[str]:
        if "indexer" not in stages:
            return await super().complaints(*stages)
        values = [record.value for record in await self.letters(AUDIO_EMBEDDINGS)]
        return complaints(self.expected, await self.indexed(), values, {"indexer": await self.lag("indexer")})

    async def twice(self, stage: str) -> int:
        """How many more records than segments say that a stage is done with one."""
        said: list[bytes | None] = [record.value for record in await self.records(RECORDINGS_PROGRESS)]
        return len(said) - len(set(said))

    async def account_indexed(self, outcome: Outcome) -> None:
        """Tell an outcome what the oracle finds now in the vector store."""
        found = await self.complaints("indexer")
        outcome.count(published=len(self.expected.texts), complaints=found, duplicates=await self.twice("indexer"))


async def ready(worker: Worker) -> tuple[bool, str, int]:
    """What a worker says at ``/health/ready``: whether it is, why not, and how much waits for it."""
    async with httpx.AsyncClient(timeout=10) as client:
        said = (await client.get(f"{worker.health}/health/ready")).json()
    return said["ready"], said["reason"], said["lag"]


async def is_ready(worker: Worker) -> bool:
    """Whether a worker is ready."""
    return (await ready(worker))[0]


async def metric(worker: Worker, name: str) -> float:
    """A metric of a worker that has one label, its stage."""
    async with httpx.AsyncClient(timeout=10) as client:
        lines = (await client.get(f"{worker.health}/metrics")).text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


async def turns_red(worker: Worker, *words: str, within: float = 60.0) -> str:
    """Return the reason when a worker is not ready for one in which all of these words occur."""

    async def red() -> str:
        well, reason, _ = await ready(worker)
        assert not well, "ready"
        assert all(word in reason for word in words), reason
        return reason

    try:
        return str(await eventually(red, within=within, every=0.2))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{worker.log()[-2000:]}") from error


def memory_of(worker: Worker) -> int:
    """Bytes of a worker's memory, its own children's included."""
    process = psutil.Process(worker.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
