"""Query latency through the service beside the store's own call, at many passages."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from earshot import processes
from earshot.adapters.encoders import choose
from earshot.adapters.wiring import Kit
from earshot.kernel import ids
from earshot.kernel.events import AudioUploaded, Engine, SegmentTranscribed
from earshot.kernel.ports import IndexedPassage, NewRecording, PassageSet, SearchFilters
from earshot.kernel.settings import Settings
from tests.system.conftest import start, stop

PASSAGES_A_SEGMENT = 4
SEGMENTS_A_RECORDING = 100
SETS_A_WRITE = 64
WORDS_A_PASSAGE = 25
QUERIES = 200
TENANT = "default"
VOCABULARY = [
    f"{a}{b}{c}"
    for a in ("ba", "ce", "di", "fo", "gu", "ha", "ji")
    for b in ("lan", "mer", "nis", "pol", "rux", "sta")
    for c in ("", "do", "ke", "ly", "mo", "nt", "ve", "zz")
]


def sentence(chance: random.Random, words: int) -> str:
    """Words of a made-up language, the earlier ones more common, as in every real one."""
    return " ".join(VOCABULARY[int(len(VOCABULARY) * chance.random() ** 2)] for _ in range(words))


async def report(systems: dict[str, dict[str, str]], passages: int) -> None:
    """Print p50, p95 and p99 of the service and of the store's own call, for each system."""
    print(f"\n## Query latency at {passages} passages, hybrid, top 10, {QUERIES} queries one at a time\n")
    print("| system | call | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|")
    for name, urls in systems.items():
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            environment = urls | {"EARSHOT_TOPIC_PREFIX": f"q{uuid4().hex[:8]}."}
            values = {key.removeprefix("EARSHOT_").lower(): value for key, value in environment.items()}
            settings = Settings(data=data, **values)  # type: ignore[arg-type]
            rows = await measure(settings, environment, passages)
        for call, took in rows.items():
            cuts = statistics.quantiles(took, n=100)
            print(f"| {name} | {call} | {cuts[49]:.1f} | {cuts[94]:.1f} | {cuts[98]:.1f} |", flush=True)


async def measure(settings: Settings, environment: dict[str, str], passages: int) -> dict[str, list[float]]:
    """Fill store and catalog past the pipeline, start the system on them, and ask the same questions twice."""
    await processes.prepare(settings)
    kit, chance = Kit(settings), random.Random(7)
    encoder = choose()
    index = ids.index_name(encoder.model, encoder.dimensions)
    queries = [sentence(chance, 6) for _ in range(QUERIES + 10)]
    try:
        await kit.vectors.prepare(index, encoder.dimensions)
        for number in range(passages // (PASSAGES_A_SEGMENT * SEGMENTS_A_RECORDING)):
            await fill(kit, encoder, index, chance, number)
        system = await asyncio.to_thread(start, settings.data, **environment)
        try:
            return await ask(kit, encoder, index, f"http://127.0.0.1:{system.port}", queries)
        finally:
            await asyncio.to_thread(stop, system)
    finally:
        await kit.vectors.close()
        await kit.catalog.close()


async def ask(kit: Kit, encoder: Any, index: str, url: str, queries: list[str]) -> dict[str, list[float]]:
    """Milliseconds of every question, asked of the store and of the service."""

    async def store(query: str) -> None:
        vector = await encoder.encode_query(query)
        filters = SearchFilters()
        await kit.vectors.search(index, TENANT, text=query, vector=vector, mode="hybrid", filters=filters, limit=10)

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def service(query: str) -> None:
            (await client.post("/api/v1/query", json={"query": query, "top_k": 10})).raise_for_status()

        return {"store's own call": await timed(store, queries), "service over HTTP": await timed(service, queries)}


async def timed(call: Callable[[str], Awaitable[None]], queries: list[str]) -> list[float]:
    """Milliseconds of each call, the first ten not counted."""
    took = []
    for query in queries:
        began = time.perf_counter()
        await call(query)
        took.append((time.perf_counter() - began) * 1000)
    return took[10:]


async def fill(kit: Kit, encoder: Any, index: str, chance: random.Random, number: int) -> None:
    """One recording with its transcript in the catalog and its passages in the store."""
    upload = AudioUploaded(uri="", title=f"recording {number}", sha256=uuid4().hex)
    texts = [
        [sentence(chance, WORDS_A_PASSAGE) for _ in range(PASSAGES_A_SEGMENT)] for _ in range(SEGMENTS_A_RECORDING)
    ]
    recording = ids.new_recording_id()
    segments = tuple(
        SegmentTranscribed(
            recording_id=recording,
            index=at,
            start_ms=at * 30_000,
            end_ms=(at + 1) * 30_000,
            text=" ".join(parts),
            engine=Engine(name="made"),
        )
        for at, parts in enumerate(texts)
    )
    upload = upload.model_copy(update={"recording_id": recording})
    await kit.catalog.accept(NewRecording(upload, None, {}, segments))
    await kit.catalog.mark_sent([row.id for row in await kit.catalog.pending(10_000)])  # past the pipeline
    vectors = await encoder.encode_passages([text for parts in texts for text in parts])
    made = iter(vectors)
    sets = [
        PassageSet(recording, 1, at, tuple(passage(recording, at, n, text, next(made)) for n, text in enumerate(parts)))
        for at, parts in enumerate(texts)
    ]
    for at in range(0, len(sets), SETS_A_WRITE):
        await kit.vectors.replace_many(index, TENANT, sets[at : at + SETS_A_WRITE])


def passage(recording: str, segment: int, ordinal: int, text: str, vector: list[float]) -> IndexedPassage:
    """One passage as the embedder would make it."""
    began = segment * 30_000 + ordinal * 7_500
    return IndexedPassage(
        id=ids.passage_id(ids.segment_id(recording, 1, segment), "benchmark", ordinal),
        recording_id=recording,
        revision=1,
        segment_index=segment,
        ordinal=ordinal,
        start_ms=began,
        end_ms=began + 7_500,
        text=text,
        collection="default",
        language="",
        speakers=(),
        recorded_at=None,
        degraded=False,
        vector=tuple(vector),
    )
