"""From a transcript to a hit, through the stages as they are wired, on the embedded defaults."""

from __future__ import annotations

from pathlib import Path

from earshot.adapters.encoders import choose
from earshot.adapters.wiring import Kit
from earshot.embedder.app import create_stage as create_embedder
from earshot.indexer.app import create_stage as create_indexer
from earshot.kernel import ids
from earshot.kernel.codec import Record
from earshot.kernel.events import Engine, Event, SegmentEmbedded, SegmentTranscribed, Word
from earshot.kernel.gate import Verdict
from earshot.kernel.ports import SearchFilters
from earshot.kernel.settings import Settings
from earshot.kernel.stage import Delivery, Stage, Stale
from earshot.kernel.topics import AUDIO_EMBEDDINGS, AUDIO_SPEAKERS, AUDIO_TRANSCRIPTS

HEARD = {
    "jfk": "and all my fellow america and not what your country can do for you and when you can do for your lovely",
    "dashwood": "and mr john guess would have been at leisure to consider how much there might be prickly in his power",
    "respectable": "had he married a more amiable woman he might have been made still more respectable many watts",
}
"""What the fallback engine hears in three clips."""


async def run(stage: Stage, *events: Event) -> list[Event]:
    record = Record(topic="t", key=b"k", value=b"")
    outputs = [output async for output in stage.work([Delivery(event, record) for event in events])]
    assert {output.topic for output in outputs} <= set(stage.sinks)
    return [output.event for output in outputs if output.event is not None]


def transcribed(recording: str, heard: str) -> SegmentTranscribed:
    words = [Word(text=text, start_ms=at * 400, end_ms=at * 400 + 350) for at, text in enumerate(heard.split())]
    return SegmentTranscribed(
        recording_id=recording, index=0, start_ms=0, end_ms=words[-1].end_ms, text=heard, words=words,
        engine=Engine(name="pocketsphinx", degraded=True),
    )  # fmt: skip


async def test_what_was_misheard_is_found_by_what_was_said(tmp_path: Path) -> None:
    """By the true wording, in every mode; taken back, it is gone."""
    kit = Kit(Settings(data=tmp_path))
    await kit.catalog.migrate()
    embedder, indexer = create_embedder(kit), create_indexer(kit)
    assert (embedder.sources, indexer.sources) == ((AUDIO_TRANSCRIPTS,), (AUDIO_EMBEDDINGS, AUDIO_SPEAKERS))
    async with embedder.resources(), indexer.resources():
        segments = [transcribed(recording, heard) for recording, heard in HEARD.items()]
        embedded = [event for event in await run(embedder, *segments) if isinstance(event, SegmentEmbedded)]
        await run(indexer, *embedded)
        assert indexer.probe is not None
        await indexer.probe()
        for said, recording in (
            ("ask what you can do for your country", "jfk"),
            ("how much there might be prudently in his power to do for them", "dashwood"),
            ("made still more respectable than he was", "respectable"),
        ):
            assert await find(kit, said) == [recording] * 3
        stale = [Stale(Delivery(event, Record("t", b"k", b"")), Verdict.ERASED) for event in embedded]
        assert [output async for output in indexer.undo(stale)] == []
        assert await find(kit, "country") == []
    await kit.catalog.close()


async def find(kit: Kit, text: str) -> list[str]:
    """The first hit's recording, in each mode that finds one."""

    encoder = choose()
    found = []
    for mode in ("hybrid", "keyword", "vector"):
        hits = await kit.vectors.search(
            ids.index_name(encoder.model, encoder.dimensions),
            "default",
            text=text,
            vector=await encoder.encode_query(text),
            mode=mode,
            filters=SearchFilters(),
            limit=3,
        )
        found += [hit.passage.recording_id for hit in hits[:1]]
    return found
