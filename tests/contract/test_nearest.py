"""Nearest vectors found nearly: what the settings reach, and what stays exact beside it."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from earshot.adapters.lancedb import LanceStore
from earshot.adapters.nearest import NearestSettings
from earshot.adapters.weaviate import WeaviateStore
from earshot.kernel import ids
from earshot.kernel.ports import IndexedPassage, PassageSet, ScoredPassage, SearchFilters

DIMENSIONS, SEGMENTS, A_SEGMENT = 16, 150, 8
INDEX, TENANT, RECORDING = "Passages_near_16", "default", ids.derive("near")


def passage(segment: int, ordinal: int, chance: random.Random, *, language: str = "") -> IndexedPassage:
    numbers = [chance.gauss(0, 1) for _ in range(DIMENSIONS)]
    length = sum(number * number for number in numbers) ** 0.5
    return IndexedPassage(
        id=ids.derive("near", segment, ordinal),
        recording_id=RECORDING,
        revision=1,
        segment_index=segment,
        ordinal=ordinal,
        start_ms=0,
        end_ms=1,
        text="words",
        collection="default",
        language=language,
        speakers=(),
        recorded_at=None,
        degraded=False,
        vector=tuple(number / length for number in numbers),
    )


async def nearest_to(store: LanceStore, vector, limit: int = 10, **filters: str) -> list[ScoredPassage]:
    given = SearchFilters(**filters)
    return await store.search(INDEX, TENANT, text="", vector=vector, mode="vector", filters=given, limit=limit)


@pytest.fixture
async def filled(tmp_path: Path):
    """More passages than are compared one by one, after an upkeep; and what they are."""
    chance, store = random.Random(0), LanceStore(tmp_path, NearestSettings(exact_up_to=1000, partitions_asked=4))
    made = [
        [passage(at, n, chance, language="fr" if at == 3 else "en") for n in range(A_SEGMENT)] for at in range(SEGMENTS)
    ]
    await store.prepare(INDEX, DIMENSIONS)
    await store.replace_many(
        INDEX, TENANT, [PassageSet(RECORDING, 1, at, tuple(passages)) for at, passages in enumerate(made)]
    )
    table = store._tables[f"{INDEX}.{TENANT}"]
    await table._keep()
    yield store, table, {each.id: each for passages in made for each in passages}, chance
    await store.close()


async def vector_index(table):
    return [index.name for index in await table._table.list_indices() if index.columns == ["vector"]]


def by_hand(passages, vector, limit=10) -> list[str]:
    score = {each.id: sum(a * b for a, b in zip(each.vector, vector, strict=True)) for each in passages}
    return sorted(score, key=lambda key: -score[key])[:limit]


async def test_many_vectors_are_partitioned_and_most_of_the_nearest_are_found(filled):
    store, table, passages, chance = filled
    assert await vector_index(table) == ["vector_idx"]
    right = 0
    for _ in range(20):
        vector = passage(0, 0, chance).vector
        found = await nearest_to(store, vector)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        right += len({hit.passage.id for hit in found} & set(by_hand(passages.values(), vector)))
        for hit in found:  # not quantized: the score is the cosine itself
            cosine = sum(a * b for a, b in zip(passages[hit.passage.id].vector, vector, strict=True))
            assert hit.score == pytest.approx(cosine, abs=1e-5)
    assert right / 200 > 0.5


async def test_what_is_written_replaced_or_deleted_after_it_counts_at_once(filled):
    store, _, passages, chance = filled
    new = passage(SEGMENTS, 0, chance)
    await store.replace(INDEX, TENANT, RECORDING, 1, SEGMENTS, [new])
    assert (await nearest_to(store, new.vector, 1))[0].passage.id == new.id
    old = next(each for each in passages.values() if each.segment_index == 7)
    moved = passage(7, 0, chance)
    await store.replace(INDEX, TENANT, RECORDING, 1, 7, [moved])
    assert (await nearest_to(store, moved.vector, 1))[0].passage.id == moved.id
    assert (await nearest_to(store, old.vector, 1))[0].score < 0.9999
    await store.delete(INDEX, TENANT, RECORDING)
    assert await nearest_to(store, new.vector) == []


async def test_a_filter_that_leaves_few_finds_all_of_them(filled):
    """They may lie in any partition."""
    store, _, _, chance = filled
    found = await nearest_to(store, passage(0, 0, chance).vector, 50, language="fr")
    assert len(found) == A_SEGMENT


async def test_partitions_are_made_anew_when_upkeep_has_added_many_parts(filled):
    store, table, _, chance = filled
    parts = []
    for at in range(9):
        await store.replace(INDEX, TENANT, RECORDING, 1, SEGMENTS + at, [passage(SEGMENTS + at, 0, chance)])
        await table._keep()
        stats = await table._table.index_stats("vector_idx")
        parts.append(stats.num_indices)
        assert stats.num_unindexed_rows == 0
    assert max(parts) > 5
    assert min(parts[-3:]) == 1


async def test_few_vectors_are_compared_one_by_one(tmp_path):
    store = LanceStore(tmp_path)
    await store.prepare(INDEX, DIMENSIONS)
    await store.replace(INDEX, TENANT, RECORDING, 1, 0, [passage(0, n, random.Random(n)) for n in range(5)])
    table = store._tables[f"{INDEX}.{TENANT}"]
    await table._keep()
    assert await vector_index(table) == []
    await store.close()


@pytest.mark.weaviate
async def test_weaviate_builds_its_graph_as_the_settings_say_and_follows_ef_later(weaviate_url):
    index = f"Passages_near_{uuid.uuid4().hex[:8]}"

    async def built(settings: NearestSettings):
        store = WeaviateStore(weaviate_url, settings)
        try:
            await store.prepare(index, DIMENSIONS)
            client = await store._to.client()
            (held,) = (await client.collections.get(index).config.get()).vector_config.values()
            hnsw = held.vector_index_config
            return hnsw.max_connections, hnsw.ef_construction, hnsw.ef
        finally:
            await store.close()

    assert await built(NearestSettings()) == (16, 64, 40)
    assert await built(NearestSettings(hnsw_m=32, hnsw_ef_construction=128, hnsw_ef=96)) == (16, 64, 96)
