"""Indexes come and go in every vector store, under processes that have them open."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.adapters.lancedb import LanceStore
from earshot.adapters.weaviate import ALIAS, WeaviateStore
from earshot.kernel.ports import IndexedPassage, PassageSet, SearchFilters, VectorStore
from tests.fakes_vectors import FakeVectors

TENANT = "t"


@pytest.fixture(params=["fake", "lancedb", pytest.param("weaviate", marks=pytest.mark.weaviate)])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[VectorStore, VectorStore]]:
    """What two processes have of one store; the fake is one."""
    made: tuple[VectorStore, VectorStore]
    if request.param == "fake":
        fake = FakeVectors()
        made = (fake, fake)
    elif request.param == "lancedb":
        made = (LanceStore(tmp_path / "vectors"), LanceStore(tmp_path / "vectors"))
    else:
        url = request.getfixturevalue("weaviate_url")
        made = (WeaviateStore(url), WeaviateStore(url))
    yield made
    for store in made:
        await store.close()


@pytest.fixture
def names() -> tuple[str, str]:
    mark = uuid.uuid4().hex[:8]
    return f"Passages_a{mark}_2", f"Passages_b{mark}_2"


async def put(store: VectorStore, index: str, text: str) -> None:
    """One passage, the only one of its segment."""
    passage = IndexedPassage(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, index)), recording_id="r", revision=1, segment_index=0, ordinal=0,
        start_ms=0, end_ms=1, text=text, collection="c", language="en", speakers=(), recorded_at=None, degraded=False,
        vector=(1.0, 0.0),
    )  # fmt: skip
    await store.prepare(index, 2)
    await store.replace_many(index, TENANT, [PassageSet("r", 1, 0, (passage,))])


async def find(store: VectorStore, index: str) -> list[str]:
    how = {"text": "heron", "vector": (1.0, 0.0), "mode": "hybrid", "filters": SearchFilters(), "limit": 5}
    return [hit.passage.text for hit in await store.search(index, TENANT, **how)]  # type: ignore[arg-type]


async def test_a_dropped_index_is_gone_and_its_neighbour_stays(
    stores: tuple[VectorStore, VectorStore], names: tuple[str, str]
) -> None:
    store, _ = stores
    for name in names:
        await put(store, name, f"the heron of {name}")
    for _ in range(2):
        await store.drop(names[0])
    assert set(names) & set(await store.indexes()) == {names[1]}
    assert await store.count(names[0], TENANT) == 0
    await store.delete(names[0], TENANT, "r")
    assert await find(store, names[1]) == [f"the heron of {names[1]}"]
    await store.drop(names[1])


async def test_an_index_made_anew_under_its_name_is_written_and_found_by_all_who_had_the_old_one(
    stores: tuple[VectorStore, VectorStore], names: tuple[str, str]
) -> None:
    """The indexer and the query service have it open while a command drops it."""
    writer, other = stores
    name, _ = names
    await put(writer, name, "the old heron")
    assert await find(other, name) == ["the old heron"]
    await other.drop(name)
    await put(writer, name, "the new heron")
    assert await find(other, name) == ["the new heron"]
    assert await find(writer, name) == ["the new heron"]
    await writer.drop(name)


async def test_weaviates_own_alias_moves(weaviate_url: str, names: tuple[str, str]) -> None:
    """Another client of the server asks the alias and finds the index that serves."""
    store = WeaviateStore(weaviate_url)
    try:
        for name in names:
            await put(store, name, f"the heron of {name}")
        for name in (*names, names[0]):
            await store.serve(name)
            assert await find(store, ALIAS) == [f"the heron of {name}"]
    finally:
        for name in names:
            await store.drop(name)
        await store.close()
