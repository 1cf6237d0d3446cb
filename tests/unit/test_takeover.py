"""One index takes over from another: when the alias moves, what the old group still takes in, who may stop when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from earshot.adapters.catalog import Catalog
from earshot.embedder.app import to_build
from earshot.embedder.takeover import SHORT_ROUND_S, Course, Takeover, has_left
from earshot.kernel import ids
from earshot.kernel.ports.indexes import NewIndex, serving
from earshot.kernel.settings import Settings
from tests.fakes_catalog import new_catalog
from tests.fakes_log import FakeLog
from tests.fakes_vectors import FakeVectors

OLD, NEW = (NewIndex(ids.index_name(name, 8), name, name, 8) for name in ("old", "new"))


class Lags(FakeLog):
    """A log of one partition for each topic, of which only ends and commits matter."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_of = {"p-audio.transcripts": 10, "p-audio.embeddings": 20}
        self.done: dict[tuple[str, str], int] = {}

    async def lag(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
        return {(topic, 0): (self.done.get((group, topic), 0), self.ends_of[topic]) for topic in topics}

    def reach(self, group: str, topic: str, offset: int | None = None) -> None:
        """A group commits up to an offset; without one, up to the end."""
        full = f"p-{topic}"
        self.done[f"p-{group}", full] = self.ends_of[full] if offset is None else offset

    def catch_up(self) -> None:
        """The new group and the indexer are at the ends."""
        self.reach("embedder-2", "audio.transcripts")
        self.reach("indexer", "audio.embeddings")


class Bench:
    """A takeover on a real catalog, with a clock that is set by hand."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.log = Lags()
        self.vectors = FakeVectors()
        self.course = Course(self.log, Settings(_env_file=None, topic_prefix="p-"))
        self.now = 0.0
        self.start_again()

    def start_again(self) -> None:
        """Another process does the work from here on."""
        self.takeover = Takeover(NEW.name, self.catalog, self.course, self.vectors.serve, lambda: self.now)

    async def serves(self) -> str:
        found = serving(await self.catalog.indexes())
        assert found is not None
        return found.encoder


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    catalog = await new_catalog(tmp_path)
    await catalog.first_index(OLD)
    await catalog.build_index(NEW, {0: 10})
    yield Bench(catalog)
    await catalog.close()


async def test_the_alias_waits_for_the_group_and_then_for_the_indexer(bench: Bench) -> None:
    """What the group has published by the time it is at the end must be in the store as well."""
    assert not await bench.takeover.step()
    bench.log.reach("embedder-2", "audio.transcripts")
    bench.log.ends_of["p-audio.embeddings"] = 30
    bench.log.reach("indexer", "audio.embeddings", 29)
    assert not await bench.takeover.step()
    assert await bench.serves() == "old"
    bench.log.reach("indexer", "audio.embeddings", 30)
    assert not await bench.takeover.step()
    assert await bench.serves() == "new"


async def test_a_long_round_is_followed_by_another(bench: Bench) -> None:
    """What came while it took long is caught up with too, before the alias moves."""
    assert not await bench.takeover.step()
    bench.now = SHORT_ROUND_S
    bench.log.catch_up()
    assert not await bench.takeover.step()
    bench.log.ends_of["p-audio.transcripts"] = 15
    assert not await bench.takeover.step()
    assert await bench.serves() == "old"
    bench.log.catch_up()
    assert not await bench.takeover.step()
    assert await bench.serves() == "new"


async def test_the_old_group_takes_in_what_came_until_the_alias_moved(bench: Bench) -> None:
    """The reindexer stays until it has, the standing embedder goes only then; both find the end after a restart."""
    bench.log.catch_up()
    [old, _] = await bench.catalog.indexes()
    assert not await has_left(old, bench.catalog, bench.course)
    assert not await bench.takeover.step()
    assert bench.vectors.alias == ""
    bench.start_again()
    bench.log.ends_of["p-audio.transcripts"] = 12
    assert not await bench.takeover.step()
    assert bench.vectors.alias == NEW.name
    bench.log.ends_of["p-audio.transcripts"] = 99
    bench.log.reach("embedder", "audio.transcripts", 11)
    assert not await has_left(old, bench.catalog, bench.course)
    assert not await bench.takeover.step()
    bench.log.reach("embedder", "audio.transcripts", 12)
    assert await has_left(old, bench.catalog, bench.course)
    assert [index.state for index in await bench.catalog.indexes()] == ["kept", "serving"]
    assert await bench.takeover.step()
    assert await has_left(old, bench.catalog, bench.course)


async def test_what_is_given_up_ends_the_reindexer_and_nothing_else(bench: Bench) -> None:
    [old, new] = await bench.catalog.indexes()
    assert to_build([old, new]) == new
    await bench.catalog.change_index(NEW.name, ["building"], "dropped")
    assert await bench.takeover.step()
    assert await bench.serves() == "old"
    assert not await has_left(old, bench.catalog, bench.course)
    assert to_build(await bench.catalog.indexes()) is None
