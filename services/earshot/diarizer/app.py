"""Wiring of the diarizer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from earshot.adapters.diarizers import DiarizerProcess, longest
from earshot.adapters.wiring import Kit
from earshot.diarizer.diarize import Terms, diarize, pass_over
from earshot.diarizer.known import forget
from earshot.diarizer.settings import DiarizerSettings
from earshot.kernel.errors import BlobMissing
from earshot.kernel.events import AudioUploaded
from earshot.kernel.leases import this_process
from earshot.kernel.ledger import SPEAKER_STAGE
from earshot.kernel.ports.speakers import SpeakerCount
from earshot.kernel.settings import load
from earshot.kernel.stage import Delivery, Output, Stage, Stale
from earshot.kernel.topics import AUDIO_SPEAKERS, AUDIO_UPLOADED, RECORDINGS_PROGRESS

TRACE = ("traceparent", "tracestate")


def create_stage(kit: Kit) -> Stage:
    """``audio.uploaded`` to ``audio.speakers``; while it is off, recordings are passed over."""
    settings = load(DiarizerSettings)
    diarizer = DiarizerProcess(settings)
    # The embedded log lets in one diarizer, so a lease that is there is that of one that died: no need to wait for it.
    owner = "embedded" if kit.settings.embedded else this_process()
    count = SpeakerCount(settings.num_speakers, settings.min_speakers, settings.max_speakers)
    terms = Terms(settings.max_bytes, owner, settings.lease_s, count)

    def work(batch: Sequence[Delivery[AudioUploaded]]) -> AsyncIterator[Output]:
        if diarizer.off:
            return pass_over(batch, kit.catalog, diarizer.off)
        return diarize(batch, kit.blobs, diarizer, kit.catalog, terms)

    def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        return forget(stale, kit.blobs)

    async def adopt(delivery: Delivery[AudioUploaded]) -> None:
        """A foreign producer's upload: known to the catalog from here on. Raises ``ForeignUri``."""
        upload, record = delivery.event, delivery.record
        headers = {name: value for name in TRACE if (value := record.header(name)) is not None}
        await kit.catalog.adopt(upload, kit.blobs.key(upload.tenant, upload.uri), headers, record.published_at)

    async def probe() -> None:
        """Ask the store for something that is not there: any answer will do."""
        with suppress(BlobMissing):
            await kit.blobs.size("earshot/ping")

    def info() -> Mapping[str, Any]:
        if diarizer.off:
            return {"off": diarizer.off}
        return {"engine": diarizer.engine.model_dump()} if hasattr(diarizer, "engine") else {}

    return Stage(
        name=SPEAKER_STAGE,
        sources=(AUDIO_UPLOADED,),
        sinks=(AUDIO_SPEAKERS, RECORDINGS_PROGRESS),
        work=work,
        undo=undo,
        costly=True,
        deadline_s=longest(settings),
        adopt=adopt,
        resources=lambda: diarizer,
        probe=probe,
        info=info,
    )
