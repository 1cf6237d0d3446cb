"""How near is nearest: recall@10 against comparing everything, and what it costs, in both vector stores.

    python benchmarks/ann.py --vectors 100000 --dimensions 256 --lancedb --weaviate weaviate://127.0.0.1:8080?grpc=50051

Vectors are drawn around centres of different weight, as passages lie around matters; questions around the same centres.
Everything goes through the stores' own adapters.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from earshot.adapters.lancedb import LanceStore
from earshot.adapters.nearest import NearestSettings
from earshot.adapters.weaviate import WeaviateStore
from earshot.kernel import ids
from earshot.kernel.ports import IndexedPassage, PassageSet, SearchFilters, VectorStore

TENANT, QUERIES, NEAREST, A_SET = "default", 200, 10, 64
LANCEDB = [{"exact_up_to": 10**9}, *({"exact_up_to": 1000, "partitions_asked": asked} for asked in (5, 20, 80))]
WEAVIATE = [
    {"hnsw_m": m, "hnsw_ef_construction": construction, "hnsw_ef": ef}
    for m, construction in ((16, 64), (32, 128))
    for ef in (20, 40, 100, 300)
]


def drawn(how_many: int, dimensions: int, spread: float, seed: int) -> np.ndarray:
    """Vectors of unit length around 500 centres, the first of which have most of them (Zipf)."""
    centres = np.random.default_rng(0).normal(size=(500, dimensions))
    weights = 1 / np.arange(1, 501)
    chance = np.random.default_rng(seed)
    mine = chance.choice(500, size=how_many, p=weights / weights.sum())
    found = centres[mine] + chance.normal(scale=spread, size=(how_many, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def sets(vectors: np.ndarray) -> list[PassageSet]:
    """As the indexer writes them: a set is a segment."""
    return [
        PassageSet(ids.derive("ann", at), 1, 0, tuple(passage(at, place, row) for place, row in enumerate(rows)))
        for at, rows in enumerate(np.array_split(vectors, -(-len(vectors) // A_SET)))
    ]


def passage(at: int, ordinal: int, vector: np.ndarray) -> IndexedPassage:
    return IndexedPassage(
        id=ids.derive("ann", at, ordinal),
        recording_id=ids.derive("ann", at),
        revision=1,
        segment_index=0,
        ordinal=ordinal,
        start_ms=0,
        end_ms=1,
        text="words " * 30,
        collection="default",
        language="",
        speakers=(),
        recorded_at=None,
        degraded=False,
        vector=tuple(vector.tolist()),
    )


async def fill(store: VectorStore, index: str, dimensions: int, filling: list[PassageSet]) -> None:
    await store.prepare(index, dimensions)
    for at in range(0, len(filling), A_SET):
        await store.replace_many(index, TENANT, filling[at : at + A_SET])


async def measured(store: VectorStore, index: str, questions: np.ndarray, right: list[set[str]]) -> str:
    """Recall@10, p50 and p95 of a search for the nearest ten, as cells of a table."""
    took, hits = [], 0
    for question, wanted in zip(questions, right, strict=True):
        vector, began = question.tolist(), time.perf_counter()
        found = await store.search(
            index, TENANT, text="", vector=vector, mode="vector", filters=SearchFilters(), limit=NEAREST
        )
        took.append((time.perf_counter() - began) * 1000)
        hits += len(wanted & {hit.passage.id for hit in found})
    cuts = statistics.quantiles(took[10:], n=100)
    return f"{hits / len(right) / NEAREST:.3f} | {cuts[49]:.1f} | {cuts[94]:.1f}"


@asynccontextmanager
async def closing(store: Any) -> AsyncIterator[Any]:
    try:
        yield store
    finally:
        await store.close()


def row(store: str, settings: dict[str, int], built: float, cells: str) -> None:
    shown = ", ".join(
        f"{name.removeprefix('hnsw_')} {value}" for name, value in settings.items() if name != "exact_up_to"
    )
    print(f"| {store} | {shown or 'exact'} | {cells} | {built:.0f} |", flush=True)


async def lancedb(filling: list[PassageSet], dimensions: int, questions: np.ndarray, right: list[set[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = 0.0
        for number, settings in enumerate(LANCEDB):
            async with closing(LanceStore(Path(folder), NearestSettings(**settings))) as store:
                index, began = f"Passages_ann_{dimensions}", time.perf_counter()
                if number == 0:
                    await fill(store, index, dimensions, filling)
                await store.count(index, TENANT)  # opens the table
                await store._tables[f"{index}.{TENANT}"]._keep()  # noqa: SLF001 - the upkeep that a minute would bring
                if number < 2:
                    built = time.perf_counter() - began
                row("LanceDB", settings, built, await measured(store, index, questions, right))


async def weaviate(
    url: str, filling: list[PassageSet], dimensions: int, questions: np.ndarray, right: list[set[str]]
) -> None:
    built: dict[str, float] = {}
    for settings in WEAVIATE:
        index = f"Passages_ann_m{settings['hnsw_m']}_{dimensions}"
        async with closing(WeaviateStore(url, NearestSettings(**settings))) as store:
            began = time.perf_counter()
            if index not in built:
                await fill(store, index, dimensions, filling)
                built[index] = time.perf_counter() - began
            await store.prepare(index, dimensions)  # ef follows the settings
            row("Weaviate", settings, built[index], await measured(store, index, questions, right))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--spread", type=float, default=1.0, help="of vectors around their centre; larger is harder")
    parser.add_argument("--lancedb", action="store_true")
    parser.add_argument("--weaviate", help="URL of a server to fill")
    given = parser.parse_args()
    vectors = drawn(given.vectors, given.dimensions, given.spread, seed=1)
    questions = drawn(QUERIES, given.dimensions, given.spread, seed=2)
    filling = sets(vectors)
    in_order = [passage.id for each in filling for passage in each.passages]
    right = [{in_order[place] for place in np.argpartition(-(vectors @ q), NEAREST)[:NEAREST]} for q in questions]
    print(f"\n{given.vectors} vectors of {given.dimensions} dimensions, {QUERIES} queries one at a time\n")
    print("| store | settings | recall@10 | p50 ms | p95 ms | filled in s |\n|---|---|---|---|---|---|")
    if given.lancedb:
        await lancedb(filling, given.dimensions, questions, right)
    if given.weaviate:
        await weaviate(given.weaviate, filling, given.dimensions, questions, right)


if __name__ == "__main__":
    asyncio.run(main())
