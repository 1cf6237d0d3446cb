"""Wiring of the transcriber."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from earshot.adapters import engine_process, engines, flac
from earshot.adapters.decoder import SPAN_DEADLINE_S, IsolatedDecoder
from earshot.adapters.engine_chain import EngineChain
from earshot.adapters.wiring import Kit
from earshot.kernel.events import SegmentCut
from earshot.kernel.settings import load
from earshot.kernel.stage import BatchPolicy, Delivery, Output, Stage, Stale
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, LANES, RECORDINGS_PROGRESS
from earshot.transcriber.recut import cut_again
from earshot.transcriber.retract import retract
from earshot.transcriber.settings import TranscriberSettings
from earshot.transcriber.transcribe import transcribe

REMOTE = 16
"""Segments a batch to a remote engine, which is asked for several at once."""


def create_stage(kit: Kit) -> Stage:
    """The three lanes of ``audio.segments`` to ``audio.transcripts``."""
    settings = load(TranscriberSettings)
    recognizer = engines.recognizer(settings)
    decoder = IsolatedDecoder()

    def work(batch: Sequence[Delivery[SegmentCut]]) -> AsyncIterator[Output]:
        return transcribe(batch, kit.blobs, kit.catalog, recognizer, flac.digest, recut)

    async def recut(segment: SegmentCut) -> bytes | None:
        return await cut_again(segment, kit.catalog, kit.blobs, decoder, flac.digest)

    def undo(stale: Sequence[Stale]) -> AsyncIterator[Output]:
        return retract(stale, kit.blobs, kit.catalog, recognizer)

    return Stage(
        name="transcriber",
        sources=tuple(LANES.values()),
        sinks=(AUDIO_TRANSCRIPTS, RECORDINGS_PROGRESS),
        work=work,
        undo=undo,
        batch=_batch(settings),
        lanes=True,
        batches_in_work=2,
        costly=True,
        deadline_s=_deadline(settings),
        resources=lambda: recognizer,
        probe=kit.ask_blobs,
        info=lambda: _info(recognizer),
    )


def _batch(settings: TranscriberSettings) -> BatchPolicy:
    """As the settings say; by itself one segment at a time on a CPU, which gains nothing from more.

    Two batches of the device make one of the stage: what the second needs is made while the first is decoded.
    """
    fitting = {"cpu": 1, "cuda": 2 * settings.batch_size, "remote": REMOTE}
    most = settings.max_events or fitting[engines.device(settings)]
    return BatchPolicy(most, settings.max_audio_s, settings.max_age_s if most > 1 else 0.0)


def _deadline(settings: TranscriberSettings) -> float:
    """The engines' own deadlines come first: of one that hangs with the largest batch, and of the next."""
    more_s = (_batch(settings).max_events - 1) * flac.MAX_SECONDS
    largest_s = min(settings.max_audio_s, more_s) + flac.MAX_SECONDS
    work_s = engine_process.deadline(largest_s, settings.deadline_factor)
    return (engine_process.START_DEADLINE_S + work_s) * min(len(engines.chain(settings)), 2) + SPAN_DEADLINE_S + 30.0


def _info(recognizer: EngineChain) -> Mapping[str, Any]:
    """Who does the work, and how the other engines of the chain are."""
    chain = {"chain": recognizer.states()}
    return chain | {"engine": recognizer.engine.model_dump()} if recognizer.ready else chain
