"""Wiring of the eraser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from earshot.adapters.wiring import Kit
from earshot.eraser.erase import Stores, erase
from earshot.eraser.settings import EraserSettings
from earshot.eraser.sweep import Pace, Sweeper
from earshot.eraser.topic import TranscriptTopic
from earshot.kernel.events import RecordingErased
from earshot.kernel.leases import this_process
from earshot.kernel.settings import load
from earshot.kernel.stage import Delivery, Output, Stage
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, RECORDINGS_ERASED


def create_stage(kit: Kit) -> Stage:
    """``recordings.erased`` into deletions everywhere. The catalog has decided already, so it asks no gate.

    Beside it the sweeper erases what is past its time, and whole tenants.
    """
    settings = load(EraserSettings)
    sweeper = create_sweeper(kit, settings)

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
        resources=sweeper.running,
        probe=probe,
        counts=lambda: sweeper.counts,
    )


def create_sweeper(kit: Kit, settings: EraserSettings) -> Sweeper:
    """The sweeper of this process."""
    # The embedded log lets in one eraser, so a lease that is there is that of one that died: no need to wait for it.
    owner = "embedded" if kit.settings.embedded else this_process()
    keep = timedelta(days=settings.segment_audio_days)
    return Sweeper(
        kit.catalog, kit.blobs, kit.vectors, owner, Pace(settings.batch, settings.look_s, settings.retention_s, keep)
    )


def stores_of(kit: Kit) -> Stores:
    """Everywhere that something may lie, as the settings say; the SQLite log deletes, Kafka's records expire."""
    topic = TranscriptTopic(kit.log, kit.codec, kit.settings.topic(AUDIO_TRANSCRIPTS.name))
    purge = getattr(kit.log, "purge", None)
    return Stores(kit.catalog, kit.blobs, kit.vectors, topic.set, purge)
