"""Our transcriber beside faster-whisper's own batched pipeline: same model, same audio, same device.

    python benchmarks/gpu.py --model large-v3 --minutes 60 --runs 3

Ours hears many short segments, each of a recording of its own, through the transcriber's stage: blobs read and
checked, the cache asked and filled, the engine in its process, transcripts stored in the catalog. Theirs hears the same
stretches of one long file in memory, by ``BatchedInferencePipeline``, cut where ours are cut, with word times. Loading
and warming up are not counted; the language is given, so neither detects it. Above 1 ours is faster; the aim is 0.95.

Without an accelerator it says so and runs on the CPU: with a tiny model, to see that the measurement itself works.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from uuid import uuid4

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speech import RATE, decode, write_speech

from earshot.adapters import engines, models
from earshot.adapters.decoder import IsolatedDecoder
from earshot.adapters.wiring import Kit
from earshot.kernel.codec import Record
from earshot.kernel.events import SegmentCut
from earshot.kernel.ports import CutSegment
from earshot.kernel.settings import Settings, load
from earshot.kernel.stage import Delivery, Stage
from earshot.kernel.topics import AUDIO_TRANSCRIPTS
from earshot.transcriber.app import create_stage
from earshot.transcriber.settings import TranscriberSettings

LANGUAGE = "en"


@dataclass(frozen=True)
class Run:
    """Seconds for all of the audio, and the texts of its segments in order."""

    seconds: float
    texts: list[str]


async def ours(pieces: Sequence[CutSegment]) -> Run:
    """The transcriber's stage, given its batches as its host would."""
    with tempfile.TemporaryDirectory() as folder:  # a new cache every time
        kit = Kit(Settings(data=Path(folder)))
        await kit.catalog.migrate()
        stage = create_stage(kit)
        deliveries = [await delivery(kit, piece) for piece in pieces]
        async with stage.resources():
            began = time.monotonic()
            texts = await transcribed(stage, deliveries)
            took = time.monotonic() - began
        await kit.catalog.close()
    return Run(took, [texts[item.event.recording_id] for item in deliveries])


async def delivery(kit: Kit, piece: CutSegment) -> Delivery[SegmentCut]:
    """A segment as the only one of its recording."""
    recording = str(uuid4())
    key = f"default/recordings/{recording}/1/segments/000000.flac"
    await kit.blobs.put(key, piece.flac)
    event = SegmentCut(
        recording_id=recording,
        index=0,
        start_ms=0,
        end_ms=piece.end_ms - piece.start_ms,
        uri=kit.blobs.uri(key),
        sha256=piece.sha256,
        language=LANGUAGE,
    )
    return Delivery(event, Record("audio.segments", b"", b""))


async def transcribed(stage: Stage, deliveries: Sequence[Delivery[SegmentCut]]) -> dict[str, str]:
    """The texts by recording; as many batches at once as the host works on."""
    size, texts, turn = stage.batch.max_events, dict[str, str](), asyncio.Semaphore(stage.batches_in_work)

    async def work(batch: Sequence[Delivery[SegmentCut]]) -> None:
        async with turn:
            async for output in stage.work(batch):
                if output.topic == AUDIO_TRANSCRIPTS:
                    texts[output.event.recording_id] = output.event.text

    await asyncio.gather(*(work(deliveries[at : at + size]) for at in range(0, len(deliveries), size)))
    return texts


@dataclass(frozen=True)
class Plan:
    """What both run with."""

    model: str
    folder: Path
    device: str
    compute_type: str
    cpu_threads: int
    batch_size: int


def plan_of(settings: TranscriberSettings) -> Plan:
    """What the settings lead to; the model is downloaded where it is not on this disk."""
    spec, compute_type = engines.chain(settings)[0], settings.compute_type
    if compute_type == "auto":
        compute_type = "float16" if spec.device == "cuda" else "int8"
    folder = models.pull(spec.name, settings=settings)
    return Plan(spec.name, folder, spec.device, compute_type, settings.cpu_threads, settings.batch_size)


def theirs(samples: np.ndarray, pieces: Sequence[CutSegment], plan: Plan) -> Run:
    """faster-whisper's pipeline for batches on the whole file."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(
        str(plan.folder), device=plan.device, compute_type=plan.compute_type, cpu_threads=plan.cpu_threads
    )
    pipeline = BatchedInferencePipeline(model)
    clips = [{"start": piece.start_ms / 1000, "end": piece.end_ms / 1000} for piece in pieces]
    how = {"language": LANGUAGE, "beam_size": 5, "word_timestamps": True, "batch_size": plan.batch_size}
    list(pipeline.transcribe(samples[:RATE], clip_timestamps=[{"start": 0.0, "end": 1.0}], **how)[0])  # warm-up
    began = time.monotonic()
    segments, _ = pipeline.transcribe(samples, clip_timestamps=clips, **how)
    texts = [segment.text.strip() for segment in segments]
    return Run(time.monotonic() - began, texts)


async def cut(path: Path) -> list[CutSegment]:
    """The segments of a file."""
    return [piece async for piece in IsolatedDecoder().cut(path) if isinstance(piece, CutSegment)]


def report(our: Sequence[Run], their: Sequence[Run], audio_s: float, segments: int, plan: Plan) -> None:
    """Print medians, their ratio, and how alike the texts are."""
    ours_s, theirs_s = (statistics.median(run.seconds for run in runs) for runs in (our, their))
    words = [" ".join(runs[-1].texts).split() for runs in (our, their)]
    alike = SequenceMatcher(None, *words, autojunk=False).ratio()
    how = f"{plan.model} on {plan.device}, {plan.compute_type}, {plan.batch_size} at once"
    print(f"{segments} segments, {audio_s / 60:.1f} minutes; {how}; {os.cpu_count()} CPUs, {len(our)} runs")
    for name, seconds, runs in (("ours", ours_s, our), ("theirs", theirs_s, their)):
        spread = " ".join(f"{run.seconds:.1f}" for run in runs)
        print(f"{name:<7} {seconds:8.1f} s  {audio_s / seconds:6.1f} times real time   ({spread})")
    print(f"ours at {theirs_s / ours_s:.2f} of the speed of theirs; the words are alike by {alike:.3f}")
    if plan.device == "cpu":
        print("There is no accelerator here: this says that the measurement works, and nothing about a GPU.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto", help="as EARSHOT_TRANSCRIBER__MODEL")
    parser.add_argument("--audio", type=Path, help="a long file; by default speech made of the shipped clips")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    os.environ["EARSHOT_TRANSCRIBER__MODEL"] = asked.model
    settings = load(TranscriberSettings)
    plan = plan_of(settings)
    with tempfile.TemporaryDirectory() as folder:
        path = asked.audio or Path(folder) / "speech.wav"
        if asked.audio is None:
            write_speech(path, asked.minutes * 60, seed=1)
        pieces, samples = asyncio.run(cut(path)), decode(path).astype(np.float32) / 32768
    our, their = list[Run](), list[Run]()
    for _ in range(asked.runs):
        our.append(asyncio.run(ours(pieces)))
        their.append(theirs(samples, pieces, plan))
    heard_s = sum(piece.end_ms - piece.start_ms for piece in pieces) / 1000
    report(our, their, heard_s, len(pieces), plan)


if __name__ == "__main__":
    main()
