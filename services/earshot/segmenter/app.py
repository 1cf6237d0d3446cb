"""Wiring of the segmenter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from earshot.adapters.decoder import DecoderLimits, IsolatedDecoder
from earshot.adapters.dnsmos import Dnsmos
from earshot.adapters.wiring import Kit
from earshot.kernel.errors import BlobMissing
from earshot.kernel.events import AudioUploaded
from earshot.kernel.leases import this_process
from earshot.kernel.settings import load
from earshot.kernel.stage import Delivery, Output, Stage, Stale
from earshot.kernel.topics import AUDIO_UPLOADED, LANES, RECORDINGS_PROGRESS
from earshot.segmenter.discard import discard
from earshot.segmenter.segment import Terms, segment
from earshot.segmenter.settings import SegmenterSettings

TRACE = ("traceparent", "tracestate")


def create_stage(kit: Kit) -> Stage:
    """``audio.uploaded`` to the three lanes of ``audio.segments``."""
    settings = load(SegmenterSettings)
    limits = DecoderLimits(settings.max_bytes, settings.max_hours * 3600, settings.memory_mb * 2**20)
    decoder = IsolatedDecoder(limits, ffmpeg=settings.ffmpeg)
    mos = Dnsmos(settings.mos_model) if settings.mos_model else None
    # The embedded log lets in one segmenter, so a lease that is there is that of one that died: no need to wait for it.
    owner = "embedded" if kit.settings.embedded else this_process()
    terms = Terms(settings.max_bytes, owner, settings.lease_s)

    def work(batch: Sequence[Delivery[AudioUploaded]]) -> AsyncIterator[Output]:
        return segment(batch, kit.blobs, decoder, kit.catalog, terms, kit.catalog, mos)

    def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        return discard(stale, kit.blobs)

    async def adopt(delivery: Delivery[AudioUploaded]) -> None:
        """A foreign producer's upload: known to the catalog from here on. Raises ``ForeignUri``."""
        upload, record = delivery.event, delivery.record
        trace = {name: value for name in TRACE if (value := record.header(name)) is not None}
        await kit.catalog.adopt(upload, kit.blobs.key(upload.tenant, upload.uri), trace, record.published_at)

    async def probe() -> None:
        """Ask the store for something that is not there: any answer will do."""
        with suppress(BlobMissing):
            await kit.blobs.size("earshot/ping")

    return Stage(
        name="segmenter",
        sources=(AUDIO_UPLOADED,),
        sinks=(*LANES.values(), RECORDINGS_PROGRESS),
        work=work,
        undo=undo,
        costly=True,
        deadline_s=settings.deadline_s,
        adopt=adopt,
        probe=probe,
    )
