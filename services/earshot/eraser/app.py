"""Wiring of the eraser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from earshot.adapters.wiring import Kit
from earshot.eraser.erase import Stores, erase
from earshot.eraser.settings import EraserSettings
from earshot.eraser.topic import TranscriptTopic
from earshot.kernel.events import RecordingErased
from earshot.kernel.settings import load
from earshot.kernel.stage import Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, RECORDINGS_ERASED


def create_stage(kit: Kit) -> Stage:
    """``recordings.erased`` into deletions everywhere. The catalog has decided already, so it asks no gate."""
    settings = load(EraserSettings)

    def work(batch: Sequence[Delivery[RecordingErased]]) -> AsyncIterator[Output]:
        return erase(batch, stores_of(kit))

    async def probe() -> None:
        await kit.ask_blobs()
        await kit.vectors.ping()

    return Stage(
        name="eraser",
        sources=(RECORDINGS_ERASED,),
        sinks=(AUDIO_TRANSCRIPTS,),
        work=work,
        gated=False,
        deadline_s=settings.deadline_s,
        probe=probe,
    )


def stores_of(kit: Kit) -> Stores:
    """Everywhere that something may lie, as the settings say; the SQLite log deletes, Kafka's records expire."""
    topic = TranscriptTopic(kit.log, kit.codec, kit.settings.topic(AUDIO_TRANSCRIPTS.name))
    purge = getattr(kit.log, "purge", None)
    return Stores(kit.catalog, kit.blobs, kit.vectors, topic.set, purge)
