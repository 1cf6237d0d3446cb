"""Counts over a library, on every vector store: each finds the same, in any ending of a word, within every filter."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from earshot.adapters.catalog import Catalog
from earshot.adapters.lancedb import LanceStore
from earshot.adapters.weaviate import WeaviateStore
from earshot.kernel import ids
from earshot.kernel.ports import IndexedPassage, SearchFilters, VectorStore
from earshot.query.answering.aggregate import Counted, count, matter
from earshot.query.answering.intent import Intent
from tests.fakes_catalog import TRACE, accepted, new_catalog
from tests.fakes_vectors import FakeEncoder, FakeVectors

ENCODER = FakeEncoder()
AT = datetime(2026, 5, 1, tzinfo=UTC)


class Library:
    """A store and a catalog that hold the same recordings of one tenant."""

    def __init__(self, store: VectorStore, catalog: Catalog) -> None:
        self.store, self.catalog = store, catalog
        self.index, self.tenant = f"Passages_t{uuid.uuid4().hex[:8]}_{ENCODER.dimensions}", f"t{uuid.uuid4().hex}"

    async def say(self, *texts: str, speaker: str = "Ada", collection: str = "default") -> str:
        """A recording, a passage a text."""
        job = (await accepted(self.catalog, self.tenant, collection=collection, recorded_at=AT)).job
        vectors = await ENCODER.encode_passages(texts)
        place = ids.segment_id(job.recording_id, 1, 0)
        passages = [
            IndexedPassage(
                ids.passage_id(place, "fake", at), job.recording_id, 1, 0, at, at * 1000, at * 1000 + 900, text,
                collection, "en", (speaker,), AT, False, tuple(vector),
            )
            for at, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ]  # fmt: skip
        await self.store.replace(self.index, self.tenant, job.recording_id, 1, 0, passages)
        return job.recording_id

    async def count(self, topic: str, filters: SearchFilters | None = None, **intent: object) -> Counted:
        """What is counted of a topic."""
        about = matter(Intent("count", topic=topic, **intent))  # type: ignore[arg-type]
        return await count(
            about, filters or SearchFilters(), self.tenant, self.index, ENCODER, self.store, self.catalog, self.catalog,
            10, by_passages=not topic,
        )  # fmt: skip


@pytest.fixture(params=["fake", "lancedb", pytest.param("weaviate", marks=pytest.mark.weaviate)])
async def library(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[Library]:
    store: VectorStore
    if request.param == "weaviate":
        store = WeaviateStore(request.getfixturevalue("weaviate_url"))
    else:
        store = FakeVectors() if request.param == "fake" else LanceStore(tmp_path / "vectors")
    catalog = await new_catalog(tmp_path)
    made = Library(store, catalog)
    await store.prepare(made.index, ENCODER.dimensions)
    yield made
    await store.drop(made.index)
    await store.close()
    await catalog.close()


async def test_every_store_counts_the_same(library):
    one = await library.say("We shipped the remote controls.", "Nothing else, no budget.", collection="x")
    two = await library.say("Shipping a remote control takes a week.", speaker="Bob")
    three = await library.say("They ship; remote, and in control. Ship it.", "Control the remote ships, ships!")
    assert set((await library.count("ship")).tallies) == {one, two, three}
    shipped = await library.count("shipping remote control")
    assert {key: tally.mentions for key, tally in shipped.tallies.items()} == {one: 1, two: 1, three: 2}
    assert (shipped.census.count, shipped.exact) == (3, True)
    exact = await library.count("remote control", quoted=True)
    assert set(exact.tallies) == {two}
    assert set((await library.count("ship", SearchFilters(collection="x"))).tallies) == {one}
    assert set((await library.count("ship", SearchFilters(collections=("x",)))).tallies) == {one}
    assert set((await library.count("ship", SearchFilters(speaker="Bob"))).tallies) == {two}
    assert set((await library.count("ship", SearchFilters(recording_ids=(three,)))).tallies) == {three}
    assert (await library.count("ship", SearchFilters(recorded_to=datetime(2026, 4, 1, tzinfo=UTC)))).tallies == {}
    everybody = await library.count("")
    assert {who for tally in everybody.tallies.values() for who in tally.speakers} == {"Ada", "Bob"}
    await library.catalog.erase(library.tenant, one, TRACE)
    assert set((await library.count("ship")).tallies) == {two, three}
