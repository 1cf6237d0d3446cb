"""One contract for every vector store: the fake in memory, LanceDB in a folder, a Weaviate server."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lancedb
import pytest

from earshot.adapters.lance_table import WRITES_BEFORE_UPKEEP
from earshot.adapters.lancedb import LanceStore
from earshot.adapters.weaviate import WeaviateStore
from earshot.kernel import ids
from earshot.kernel.errors import Misconfigured, Unavailable
from earshot.kernel.ports import IndexedPassage, PassageSet, SearchFilters, SearchMode, VectorStore
from tests.fakes_vectors import FakeEncoder, FakeVectors
from tests.processes import free_ports

DIMENSIONS = 64
HOSTILE = [
    "it's",
    "a' OR '1'='1",
    "a\\' OR 1=1 --",
    'say "x"',
    "x'); DROP TABLE p; --",
    "%",
    "*",
    "{}",
    "日本\n語",
    "?",
]
ENCODER = FakeEncoder(DIMENSIONS)


@pytest.fixture(params=["fake", "lancedb", "weaviate"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    made: VectorStore
    if request.param == "fake":
        made = FakeVectors()
    elif request.param == "lancedb":
        made = LanceStore(tmp_path / "vectors")
    else:
        made = WeaviateStore(request.getfixturevalue("weaviate_url"))
    yield made
    await made.close()


@pytest.fixture(scope="module")
def index() -> str:
    """One index for the module; each test has a tenant of its own."""
    return f"Passages_t{uuid.uuid4().hex[:8]}_{DIMENSIONS}"


@pytest.fixture
async def tenant(store: VectorStore, index: str) -> str:
    await store.prepare(index, DIMENSIONS)
    return f"t-{uuid.uuid4().hex[:12]}"


async def passages(
    *texts: str, recording: str = "", revision: int = 1, segment: int = 0, **fields: object
) -> tuple[IndexedPassage, ...]:
    """Passages of one segment, embedded."""
    segment_id = ids.segment_id(recording, revision, segment)
    vectors = await ENCODER.encode_passages(texts)
    made = [
        IndexedPassage(
            id=ids.passage_id(segment_id, "fake", ordinal),
            recording_id=recording,
            revision=revision,
            segment_index=segment,
            ordinal=ordinal,
            start_ms=1000 * ordinal,
            end_ms=1000 * ordinal + 900,
            text=text,
            collection="default",
            language="en",
            speakers=(),
            recorded_at=None,
            degraded=False,
            vector=tuple(vector),
        )
        for ordinal, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    return tuple(replace(each, **fields) for each in made)  # type: ignore[arg-type]


class Index:
    """One tenant's view of a store."""

    def __init__(self, store: VectorStore, index: str, tenant: str) -> None:
        self.store, self.index, self.tenant = store, index, tenant

    async def put(self, *texts: str, recording: str, revision: int = 1, segment: int = 0, **fields: object) -> None:
        made = await passages(*texts, recording=recording, revision=revision, segment=segment, **fields)
        await self.store.replace(self.index, self.tenant, recording, revision, segment, made)

    async def find(
        self, text: str, mode: SearchMode = "hybrid", filters: SearchFilters | None = None, limit: int = 10
    ) -> list[str]:
        """The texts found, best first."""
        hits = await self.store.search(
            self.index,
            self.tenant,
            text=text,
            vector=None if mode == "keyword" else await ENCODER.encode_query(text),
            mode=mode,
            filters=filters or SearchFilters(),
            limit=limit,
        )
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        return [hit.passage.text for hit in hits]

    async def count(self, recording: str | None = None) -> int:
        return await self.store.count(self.index, self.tenant, recording)

    async def delete(self, recording: str, **which: int) -> None:
        await self.store.delete(self.index, self.tenant, recording, **which)


@pytest.fixture
def own(store: VectorStore, index: str, tenant: str) -> Index:
    return Index(store, index, tenant)


def new_recording() -> str:
    return ids.new_recording_id()


MODES: Sequence[SearchMode] = ("hybrid", "keyword", "vector")


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_written_is_found_at_once(own: Index, mode: SearchMode) -> None:
    """A passage is found by the next query, also after others were written, and comes before what fits less."""
    recording = new_recording()
    for segment, text in enumerate(["green apples grow here", "the moon has no air", "ask what your country can do"]):
        await own.put(text, recording=recording, segment=segment)
        assert (await own.find(text, mode))[0] == text
    assert (await own.find("your country", mode, limit=2))[0] == "ask what your country can do"


async def test_a_passage_comes_back_as_it_was_written(own: Index, store: VectorStore) -> None:
    """Every field but the vector survives, times to the microsecond."""
    at = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    recording = new_recording()
    (made,) = await passages(
        "so it is", recording=recording, revision=3, segment=7, collection="talks", language="de", speakers=("A", "B"),
        recorded_at=at, degraded=True,
    )  # fmt: skip
    await store.replace(own.index, own.tenant, recording, 3, 7, [made])
    (hit,) = await store.search(
        own.index, own.tenant, text="it is", vector=None, mode="keyword", filters=SearchFilters(), limit=5
    )
    assert hit.passage == replace(made, vector=())


async def test_writing_twice_is_writing_once(own: Index) -> None:
    recording = new_recording()
    for _ in range(2):
        await own.put("one thing", "another thing", recording=recording)
    assert await own.count() == 2


async def test_a_replacement_takes_what_was_there_at_its_revision_and_below(own: Index) -> None:
    """Fewer passages at the same revision, or a higher revision, leave none of those before; other segments stay."""
    recording = new_recording()
    await own.put("first part", "second part", "third part", recording=recording)
    await own.put("neighbour", recording=recording, segment=1)
    await own.put("only part", recording=recording)
    assert sorted(await own.find("part neighbour", "vector")) == ["neighbour", "only part"]
    await own.put("newer part", recording=recording, revision=2)
    assert sorted(await own.find("part neighbour", "vector")) == ["neighbour", "newer part"]


async def test_a_late_lower_revision_leaves_the_higher_one_alone(own: Index) -> None:
    recording = new_recording()
    await own.put("newer", recording=recording, revision=2)
    await own.put("older", recording=recording, revision=1)
    assert "newer" in await own.find("newer", "keyword")
    await own.put(recording=recording, revision=1)
    assert await own.find("newer older", "vector") == ["newer"]


async def test_no_passages_replace_some(own: Index) -> None:
    """A segment in which nothing is said any more has none; so has one that never had any."""
    recording = new_recording()
    await own.put(recording=recording)
    await own.put("was said", recording=recording)
    await own.put(recording=recording)
    assert await own.count() == 0


async def test_many_replacements_amount_to_one_after_another(own: Index, store: VectorStore) -> None:
    """Two sets of one segment in a batch: the later wins at or below its revision, the higher stays."""
    recording, other = new_recording(), new_recording()
    batch = [
        PassageSet(recording, 1, 0, await passages("said first", "and more", recording=recording)),
        PassageSet(recording, 1, 0, await passages("said again", recording=recording)),
        PassageSet(other, 2, 5, await passages("high", recording=other, revision=2, segment=5)),
        PassageSet(other, 1, 5, await passages("low", recording=other, revision=1, segment=5)),
        PassageSet(recording, 1, 1, await passages("next segment", recording=recording, segment=1)),
    ]
    await own.put("there before", "and this", "and that", recording=recording)
    await store.replace_many(own.index, own.tenant, batch)
    texts = await own.find("said high low next", "vector")
    assert sorted(texts) == ["high", "low", "next segment", "said again"]


async def test_many_segments_in_one_call(own: Index, store: VectorStore) -> None:
    recording = new_recording()
    batch = [
        PassageSet(recording, 1, at, await passages(f"words of {at}", recording=recording, segment=at))
        for at in range(150)
    ]
    for _ in range(2):
        await store.replace_many(own.index, own.tenant, batch)
    assert await own.count(recording) == 150


async def test_deletions_take_what_they_name_and_nothing_else(own: Index) -> None:
    """One segment of one revision; one revision; those up to one; a whole recording."""
    recording, other = new_recording(), new_recording()
    for revision in (3, 2, 1):
        for segment in (0, 1):
            await own.put(f"r{revision} s{segment}", recording=recording, revision=revision, segment=segment)
    await own.put("other", recording=other)
    await own.delete(recording, revision=2, segment_index=1)
    assert sorted(await own.find("r1", "vector")) == ["other", "r1 s0", "r1 s1", "r2 s0", "r3 s0", "r3 s1"]
    await own.delete(recording, revision=1)
    assert sorted(await own.find("r1", "vector")) == ["other", "r2 s0", "r3 s0", "r3 s1"]
    await own.delete(recording, up_to=2)
    assert sorted(await own.find("r1", "vector")) == ["other", "r3 s0", "r3 s1"]
    await own.delete(recording, segment_index=0)
    assert sorted(await own.find("r1", "vector")) == ["other", "r3 s1"]
    await own.delete(recording)
    await own.delete(recording)
    assert await own.find("r1", "vector") == ["other"]
    assert (await own.count(recording), await own.count(other), await own.count()) == (0, 1, 1)


async def test_tenants_see_only_their_own(store: VectorStore, index: str, tenant: str) -> None:
    """Not even tenants whose names differ by a mark, or that hold a recording of the same id."""
    recording = new_recording()
    names = [f"{tenant}-a", f"{tenant}_a", f"{tenant}-a-", f"{tenant}-a_b"]
    for name in names:
        await Index(store, index, name).put(f"secret of {name}", recording=recording)
    for name in names:
        own = Index(store, index, name)
        for mode in MODES:
            assert await own.find("secret", mode) == [f"secret of {name}"]
    await Index(store, index, names[0]).delete(recording)
    assert [await Index(store, index, name).count() for name in names] == [0, 1, 1, 1]


async def test_all_of_a_tenant_goes_and_nothing_of_another(store: VectorStore, index: str, tenant: str) -> None:
    names = [tenant, f"{tenant}-b"]
    for name in names:
        for number in range(3):
            await Index(store, index, name).put("it was said", recording=f"r{number}")
    await store.forget(index, tenant)
    await store.forget(index, tenant)
    assert [await store.count(index, name) for name in names] == [0, 3]
    assert await Index(store, index, tenant).find("it was said") == []
    await Index(store, index, tenant).put("a new beginning", recording="r9")
    assert await Index(store, index, tenant).find("beginning") == ["a new beginning"]
    await store.forget(index, f"{tenant}-never")
    await store.forget(f"Passages_n{uuid.uuid4().hex[:8]}_8", tenant)


async def test_where_nothing_was_written_nothing_is_found(store: VectorStore, index: str, tenant: str) -> None:
    """An unknown tenant or index is empty, and deleting there is no error."""
    for own in (Index(store, index, tenant), Index(store, f"{index}_never", tenant)):
        for mode in MODES:
            assert await own.find("anything", mode) == []
        assert await own.count() == 0
        assert await own.count(new_recording()) == 0
        await own.delete(new_recording())


async def test_filters_apply_before_ranking(own: Index) -> None:
    """A hit that a filter allows is found however many better ones it forbids."""
    wanted = new_recording()
    crowd = new_recording()
    for segment in range(30):
        await own.put("country country country", recording=crowd, segment=segment)
    await own.put("a country", recording=wanted, collection="talks", language="fr", speakers=("Ann",))
    for filters in (
        SearchFilters(recording_ids=(wanted, new_recording())),
        SearchFilters(collection="talks"),
        SearchFilters(collections=("talks", "none")),
        SearchFilters(collection="talks", collections=("talks",)),
        SearchFilters(language="fr"),
        SearchFilters(speaker="Ann"),
        SearchFilters(recording_ids=(wanted,), collection="talks", language="fr", speaker="Ann"),
    ):
        for mode in MODES:
            assert await own.find("country", mode, filters, limit=3) == ["a country"]
    for nothing in (
        SearchFilters(recording_ids=(crowd,), speaker="Ann"),
        SearchFilters(collections=("none",)),
        SearchFilters(collection="talks", collections=("default", "none")),
    ):
        assert await own.find("country", "hybrid", nothing) == []


async def test_times_bound_inclusively_and_exclude_the_unknown(own: Index) -> None:
    days = {day: datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2, 3)}
    for day, at in days.items():
        await own.put(f"day {day}", recording=new_recording(), recorded_at=at)
    await own.put("day unknown", recording=new_recording())
    between = SearchFilters(recorded_from=days[2], recorded_to=days[2])
    assert await own.find("day", "keyword", between) == ["day 2"]
    assert sorted(await own.find("day", "vector", SearchFilters(recorded_from=days[2]))) == ["day 2", "day 3"]
    assert sorted(await own.find("day", "hybrid", SearchFilters(recorded_to=days[2]))) == ["day 1", "day 2"]


@pytest.mark.parametrize("value", HOSTILE)
async def test_filter_values_are_values_whatever_is_in_them(own: Index, value: str) -> None:
    """Quotes, statements and wildcards match themselves and nothing else."""
    await own.put("plain words", recording=new_recording(), collection="a", speakers=("a",), language="a")
    recording = new_recording()
    await own.put("hostile words", recording=recording, collection=value, speakers=(value, "b"), language=value)
    for filters in (
        SearchFilters(collection=value),
        SearchFilters(collections=(value, "none")),
        SearchFilters(speaker=value),
        SearchFilters(language=value),
    ):
        assert await own.find("words", "keyword", filters) == ["hostile words"]
    assert await own.find("words", "vector", SearchFilters(recording_ids=(value,))) == []
    await own.delete(value)
    assert await own.count(value) == 0
    assert await own.count() == 2


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_speaker_is_found_by_a_name_given_in_some_recordings(own: Index, value: str) -> None:
    """A label counts only in the recordings where it was given the name; the name itself counts as a label."""
    first, second, third = new_recording(), new_recording(), new_recording()
    await own.put("first words", recording=first, speakers=("S0", "S1"))
    await own.put("second words", recording=second, speakers=("S0",))
    await own.put("third words", recording=third, speakers=(value,))
    await own.put("nobody's words", recording=third, segment=1)
    called = ((first, "S1"), (second, "S1"), (second, value))
    for mode in MODES:
        assert sorted(await own.find("words", mode, SearchFilters(speaker=value))) == ["third words"]
        found = await own.find("words", mode, SearchFilters(speaker=value, called=called))
        assert sorted(found) == ["first words", "third words"]
        assert await own.find("words", mode, SearchFilters(speaker="S1", called=((third, "S0"),))) == ["first words"]


async def test_who_speaks_is_said_later_and_the_rest_of_a_passage_stays(own: Index) -> None:
    """Every revision's passages are read; one that is gone is not brought back; a neighbour's stay as they are."""
    recording, other = new_recording(), new_recording()
    await own.put("one apple", "two pears", recording=recording, segment=3)
    await own.put("three plums", recording=recording, revision=2, segment=4, speakers=("B",))
    await own.put("one apple", recording=other)
    held = await own.store.passages_of(own.index, own.tenant, recording)
    assert {(each.text, each.revision, each.segment_index, each.start_ms, each.speakers) for each in held} == {
        ("one apple", 1, 3, 0, ()),
        ("two pears", 1, 3, 1000, ()),
        ("three plums", 2, 4, 0, ("B",)),
    }
    await own.delete(recording, segment_index=4)
    said: dict[str, tuple[str, ...]] = {each.id: ("A", 'it\'s "B"') for each in held if each.text != "two pears"}
    await own.store.relabel(own.index, own.tenant, said)
    await own.store.relabel(own.index, own.tenant, {})
    now = await own.store.passages_of(own.index, own.tenant, recording)
    assert {each.text: each.speakers for each in now} == {"one apple": ("A", 'it\'s "B"'), "two pears": ()}
    assert await own.find("apple", "hybrid", SearchFilters(speaker='it\'s "B"')) == ["one apple"]
    assert await own.find("one apple", "vector", SearchFilters(speaker="A")) == ["one apple"]
    assert await own.find("apple", "keyword", SearchFilters(recording_ids=(other,), speaker="A")) == []
    assert await own.store.passages_of(own.index, own.tenant, new_recording()) == []
    assert await own.store.passages_of(own.index, f"{own.tenant}-none", recording) == []
    await own.store.relabel(own.index, f"{own.tenant}-none", said)


@pytest.mark.parametrize(
    "text", [*HOSTILE, "", "   ", "!!!", 'words AND (x OR "', "words^2~", "+words -x:y", "\\", "x" * 2000]
)
async def test_a_query_has_no_syntax(own: Index, text: str) -> None:
    """Any text is a query: it may find nothing, and it never fails."""
    await own.put("plain words", recording=new_recording())
    for mode in MODES:
        assert set(await own.find(text, mode)) <= {"plain words"}


async def test_hybrid_prefers_what_both_rankings_know(own: Index) -> None:
    """Words that were misheard do not hide a passage, as long as some of it was heard."""
    heard = "and so my fellow americas ass not watch your country can do for you"
    await own.put(heard, recording=new_recording())
    await own.put("my fellow the country road takes me home", recording=new_recording())
    await own.put("what can you do", recording=new_recording())
    assert (await own.find("ask not what your country can do for you"))[0] == heard


async def test_an_index_is_listed_and_keeps_its_dimensions(store: VectorStore, index: str, tenant: str) -> None:
    """Preparing again changes nothing; other dimensions under the same name are refused."""
    await store.prepare(index, DIMENSIONS)
    assert index in await store.indexes()
    await store.ping()
    if isinstance(store, LanceStore):
        with pytest.raises(Misconfigured, match="dimensions"):
            await store.prepare(index, DIMENSIONS + 1)


async def test_a_second_opening_finds_what_the_first_wrote(tmp_path: Path, index: str) -> None:
    """As the query service's process sees what the indexer's writes, at once, also what came after it had looked."""
    writer, reader = LanceStore(tmp_path), LanceStore(tmp_path)
    await writer.prepare(index, DIMENSIONS)
    own, seen = Index(writer, index, "default"), Index(reader, index, "default")
    assert await seen.find("moon") == []
    for segment in range(3):
        await own.put(f"moon {segment}", recording=new_recording())
        assert await seen.count() == segment + 1
        assert f"moon {segment}" in await seen.find(f"moon {segment}", "keyword")
    await reader.close()
    await writer.close()


async def test_upkeep_changes_nothing_that_is_found(tmp_path: Path, index: str) -> None:
    """After more writes than start it, everything is found, in few files instead of one for each write."""
    store = LanceStore(tmp_path)
    await store.prepare(index, DIMENSIONS)
    own = Index(store, index, "default")
    for segment in range(WRITES_BEFORE_UPKEEP + 5):
        await own.put(f"word{segment} said", recording=new_recording(), segment=segment)
    await store.close()
    again = Index(LanceStore(tmp_path), index, "default")
    assert await again.count() == WRITES_BEFORE_UPKEEP + 5
    for segment in (0, WRITES_BEFORE_UPKEEP + 4):
        assert (await again.find(f"word{segment}", "keyword")) == [f"word{segment} said"]
    await again.store.close()
    table = await (await lancedb.connect_async(tmp_path)).open_table(f"{index}.default")
    assert (await table.stats())["fragment_stats"]["num_fragments"] < 10


async def test_two_writers_lose_nothing(tmp_path: Path, index: str) -> None:
    """As an indexer and an eraser, or two indexers, on one folder: each write is there, each deletion is done."""
    stores = [LanceStore(tmp_path), LanceStore(tmp_path)]
    await stores[0].prepare(index, DIMENSIONS)
    owners = [Index(store, index, "default") for store in stores]
    gone, kept = new_recording(), new_recording()
    await owners[0].put(*(f"gone {at}" for at in range(5)), recording=gone, segment=99)

    async def write(own: Index, segments: range) -> None:
        for segment in segments:
            await own.put(f"kept {segment}", recording=kept, segment=segment)

    await asyncio.gather(write(owners[0], range(15)), write(owners[1], range(15, 30)), owners[1].delete(gone))
    assert [await own.count(kept) for own in owners] == [30, 30]
    assert await owners[0].count(gone) == 0
    for store in stores:
        await store.close()


async def test_a_store_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    """A server that is not there, a folder that is a file; a key in the URL is not repeated."""
    (tmp_path / "file").write_bytes(b"")
    port, grpc = free_ports(2)
    for store in (LanceStore(tmp_path / "file"), WeaviateStore(f"weaviate://:secret@127.0.0.1:{port}?grpc={grpc}")):
        for call in (store.ping(), store.count("Passages_x_1", "t"), store.prepare("Passages_x_1", 1)):
            with pytest.raises(Unavailable) as caught:
                await call
            assert caught.value.dependency == "vectors"
            assert "secret" not in str(caught.value)
        await store.close()


def test_a_url_without_ports_is_refused() -> None:
    for url in ("weaviate://host:http", "weaviate://host?grpc=none", "weaviate://host:1?grpc=1"):
        with pytest.raises(Misconfigured, match="ports"):
            WeaviateStore(url)


def test_the_encoder_of_these_tests_makes_unit_vectors() -> None:
    assert math.isclose(sum(number**2 for number in ENCODER._encode("a b b")), 1.0)
